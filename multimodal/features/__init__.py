"""Tokens of frozen encoders: computed once, kept, read in the place of values."""

from multimodal.features.readers import FeatureReader, TrainingViews, content_key, encoder_key, feature_reader

__all__ = ["FeatureReader", "TrainingViews", "content_key", "encoder_key", "feature_reader"]
