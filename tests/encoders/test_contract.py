"""Every promise of an encoder, over the members of the registry that can be built without a network.

A new family joins with a line in ``ENCODERS``.
"""

from collections.abc import Callable, Collection
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from audio_checkpoints import AUDIO_MODELS, write_audio_model
from checkpoints import DECODERS, LIKE_BERT, SPEECH, TEXT_MODELS, write_text_model
from image_checkpoints import IMAGE_MODELS, TIMM_SIZES, TORCHVISION_SIZES, TWO_TOWERS, lively, transformers_encoder
from word_files import make_vectors, write_vectors

from encoders import create_encoder, find_encoder, list_encoders
from encoders.base import Encoder
from encoders.dependence import call_times
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


IMAGE_ENCODERS: dict[str, Callable[[Path], Encoder]] = {
    **{f"torchvision/{name}": lively(f"torchvision/{name}", size) for name, size in TORCHVISION_SIZES.items()},
    **{f"timm/{name}": lively(f"timm/{name}", size) for name, size in TIMM_SIZES.items()},
    **{f"transformers/* {kind}": transformers_encoder(kind) for kind in (*IMAGE_MODELS, *TWO_TOWERS)},
}
SLOW = {f"torchvision/{name}" for name in ("vgg11", "vgg11_bn", "resnext50_32x4d", "wide_resnet50_2", "inception_v3")}
SLOW |= {f"torchvision/{name}" for name in ("efficientnet_v2_s", "swin_v2_t", "vit_b_32", "maxvit_t")}
SLOW |= {"timm/test_maxvit", "timm/levit_128s"}
EXPORTED_FAST = {"torchvision/squeezenet1_1", "timm/test_resnet", "transformers/* vit", "transformers/* convnext"}

ENCODERS: dict[str, Callable[[Path], Encoder]] = {
    "compact/image": lambda _: create_encoder("compact/image", image_size=64),
    "compact/text": lambda _: create_encoder("compact/text"),
    "compact/audio": lambda _: create_encoder("compact/audio"),
    **IMAGE_ENCODERS,
    **{f"transformers/* {kind}": _transformers_audio(kind) for kind in AUDIO_MODELS},
    **{f"transformers/* {kind}": _transformers(kind) for kind in (*TEXT_MODELS, *LIKE_BERT, *DECODERS)},
    "wordvectors/*": _word_vectors,
    "torchaudio/wav2vec2_base": _wav2vec2("torchaudio/wav2vec2_base"),
    "torchaudio/wav2vec2_large_lv60k": _wav2vec2("torchaudio/wav2vec2_large_lv60k"),
    "torchaudio/wavlm_base": _wav2vec2("torchaudio/wavlm_base"),
    "torchaudio/wavlm_large": _wav2vec2("torchaudio/wavlm_large"),
}


@pytest.fixture
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> Encoder:
    torch.manual_seed(0)
    return ENCODERS[request.param](tmp_path)


def cases(slow: Collection[str]) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in slow)) for name in ENCODERS]


@pytest.mark.parametrize("encoder", cases(SLOW), indirect=True)
def test_every_promise_is_kept_in_torch(encoder: Encoder) -> None:
    check_encoder(encoder, export=False)
    check_catalogue(encoder)
    check_depth(encoder)


@pytest.mark.parametrize("encoder", cases(ENCODERS.keys() - EXPORTED_FAST), indirect=True)
def test_every_promise_is_kept_in_onnx(encoder: Encoder) -> None:
    check_encoder(encoder)


def check_catalogue(encoder: Encoder) -> None:
    """The catalogue says what the encoder is."""
    info = find_encoder(encoder.name)
    assert info.modality in (encoder.modality, "any")
    if "model" not in encoder.arguments:  # made tiny for these tests
        assert info.embed_dim in (None, encoder.embed_dim)
    assert info.ignores_padding == encoder.ignores_padding


def check_depth(encoder: Encoder) -> None:
    """Every group of ``depth_groups()`` is called after the one before it."""
    blank = encoder.preprocessor.stack([encoder.preprocessor.blank()])
    inputs = {name: torch.from_numpy(array) for name, array in blank.items()}
    called = call_times(encoder.eval(), lambda: encoder(inputs))
    owners = {id(parameter): module for module in called for parameter in module.parameters(recurse=False)}
    times = [[called[owners[id(p)]] for p in group if id(p) in owners] for group in encoder.depth_groups()]
    spans = [(min(group), max(group)) for group in times if group]
    assert spans
    assert all(before[1] < after[0] for before, after in pairwise(spans))


def test_every_family_of_the_registry_is_checked() -> None:
    families = {info.name.partition("/")[0] for info in list_encoders() if info.source != "unknown"}
    assert families <= {name.partition("/")[0] for name in ENCODERS}
