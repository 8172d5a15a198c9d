"""Built-in encoders, listed without importing any of them. Never imports torch."""

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from encoders.info import EncoderInfo
from encoders.plugins import BUILT_IN

Entry = tuple[EncoderInfo, str]
"""An encoder, and where its builder is (``module:function``)."""
LIBRARIES = {
    "torchvision": ("image", "torchvision", "encoders.image.torchvision:torchvision_encoder"),
    "torchaudio": ("audio", "torchaudio", "encoders.audio.torchaudio:wav2vec2"),
    "packaged": ("image", "timm, weights from a package of their own", "encoders.image.packaged:packaged_encoder"),
}
"""First word of the names in ``pretrained.csv`` -> modality, source and builder. The table counts parameters without
a classifier or what only pre-training used; CC-BY-NC is SWAG's,
https://github.com/facebookresearch/SWAG/blob/main/LICENSE."""
COMPACT = {
    "image": (160, 560_992, "encoders.compact.image:CompactImage"),
    "text": (192, 1_295_680, "encoders.compact.text:CompactText"),
    "audio": (192, 665_856, "encoders.compact.audio:CompactAudio"),
}
"""Modality -> dim, parameters and builder of our own small encoder, whose weights are in the package."""
FAMILIES = (
    ("timm/*", "image", "timm (any model's name)", "", "encoders.image.timm:timm_encoder"),
    (
        "wordvectors/*",
        "text",
        "a local file of word2vec, GloVe or fastText",
        "https://arxiv.org/abs/1301.3781",
        "encoders.text.words:word_vectors",
    ),
    (
        "transformers/*",
        "any",
        "transformers (any hub id or local folder)",
        "",
        "encoders.transformers.models:transformers_encoder",
    ),
)
"""Name, modality, source, paper and builder of what stands for many encoders."""


@cache
def entries() -> tuple[Entry, ...]:
    """Every built-in encoder.

    >>> {info.modality for info, _ in entries()} == {"image", "text", "audio", "any"}
    True
    """
    return (*_compact(), *_pretrained(), *_families())


def _compact() -> Iterator[Entry]:
    for modality, (dim, parameters, builder) in COMPACT.items():
        yield (
            EncoderInfo(
                f"compact/{modality}",
                modality,
                dim,
                source=BUILT_IN,
                licence="Apache-2.0",
                has_weights=True,
                parameters=parameters,
                learning_rate_scale=1.0,  # what so few photos and words taught has to move
            ),
            builder,
        )


def _pretrained() -> Iterator[Entry]:
    with Path(__file__).with_name("pretrained.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            modality, source, builder = LIBRARIES[row["name"].partition("/")[0]]
            yield (
                EncoderInfo(
                    row["name"],
                    modality,
                    int(row["embed_dim"]),
                    source=source,
                    licence=row["licence"],
                    paper=row["paper"],
                    has_weights=True,
                    parameters=int(row["parameters"]),
                ),
                builder,
            )


def _families() -> Iterator[Entry]:
    for name, modality, source, paper, builder in FAMILIES:
        yield EncoderInfo(name, modality, source=source, paper=paper, has_weights=True), builder
