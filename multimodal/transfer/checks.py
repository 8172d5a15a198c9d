"""Checks of the arrays that methods take. Never imports torch."""

import numpy as np


def check_features(features: np.ndarray, name: str = "features") -> np.ndarray:
    """The features as float64 [n d], or a ValueError if they are not finite rows, at least one."""
    found = np.asarray(features, dtype=np.float64)
    if found.ndim != 2 or len(found) == 0:
        raise ValueError(f"{name} have the shape {list(found.shape)}; give one row of features per record, [n d]")
    broken = int((~np.isfinite(found)).any(axis=1).sum())
    if broken:
        raise ValueError(f"{name} of {broken} of {len(found)} records are not finite; leave these records out")
    return found


def check_pair(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of two domains as float64 [n d] and [m d], or a ValueError if their dimensions differ."""
    source, target = check_features(source, "source features"), check_features(target, "target features")
    if source.shape[1] != target.shape[1]:
        raise ValueError(
            f"source features have dimension {source.shape[1]} and target features {target.shape[1]}; "
            "take both from the same encoder"
        )
    return source, target


def check_labels(labels: np.ndarray, n: int, num_classes: int | None = None) -> tuple[np.ndarray, int]:
    """The labels as int64 [n], and the number of classes (None: one more than the highest label)."""
    found = np.asarray(labels)
    if found.shape != (n,) or n == 0:
        raise ValueError(f"there are labels of shape {list(found.shape)} for {n} records; give one per record, [n]")
    if not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"labels are {found.dtype}; give class indices, for example from np.unique(..., True)[1]")
    highest = int(found.max())
    count = highest + 1 if num_classes is None else num_classes
    if int(found.min()) < 0 or highest >= count:
        raise ValueError(f"labels go from {found.min()} to {highest}; with {count} classes give 0 to {count - 1}")
    return found.astype(np.int64), count


def check_row_weights(weights: np.ndarray | None, n: int) -> np.ndarray:
    """One weight per record with mean 1, float64 [n]; None: equal weights."""
    found = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    if found.shape != (n,) or not np.isfinite(found).all() or found.min() < 0 or found.sum() == 0:
        raise ValueError(
            f"row weights of shape {list(found.shape)} do not fit {n} records; give one finite weight per record, "
            "none negative and not all zero"
        )
    return found * (n / found.sum())
