"""Built-in encoders, listed without importing any of them. Never imports torch."""

import csv
from functools import cache
from pathlib import Path

from encoders.info import EncoderInfo
from encoders.plugins import BUILT_IN

Entry = tuple[EncoderInfo, str]
"""An encoder, and where its builder is (``module:function``)."""
BUILDERS = {
    "compact/image": ("image", BUILT_IN, "encoders.compact.image:CompactImage"),
    "compact/text": ("text", BUILT_IN, "encoders.compact.text:CompactText"),
    "compact/audio": ("audio", BUILT_IN, "encoders.compact.audio:CompactAudio"),
    "torchvision": ("image", "torchvision", "encoders.image.torchvision:torchvision_encoder"),
    "torchaudio": ("audio", "torchaudio", "encoders.audio.torchaudio:wav2vec2"),
    "packaged": ("image", "timm, weights from a package of their own", "encoders.image.packaged:packaged_encoder"),
    "packaged/speech_embedding": (
        "audio",
        "openwakeword, a package of its own",
        "encoders.onnx.speech_embedding:speech_embedding",
    ),
    "timm": ("image", "timm (any model's name)", "encoders.image.timm:timm_encoder"),
    "wordvectors": ("text", "a local file of word2vec, GloVe or fastText", "encoders.text.words:word_vectors"),
    "onnx": ("any", "a local ONNX file", "encoders.onnx.encoder:onnx_encoder"),
    "transformers": (
        "any",
        "transformers (any hub id or local folder)",
        "encoders.transformers.models:transformers_encoder",
    ),
}
"""Name in ``pretrained.csv``, or its first word -> modality, source and builder. The table counts parameters without
a classifier or what only pre-training used; CC-BY-NC is SWAG's,
https://github.com/facebookresearch/SWAG/blob/main/LICENSE."""


@cache
def entries() -> tuple[Entry, ...]:
    """Every built-in encoder.

    >>> {info.modality for info, _ in entries()} == {"image", "text", "audio", "any"}
    True
    """
    with Path(__file__).with_name("pretrained.csv").open(encoding="utf-8", newline="") as file:
        return tuple(_entry(**row) for row in csv.DictReader(file))


def _entry(name: str, embed_dim: str, parameters: str, licence: str, paper: str) -> Entry:
    modality, source, builder = BUILDERS.get(name) or BUILDERS[name.partition("/")[0]]
    info = EncoderInfo(
        name,
        modality,
        int(embed_dim) if embed_dim else None,
        source=source,
        licence=licence,
        paper=paper,
        has_weights=True,
        parameters=int(parameters) if parameters else None,
        trains=not builder.startswith("encoders.onnx."),
        # what few photos and words taught has to move
        learning_rate_scale=1.0 if source == BUILT_IN else EncoderInfo.learning_rate_scale,
    )
    return info, builder
