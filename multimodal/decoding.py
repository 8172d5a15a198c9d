"""Decodings by their public names: from a head's raw outputs to predictions. Never imports torch."""

from multimodal.task_types.classification import Softmax
from multimodal.task_types.contrastive import PairedEmbeddings
from multimodal.task_types.decoding import EMBEDDING, Decoding, Prediction, ProbabilityDecoding
from multimodal.task_types.embedding import UnitVector as Embedding
from multimodal.task_types.multilabel import Sigmoid
from multimodal.task_types.regression import Destandardize

__all__ = [
    "EMBEDDING",
    "Decoding",
    "Destandardize",
    "Embedding",
    "PairedEmbeddings",
    "Prediction",
    "ProbabilityDecoding",
    "Sigmoid",
    "Softmax",
]
