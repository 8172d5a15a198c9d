"""Heads from features alone; the linear ones end as weights and a bias."""

from multimodal.transfer.probes.linear import LinearClassifier
from multimodal.transfer.probes.logistic import LogisticProbe, fit_logistic, fit_softmax
from multimodal.transfer.probes.nearest_mean import fit_nearest_mean
from multimodal.transfer.probes.nearest_neighbours import NearestNeighbours, fit_nearest_neighbours
from multimodal.transfer.probes.soft_neighbours import SoftNeighbours, fit_soft_neighbours
from multimodal.transfer.probes.svm import fit_svm

__all__ = [
    "LinearClassifier",
    "LogisticProbe",
    "NearestNeighbours",
    "SoftNeighbours",
    "fit_logistic",
    "fit_nearest_mean",
    "fit_nearest_neighbours",
    "fit_soft_neighbours",
    "fit_softmax",
    "fit_svm",
]
