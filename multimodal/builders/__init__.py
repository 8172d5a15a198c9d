"""The one place that turns a job description into objects."""

from multimodal.builders.encoders import (
    build_augmentations,
    build_encoder,
    build_encoders,
    build_readers,
    build_views,
    has_random_weights,
)
from multimodal.builders.heads import (
    build_decodings,
    build_target_reader,
    head_arguments,
    label_cells,
)
from multimodal.builders.model import build_model
from multimodal.builders.orders import build_order
from multimodal.builders.training import (
    build_objectives,
    build_strategy,
    build_trainer_options,
    encoders_to_finetune,
)

__all__ = [
    "build_augmentations",
    "build_decodings",
    "build_encoder",
    "build_encoders",
    "build_model",
    "build_objectives",
    "build_order",
    "build_readers",
    "build_strategy",
    "build_target_reader",
    "build_trainer_options",
    "build_views",
    "encoders_to_finetune",
    "has_random_weights",
    "head_arguments",
    "label_cells",
]
