"""Text encoders that are no model of transformers."""

from encoders.registry import EncoderInfo


def entries() -> list[tuple[EncoderInfo, str]]:
    """One a source."""
    return []
