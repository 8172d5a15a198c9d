"""Heads from features alone; the linear ones end as weights and a bias."""

from multimodal.transfer.probes.logistic import LinearClassifier, LogisticProbe, fit_logistic, fit_softmax
from multimodal.transfer.probes.neighbours import (
    SoftNeighbours,
    fit_nearest_mean,
    fit_soft_neighbours,
)
from multimodal.transfer.probes.svm import fit_svm

__all__ = [
    "LinearClassifier",
    "LogisticProbe",
    "SoftNeighbours",
    "fit_logistic",
    "fit_nearest_mean",
    "fit_soft_neighbours",
    "fit_softmax",
    "fit_svm",
]
