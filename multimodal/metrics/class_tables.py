"""Predictions of a model label by label: support, precision, recall, F1, and which label is taken for which.

Never imports torch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


def classification_table(targets: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """``classes``, as ``label_rows`` gives them, and ``confusion``: the cells of the confusion matrix that are not 0.

    Args:
        targets: index of each record's label, int [n].
        predicted: the one that was answered, int [n].

    >>> classification_table(np.array([0, 0, 1]), np.array([0, 1, 1]), ("apple", "pear"))["confusion"]
    [{'label': 'apple', 'predicted': 'apple', 'n': 1}, {'label': 'apple', 'predicted': 'pear', 'n': 1}, \
{'label': 'pear', 'predicted': 'pear', 'n': 1}]
    """
    size = len(labels)
    pairs, counts = np.unique(targets.astype(np.int64) * size + predicted, return_counts=True)
    cells = [(int(pair) // size, int(pair) % size, int(count)) for pair, count in zip(pairs, counts, strict=True)]
    hits = np.bincount(targets[targets == predicted].astype(np.int64), minlength=size)
    support, answered = (np.bincount(values.astype(np.int64), minlength=size) for values in (targets, predicted))
    return {
        "classes": label_rows(labels, hits, support, answered),
        "confusion": [{"label": labels[true], "predicted": labels[given], "n": n} for true, given, n in cells],
    }


def label_rows(
    labels: Sequence[str], hits: np.ndarray, support: np.ndarray, answered: np.ndarray
) -> list[dict[str, Any]]:
    """One row per label: ``n`` records that have it, how many were given it, precision, recall and F1.

    What the records do not define is None: the recall of a label that none has, the precision of one that none was
    given.

    Args:
        hits: records that have the label and were given it, int [c].
        support: records that have it, int [c].
        answered: records that were given it, int [c].

    >>> label_rows(["apple"], np.array([3]), np.array([4]), np.array([6]))
    [{'label': 'apple', 'n': 4, 'predicted': 6, 'precision': 0.5, 'recall': 0.75, 'f1': 0.6}]
    """

    def share(above: int, below: int) -> float | None:
        return above / below if below else None

    return [
        {
            "label": label,
            "n": n,
            "predicted": given,
            "precision": share(hit, given),
            "recall": share(hit, n),
            "f1": share(2 * hit, n + given),
        }
        for label, hit, n, given in zip(labels, hits.tolist(), support.tolist(), answered.tolist(), strict=True)
    ]
