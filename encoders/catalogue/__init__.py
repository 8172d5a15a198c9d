"""What is built in, without importing any of it. Never imports torch."""

from encoders.catalogue import audio, compact, image, text, transformers
from encoders.info import EncoderInfo

Entry = tuple[EncoderInfo, str]
"""An encoder, and where its builder is (``module:function``)."""


def entries() -> list[Entry]:
    """Every built-in encoder.

    >>> {info.modality for info, _ in entries()} == {"image", "text", "audio", "any"}
    True
    """
    return [entry for part in (compact, image, text, audio, transformers) for entry in part.entries()]
