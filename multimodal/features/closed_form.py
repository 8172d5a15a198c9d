"""Computes the heads of a job that are not trained."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from encoders.base import evaluating
from fusion import ConcatFusion
from multimodal.config import ConfigError, errors_of
from multimodal.data.dataset import RecordDataset, SampleDataset
from multimodal.features.neighbours_head import NeighboursHead
from multimodal.features.vectors import (
    TableVectors,
    columns_of,
    fused_vectors,
    mapped_vectors,
    read_vectors,
    set_missing_to_mean,
)
from multimodal.model import MultimodalModel
from multimodal.model.heads import ClassificationHead, Head
from multimodal.records import RecordError
from multimodal.transfer.folds import most_folds
from multimodal.transfer.maps.affine import AffineMap
from multimodal.transfer.plan import Phase, parameter_names
from multimodal.transfer.probes.logistic import LinearClassifier, fit_logistic
from multimodal.transfer.probes.neighbours import fit_nearest_mean, fit_soft_neighbours
from multimodal.transfer.probes.svm import fit_svm

logger = logging.getLogger(__name__)

FOLDS = 5
SVM_COST = 0.1


@dataclass(frozen=True)
class LabelledRows:
    """Labelled rows that one head is computed from."""

    features: np.ndarray
    """[n f], of the parts of its inputs."""
    classes: np.ndarray
    """Int [n]."""
    groups: np.ndarray
    """Int [n]: rows of the table; views of one record are one group."""
    weights: np.ndarray
    """[n]; the views of a record of weight 1 sum to 1 (times the class's weight)."""
    num_classes: int

    @property
    def records(self) -> int:
        """Number of records."""
        return len(np.unique(self.groups))

    @property
    def folds(self) -> int:
        """Number of folds that can be made."""
        return min(FOLDS, most_folds(self.classes, self.groups)) if len(self.classes) else 0


def fit_heads(
    kinds: Mapping[str, str],
    model: MultimodalModel,
    data: SampleDataset,
    *,
    views: int = 1,
    seed: int = 0,
    on_error: Literal["raise", "skip"] = "raise",
) -> dict[int, RecordError]:
    """Computes every head in closed form, and the tokens that stand for missing values of the inputs that they read.

    Records without a label, or without any input of the task, do not count for it.

    Args:
        kinds: task -> its head, of ``COMPUTED_HEADS``.
        data: the training records, with kept tokens.
        views: of each record.
        seed: of the folds.

    Returns:
        The rows that cannot be read, and why.

    Raises:
        ConfigError: if a task has too few records.
        RecordError: for the first row that cannot be read, with ``on_error`` "raise".
    """
    if not kinds:
        return {}
    assert isinstance(data, RecordDataset)  # checked with the config: of one table
    vectors = mapped_vectors(model, read_vectors(data, _inputs(model, kinds), views=views))
    if vectors.errors and on_error == "raise":
        raise vectors.errors[min(vectors.errors)]
    assert isinstance(model.fusion, ConcatFusion)  # checked with the config
    with evaluating(model):
        set_missing_to_mean(model.fusion, vectors)
        for name, kind in kinds.items():
            inputs = _inputs(model, [name])
            labelled = _labelled(name, model, data, vectors, inputs)
            if labelled.folds < 2:
                raise ConfigError(
                    f"tasks.{name}.head is {kind}, but no class has two records that can be used, so "
                    f"that none can be held out; label more records, or set tasks.{name}.head: linear"
                )
            with errors_of(f"tasks.{name}.head is {kind}: "):
                chosen = _fit(kind, model.head(name), labelled, columns_of(model.fusion.in_dims, inputs), seed)
            logger.info(f"{name}: {kind} head of {labelled.records} records{chosen}")
    return vectors.errors


def without_closed_form(tasks: Collection[str], model: MultimodalModel, phases: Sequence[Phase]) -> list[Phase]:
    """Phases without the heads of these tasks, and without the missing tokens that they were computed with."""
    names, fixed = parameter_names(model), set[str]()
    for name in tasks:
        fixed |= {names[id(parameter)] for parameter in model.head(name).parameters()}
    for name in _inputs(model, tasks):
        fixed.add(names[id(model.fusion.missing[name])])
    left = []
    for phase in phases:
        groups = [replace(group, params=tuple(p for p in group.params if p not in fixed)) for group in phase.groups]
        left.append(replace(phase, groups=tuple(group for group in groups if group.params)))
    return [phase for phase in left if phase.groups]


def _inputs(model: MultimodalModel, tasks: Iterable[str]) -> list[str]:
    """Inputs that one of the tasks may use, in config order."""
    read = frozenset().union(*(model.reads[name] for name in tasks))
    return [name for name in model.input_names if name in read]


def _labelled(
    name: str, model: MultimodalModel, data: RecordDataset, vectors: TableVectors, inputs: Sequence[str]
) -> LabelledRows:
    head = model.head(name)
    cells = {int(row): data.targets[name].read(data.records[int(row)]) for row in np.unique(vectors.rows)}
    known = np.array([cells[int(row)] is not None for row in vectors.rows], dtype=bool)
    kept = np.flatnonzero(known & np.any([vectors.present[entry] for entry in inputs], axis=0))
    part = vectors.subset(kept)
    classes = np.array([cells[int(row)] for row in part.rows], dtype=np.int64)
    weights = data.weights[part.rows]
    if isinstance(head, ClassificationHead):
        weights = weights * head.class_weights.cpu().numpy()[classes]
    if len(kept) and weights.sum() > 0:
        weights = weights * (len(np.unique(part.rows)) / weights.sum())  # copies of a record count as it does once
    fused = fused_vectors(model, part, inputs)[:, columns_of(model.fusion.in_dims, inputs)]
    return LabelledRows(fused.astype(np.float64), classes, part.rows, weights, head.num_outputs)


def _fit(kind: str, head: Head, labelled: LabelledRows, columns: np.ndarray, seed: int) -> str:
    """Fills the head of a task; describes how it was chosen."""
    given: dict[str, Any] = {"num_classes": labelled.num_classes, "row_weights": labelled.weights}
    given |= {"groups": labelled.groups, "seed": seed}
    features, classes = labelled.features, labelled.classes
    if isinstance(head, NeighboursHead):
        probe = fit_soft_neighbours(features, classes, **given)
        head.fill(probe, columns)
        return f": temperature {probe.temperature:g}, held-out log likelihood {probe.scores[probe.temperature]:.4f}"
    assert isinstance(head, ClassificationHead)
    if kind == "softmax":
        fitted = fit_logistic(features, classes, folds=labelled.folds, **given)
        _fill(head, fitted.classifier, columns)
        score = f"held-out log likelihood {fitted.scores[fitted.l2]:.4f}"
        return f": l2 {fitted.l2:g} of {len(fitted.scores)} by {labelled.folds} folds, {score}"
    if kind == "svm":
        _fill(head, fit_svm(features, classes, cost=SVM_COST, folds=labelled.folds, **given), columns)
        return f": cost {SVM_COST:g}, margins calibrated on {labelled.folds} folds"
    _fill(head, _centred_means(labelled), columns)
    return ""


def _centred_means(labelled: LabelledRows) -> LinearClassifier:
    """Cosine to the class means, the mean of all records taken away first.

    SimpleShot (Wang et al., 2019, https://arxiv.org/abs/1911.04623).
    """
    features, weights = labelled.features, labelled.weights
    centre = weights @ features / weights.sum()
    means = fit_nearest_mean(
        features - centre, labelled.classes, num_classes=labelled.num_classes, metric="cosine", row_weights=weights
    )
    return means.after(AffineMap(np.ones(len(centre)), -centre))


@torch.no_grad()
def _fill(head: ClassificationHead, classifier: LinearClassifier, columns: np.ndarray) -> None:
    """Copies weights and bias into the head; what it does not read gets weight zero."""
    weight = np.zeros(tuple(head.linear.weight.shape))
    weight[:, columns] = classifier.weights
    head.linear.weight.copy_(torch.from_numpy(weight))
    head.linear.bias.copy_(torch.from_numpy(classifier.bias))
