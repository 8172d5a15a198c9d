"""Models of the library transformers, by hub id or folder: the model's kind decides which builder reads it."""

from encoders.info import EncoderInfo


def entries() -> list[tuple[EncoderInfo, str]]:
    """One family for all."""
    source = "transformers (any hub id or local folder)"
    info = EncoderInfo("transformers/*", "any", source=source, has_weights=True)
    return [(info, "encoders.transformers.models:transformers_encoder")]
