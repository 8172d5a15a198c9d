"""Task types: what a kind of task means, each one entry of a registry. Never imports torch."""

from multimodal.task_types.base import Metric, Need, TaskType
from multimodal.task_types.decoding import EMBEDDING, Decoding, Prediction, ProbabilityDecoding
from multimodal.task_types.outputs import PADDING, is_real, join_outputs
from multimodal.task_types.registry import TASK_TYPES, register_task_type, task_type

__all__ = [
    "EMBEDDING",
    "PADDING",
    "TASK_TYPES",
    "Decoding",
    "Metric",
    "Need",
    "Prediction",
    "ProbabilityDecoding",
    "TaskType",
    "is_real",
    "join_outputs",
    "register_task_type",
    "task_type",
]
