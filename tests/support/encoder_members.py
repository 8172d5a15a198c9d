"""A small member of every family of encoders, built without a network: what the contract and the table are checked on.

A new family joins with a line in ``ENCODERS``.
"""

from collections.abc import Callable
from pathlib import Path

from support.audio_checkpoints import AUDIO_MODELS, write_audio_model
from support.checkpoints import DECODERS, LIKE_BERT, SPEECH, TEXT_MODELS, write_text_model
from support.image_checkpoints import (
    IMAGE_MODELS,
    TIMM_SIZES,
    TORCHVISION_SIZES,
    TWO_TOWERS,
    lively,
    transformers_encoder,
)
from support.text_checkpoints import TOWERS, write_sentence_model, write_two_towers
from support.word_files import make_vectors, write_vectors

from encoders import create_encoder
from encoders.base import Encoder


def _transformers(kind: str) -> Callable[[Path], Encoder]:
    def build(folder: Path) -> Encoder:
        write_text_model(folder, kind)
        return create_encoder(f"transformers/{folder}")

    return build


def _transformers_audio(kind: str) -> Callable[[Path], Encoder]:
    def build(folder: Path) -> Encoder:
        write_audio_model(folder, kind)
        return create_encoder(f"transformers/{folder}")

    return build


def _text_tower(kind: str) -> Callable[[Path], Encoder]:
    def build(folder: Path) -> Encoder:
        write_two_towers(folder, kind)
        return create_encoder(f"transformers/{folder}", tower="text")

    return build


def _sentence(folder: Path) -> Encoder:
    write_sentence_model(folder, {"pooling_mode_mean_tokens": True})
    return create_encoder(f"transformers/{folder}", pooling="sentence")


def _word_vectors(folder: Path) -> Encoder:
    return create_encoder(f"wordvectors/{write_vectors(folder / 'vectors.txt', make_vectors(), 'glove.txt')}")


def _wav2vec2(name: str) -> Callable[[Path], Encoder]:
    return lambda _: create_encoder(name, weights=None, model=SPEECH)


TORCHAUDIO = (
    *("wav2vec2_base", "wav2vec2_large_lv60k", "wav2vec2_xlsr53", "wav2vec2_xlsr_300m", "hubert_base"),
    *("wavlm_base", "wavlm_large"),
)

ENCODERS: dict[str, Callable[[Path], Encoder]] = {
    "compact/image": lambda _: create_encoder("compact/image", image_size=64),
    "compact/text": lambda _: create_encoder("compact/text"),
    "compact/audio": lambda _: create_encoder("compact/audio"),
    **{f"torchvision/{name}": lively(f"torchvision/{name}", size) for name, size in TORCHVISION_SIZES.items()},
    **{f"timm/{name}": lively(f"timm/{name}", size) for name, size in TIMM_SIZES.items()},
    "packaged/efficientnet_lite0": lively("packaged/efficientnet_lite0", 64),
    **{f"transformers/* {kind}": transformers_encoder(kind) for kind in (*IMAGE_MODELS, *TWO_TOWERS)},
    **{f"transformers/* {kind}": _transformers_audio(kind) for kind in AUDIO_MODELS},
    **{f"transformers/* {kind}": _transformers(kind) for kind in (*TEXT_MODELS, *LIKE_BERT, *DECODERS)},
    **{f"transformers/* {kind}, tower: text": _text_tower(kind) for kind in TOWERS},
    "transformers/* sentence-transformers": _sentence,
    "wordvectors/*": _word_vectors,
    **{f"torchaudio/{name}": _wav2vec2(f"torchaudio/{name}") for name in TORCHAUDIO},
}
"""Name in the registry, or family and kind (``transformers/* bert``) -> what builds it, given an empty folder."""
