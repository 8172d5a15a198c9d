"""Scores of a model for the target without target labels; none is reliable. Never imports torch."""

from dataclasses import dataclass

import numpy as np

from multimodal.metrics.intervals import effective_size
from multimodal.transfer.checks import check_features, check_row_weights

WARNING = "no target labels: selection unreliable"


@dataclass(frozen=True)
class UnlabelledScore:
    """Score without target labels, lower is better; to be shown with its warning."""

    value: float
    error: float
    """Standard error."""
    effective_size: float
    """Effective number of weighted records."""
    warning: str = WARNING


def importance_weighted_risk(losses: np.ndarray, weights: np.ndarray) -> UnlabelledScore:
    """Mean loss of source validation records, weighted to look like the target.

    Sugiyama et al. (2007, https://jmlr.org/papers/v8/sugiyama07a.html). The plain mean of source validation is often
    as good a choice (https://arxiv.org/abs/2208.07360).

    When not to use: where few weights dominate (see ``effective_size``), or the labels of like records differ.

    Args:
        losses: of held-out source records, [n].
        weights: density ratios of these, [n].

    Raises:
        ValueError: if the losses are not one finite number per record.
    """
    losses = np.asarray(losses, dtype=np.float64)
    if losses.ndim != 1 or len(losses) < 2 or not np.isfinite(losses).all():
        raise ValueError(
            f"losses have the shape {list(losses.shape)}; give a finite one for each of two records or more"
        )
    factors = check_row_weights(weights, len(losses))
    value = float((factors * losses).mean())
    error = float(np.std(factors * (losses - value), ddof=1)) / np.sqrt(len(losses))
    return UnlabelledScore(value, error, effective_size(factors))


def target_entropy(probabilities: np.ndarray) -> UnlabelledScore:
    """Mean entropy of the predictions for target records, in nats.

    When not to use: alone. A model that is certain of one class for every record has entropy zero.

    Args:
        probabilities: [n c].

    Raises:
        ValueError: if a row is no distribution.
    """
    found = check_features(probabilities, "probabilities")
    if found.min() < 0 or np.abs(found.sum(axis=1) - 1.0).max() > 1e-4:
        raise ValueError("rows of probabilities must be at least 0 and sum to 1; apply softmax to logits")
    entropies = -(found * np.log(np.where(found > 0, found, 1.0))).sum(axis=1)
    spread = float(entropies.std(ddof=1)) if len(found) > 1 else float("nan")
    return UnlabelledScore(float(entropies.mean()), spread / np.sqrt(len(found)), float(len(found)))
