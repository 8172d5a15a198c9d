"""Our own small encoders."""

from encoders.registry import EncoderInfo

BUILDERS = {
    "image": (160, "encoders.compact.image:CompactImage"),
    "text": (192, "encoders.compact.text:CompactText"),
    "audio": (192, "encoders.compact.audio:CompactAudio"),
}
"""Modality -> width, builder."""


def entries() -> list[tuple[EncoderInfo, str]]:
    """One a modality."""
    return [
        (EncoderInfo(f"compact/{modality}", modality, width, "multimodal-transfer", "none"), builder)
        for modality, (width, builder) in BUILDERS.items()
    ]
