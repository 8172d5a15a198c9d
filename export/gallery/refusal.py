"""Rejection of records of no enrolled product: the threshold, and its quality. Never imports torch."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from multimodal.metrics.ranking import macro_auc

Unknowns = Literal["records", "products left out"]


@dataclass(frozen=True)
class Refusal:
    """Smallest accepted similarity, and its quality on the records that it was chosen by."""

    threshold: float
    """Of the nearest product's similarity; a record below it is rejected."""
    accept: float
    """Share of the known records that it was to accept."""
    known: int
    """Number of records of enrolled products."""
    unknown: int
    """Number of records that should be rejected."""
    unknowns: Unknowns
    """records: of products that are not enrolled. products left out: the known ones, their own product hidden."""
    auroc: float
    """Probability that a known record is more similar to its nearest product than an unknown one; ties count half."""
    accepted: float
    """Share of the known records that it accepts."""
    false_accepted: float
    """Share of the unknown records that it accepts: at ``accept`` = .95 this is the FPR at 95 % TPR."""


def choose_refusal(known: np.ndarray, unknown: np.ndarray, *, accept: float, unknowns: Unknowns) -> Refusal:
    """Highest threshold that accepts this share of the known records.

    Unknown records, which cannot be foreseen, only measure it.

    When not to use: with some 20 known records or fewer, where the lowest one or two decide.

    Args:
        known, unknown: similarity of each record to its nearest product, [n] and [m].
        accept: above 0, at most 1.

    >>> refusal = choose_refusal(
    ...     np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.75, 0.2]), accept=0.75, unknowns="records"
    ... )
    >>> refusal.threshold, refusal.accepted, refusal.false_accepted, refusal.auroc
    (0.7, 0.75, 0.5, 0.75)

    Raises:
        ValueError: if ``accept`` is out of range, or there are no records of a kind.
    """
    if not 0 < accept <= 1:
        raise ValueError(f"accept is {accept}; give a share above 0 and at most 1, such as 0.95")
    for name, scores in (("known", known), ("unknown", unknown)):
        if not len(scores):
            raise ValueError(
                f"there are no {name} records to set a threshold by; give records of products that are enrolled, with "
                "other photos than those, and enrol at least two products"
            )
    refused = math.floor((1 - accept) * len(known) + 1e-9)  # 1 - .95 is a little more than .05
    threshold = float(np.sort(known)[refused])
    scores = np.concatenate([known, unknown])[:, None]
    found = macro_auc(scores, np.arange(len(scores))[:, None] < len(known))
    assert found is not None  # there are records of both kinds
    return Refusal(
        threshold=threshold,
        accept=accept,
        known=len(known),
        unknown=len(unknown),
        unknowns=unknowns,
        auroc=found.value,
        accepted=float((known >= threshold).mean()),
        false_accepted=float((unknown >= threshold).mean()),
    )
