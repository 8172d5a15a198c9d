"""Tokens of frozen encoders: computed once, kept, read in the place of values."""

from multimodal.features.readers import (
    BATCH_SIZE,
    CHUNK,
    FORMAT,
    MASK,
    TOKENS,
    FeatureReader,
    TokenPreprocessor,
    TrainingViews,
    content_key,
    encoder_key,
    feature_reader,
)

__all__ = [
    "BATCH_SIZE",
    "CHUNK",
    "FORMAT",
    "MASK",
    "TOKENS",
    "FeatureReader",
    "TokenPreprocessor",
    "TrainingViews",
    "content_key",
    "encoder_key",
    "feature_reader",
]
