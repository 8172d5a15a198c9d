"""LEEP: how well a source classifier's answers, mixed, foretell the target labels. Never imports torch."""

import numpy as np

from multimodal.transfer.checks import check_features, check_labels


def leep(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean log likelihood of the labels under sum_z P(y|z) p(z|x); at most zero, higher is better.

    Nguyen et al. (2020, https://arxiv.org/abs/2002.12462). A source class that gets no mass takes no part.

    When not to use: without a source head, or with one whose classes have nothing to do with the target's.

    Args:
        probabilities: of the source classes, [n z], rows that sum to one.
        labels: target class of each record, int [n].

    >>> round(leep(np.full((4, 3), 1 / 3), np.array([0, 0, 1, 1])), 4)  # answers that say nothing: -log 2
    -0.6931

    Raises:
        ValueError: if a row is no distribution.
    """
    found = check_features(probabilities, "source probabilities")
    labels, count = check_labels(labels, len(found))
    if found.min() < 0 or np.abs(found.sum(axis=1) - 1.0).max() > 1e-4:  # float32 sums of 1,000 classes
        raise ValueError("rows of source probabilities must be at least 0 and sum to 1; apply softmax to logits")
    joint = np.eye(count)[labels].T @ found / len(found)  # [y z]
    mass = joint.sum(axis=0)
    given = np.divide(joint, mass, out=np.zeros_like(joint), where=mass > 0)
    likelihood = (found @ given.T)[np.arange(len(labels)), labels]
    return float(np.log(likelihood).mean())
