"""Built-in encoders, listed without importing any of them. Never imports torch."""

from encoders.catalogue import audio, image
from encoders.info import EncoderInfo

Entry = tuple[EncoderInfo, str]
"""An encoder, and where its builder is (``module:function``)."""

COMPACT = {
    "image": (160, 560_992, "encoders.compact.image:CompactImage"),
    "text": (192, 1_295_680, "encoders.compact.text:CompactText"),
    "audio": (192, 665_856, "encoders.compact.audio:CompactAudio"),
}
"""Modality -> dimension, parameters and builder of our own small encoders; each has weights in the package."""
WORD2VEC = "https://arxiv.org/abs/1301.3781"


def entries() -> list[Entry]:
    """Every built-in encoder.

    >>> {info.modality for info, _ in entries()} == {"image", "text", "audio", "any"}
    True
    """
    compact = [(_compact(modality, *sizes), builder) for modality, (*sizes, builder) in COMPACT.items()]
    files = "a local file of word2vec, GloVe or fastText"
    words = EncoderInfo("wordvectors/*", "text", source=files, paper=WORD2VEC, has_weights=True)
    # the model's kind decides which builder reads it
    hub = EncoderInfo("transformers/*", "any", source="transformers (any hub id or local folder)", has_weights=True)
    return [
        *compact,
        *image.entries(),
        (words, "encoders.text.words:word_vectors"),
        *audio.entries(),
        (hub, "encoders.transformers.models:transformers_encoder"),
    ]


def _compact(modality: str, dim: int, parameters: int) -> EncoderInfo:
    return EncoderInfo(
        f"compact/{modality}",
        modality,
        dim,
        source="multimodal-transfer",
        licence="Apache-2.0",
        has_weights=True,
        parameters=parameters,
        learning_rate_scale=1.0,  # what so few photos and words taught has to move
    )
