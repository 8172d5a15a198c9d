"""The model: encoders, fusion, heads."""

from multimodal.model.model import ModelOutput, MultimodalModel, drop_modalities

__all__ = ["ModelOutput", "MultimodalModel", "drop_modalities"]
