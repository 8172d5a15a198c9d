"""Our own small encoders."""

from encoders.info import EncoderInfo

BUILDERS = {
    "image": (160, 560_992, "encoders.compact.image:CompactImage"),
    "text": (192, 1_295_680, "encoders.compact.text:CompactText"),
    "audio": (192, 665_856, "encoders.compact.audio:CompactAudio"),
}
"""Modality -> width, parameters, builder."""


def entries() -> list[tuple[EncoderInfo, str]]:
    """One a modality; each has weights in the package."""
    return [
        (
            EncoderInfo(
                f"compact/{modality}",
                modality,
                width,
                source="multimodal-transfer",
                licence="Apache-2.0",
                has_weights=True,
                parameters=parameters,
                learning_rate_scale=1.0,  # what so few photos and words taught has to move
            ),
            builder,
        )
        for modality, (width, parameters, builder) in BUILDERS.items()
    ]
