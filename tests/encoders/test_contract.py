"""Every promise of an encoder, over the members of the registry that can be built without a network.

A new family joins with a line in ``ENCODERS``.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from audio_checkpoints import AUDIO_MODELS, write_audio_model
from checkpoints import DECODERS, LIKE_BERT, SPEECH, TEXT_MODELS, write_text_model
from word_files import make_vectors, write_vectors

from encoders import create_encoder, find_encoder, list_encoders
from encoders.base import Encoder
from encoders.testing import check_encoder


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


def _word_vectors(folder: Path) -> Encoder:
    return create_encoder(f"wordvectors/{write_vectors(folder / 'vectors.txt', make_vectors(), 'glove.txt')}")


def _wav2vec2(name: str) -> Callable[[Path], Encoder]:
    return lambda _: create_encoder(name, weights=None, model=SPEECH)


ENCODERS: dict[str, Callable[[Path], Encoder]] = {
    "compact/image": lambda _: create_encoder("compact/image", image_size=64),
    "compact/text": lambda _: create_encoder("compact/text"),
    "compact/audio": lambda _: create_encoder("compact/audio"),
    "torchvision/resnet18": lambda _: create_encoder("torchvision/resnet18", weights=None, image_size=64),
    "torchvision/resnet50": lambda _: create_encoder("torchvision/resnet50", weights=None, image_size=64),
    **{f"transformers/* {kind}": _transformers_audio(kind) for kind in AUDIO_MODELS},
    **{f"transformers/* {kind}": _transformers(kind) for kind in (*TEXT_MODELS, *LIKE_BERT, *DECODERS)},
    "wordvectors/*": _word_vectors,
    "torchaudio/wav2vec2_base": _wav2vec2("torchaudio/wav2vec2_base"),
    "torchaudio/wav2vec2_large_lv60k": _wav2vec2("torchaudio/wav2vec2_large_lv60k"),
    "torchaudio/wavlm_base": _wav2vec2("torchaudio/wavlm_base"),
    "torchaudio/wavlm_large": _wav2vec2("torchaudio/wavlm_large"),
}


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> Encoder:
    torch.manual_seed(0)
    return ENCODERS[request.param](tmp_path)


def test_every_promise_is_kept_in_torch(encoder: Encoder) -> None:
    check_encoder(encoder, export=False)


@pytest.mark.slow
def test_every_promise_is_kept_in_onnx(encoder: Encoder) -> None:
    check_encoder(encoder)


def test_the_catalogue_says_what_the_encoder_is(encoder: Encoder) -> None:
    info = find_encoder(encoder.name)
    assert info.modality in (encoder.modality, "any")
    if "model" not in encoder.arguments:  # made tiny for these tests
        assert info.embed_dim in (None, encoder.embed_dim)
    assert info.ignores_padding == encoder.ignores_padding


def test_every_family_of_the_registry_is_checked() -> None:
    families = {info.name.partition("/")[0] for info in list_encoders() if info.source != "unknown"}
    assert families <= {name.partition("/")[0] for name in ENCODERS}
