"""Repeated stratified folds that keep groups together. Never imports torch."""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from multimodal.transfer.checks import check_labels


class EmptyFoldError(ValueError):
    """Groups that are too large for so many folds."""


class Fold(NamedTuple):
    """Training rows and held-out rows."""

    repeat: int
    train: np.ndarray
    test: np.ndarray


def repeated_folds(
    labels: np.ndarray, *, folds: int = 5, repeats: int = 1, groups: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Fold of each record in each repeat, int [r n], from 0 to folds - 1.

    Folds have equal class shares; records of one group (a product, a photo session, copies of one
    image) share a fold, or the held-out score is fiction. A class with fewer groups than folds is missing from some
    of the training parts; that affects every arm.

    Args:
        labels: class of each record, int [n].
        groups: what belongs together, [n]; None takes each record by itself.

    >>> repeated_folds(np.array([0, 0, 1, 1]), folds=2).shape
    (1, 4)

    Raises:
        ValueError: if no class has a group for every fold.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labels, _ = check_labels(labels, len(labels))
    if folds < 2 or repeats < 1:
        raise ValueError(f"folds is {folds} and repeats {repeats}; give at least 2 folds and 1 repeat")
    if groups is not None and len(groups) != len(labels):
        raise ValueError(f"there are {len(groups)} groups for {len(labels)} records; give one per record")
    most = most_folds(labels, groups)
    if most < folds:
        raise ValueError(
            f"no class has more than {most} groups of records, too few for {folds} folds; "
            f"lower folds to {max(2, most)} or label more records"
        )
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    parts = np.empty((repeats, len(labels)), dtype=np.int64)
    for repeat in range(repeats):
        splitter = kind(folds, shuffle=True, random_state=1000 * seed + repeat)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class")  # the docstring says so
            for index, (_, test) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
                parts[repeat, test] = index
        if len(np.unique(parts[repeat])) < folds:
            raise EmptyFoldError(f"a few large groups leave some of {folds} folds empty; lower folds")
    return parts


def most_repeated_folds(
    labels: np.ndarray, *, folds: int, repeats: int, groups: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Result of ``repeated_folds`` with as many folds, up to ``folds``, as labels and groups allow.

    >>> most_repeated_folds(np.array([0, 0, 0, 1]), folds=5, repeats=1).max() + 1
    np.int64(3)

    Raises:
        ValueError: if they do not allow two.
    """
    for fewer in range(min(folds, most_folds(labels, groups)), 2, -1):
        try:
            return repeated_folds(labels, folds=fewer, repeats=repeats, groups=groups, seed=seed)
        except EmptyFoldError:
            continue  # of large groups, fewer folds may still be filled
    return repeated_folds(labels, folds=2, repeats=repeats, groups=groups, seed=seed)


def most_folds(labels: np.ndarray, groups: np.ndarray | None = None) -> int:
    """Largest possible number of folds: the groups of the class that has most of them.

    >>> most_folds(np.array([0, 0, 0, 1])), most_folds(np.array([0, 0, 0, 1]), np.array([7, 7, 8, 9]))
    (3, 2)
    """
    if groups is None:
        return int(np.bincount(labels).max())
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    pairs = np.unique(np.stack([np.asarray(labels), index]), axis=1)
    return int(np.bincount(pairs[0]).max())


def each_fold(parts: np.ndarray) -> Iterator[Fold]:
    """Every fold of every repeat, in order.

    >>> [fold.test.tolist() for fold in each_fold(np.array([[0, 1, 0]]))]
    [[0, 2], [1]]
    """
    for repeat, part in enumerate(parts):
        for index in range(int(part.max()) + 1):
            yield Fold(repeat, np.flatnonzero(part != index), np.flatnonzero(part == index))
