"""Every promise of an encoder, over a small member of every family."""

from collections.abc import Collection
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from support.audio_checkpoints import AUDIO_MODELS
from support.encoder_members import ENCODERS
from support.shallow import plant_shallow

from encoders import EncoderInfo, find_encoder, list_encoders, testing
from encoders.base import Encoder
from encoders.parameter_order import call_order
from encoders.testing import check_encoder, export_onnx

SLOW = {f"torchvision/{name}" for name in ("vgg11", "vgg11_bn", "resnext50_32x4d", "wide_resnet50_2", "inception_v3")}
SLOW |= {f"torchvision/{name}" for name in ("efficientnet_v2_s", "swin_v2_t", "vit_b_32", "maxvit_t")}
SLOW |= {f"torchvision/{name}" for name in ("alexnet", "convnext_tiny", "swin_t")}
SLOW |= {"timm/test_maxvit", "timm/levit_128s"}
EXPORTED_FAST = {"torchvision/squeezenet1_1", "timm/test_resnet", "transformers/* vit", "transformers/* convnext"}
SEARCHES_FOR_NOTHING = {f"transformers/* {kind}" for kind in AUDIO_MODELS}
"""Whose graph has no operator that searches or branches."""


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks where there are many: each exports as the one before it."""
    plant_shallow(monkeypatch)


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


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("encoder", cases(ENCODERS.keys() - EXPORTED_FAST), indirect=True)
def test_every_promise_is_kept_in_onnx(
    encoder: Encoder, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = []
    monkeypatch.setattr(testing, "export_onnx", lambda *given: graphs.append(export_onnx(*given)) or graphs[-1])
    check_encoder(encoder)
    if request.node.callspec.params["encoder"] in SEARCHES_FOR_NOTHING:
        operators = {node.op_type for node in onnx.load_from_string(graphs[0]).graph.node}
        assert not operators & {"NonZero", "ScatterND", "STFT", "Loop", "If"}


def check_catalogue(encoder: Encoder) -> None:
    """The catalogue says what the encoder is."""
    info = find_encoder(encoder.name)
    assert info.modality in (encoder.modality, "any")
    if "model" not in encoder.arguments:  # made tiny for these tests
        assert info.embed_dim in (None, encoder.embed_dim)
        counts = {name: parameter.numel() for name, parameter in encoder.named_parameters()}
        if not any("pos_embed" in name for name in counts):  # a position for each patch of a smaller image
            assert info.parameters in (None, sum(counts.values()))
    assert info.ignores_padding == encoder.ignores_padding


def check_depth(encoder: Encoder) -> None:
    """Every group of ``depth_groups()`` is called after the one before it."""
    blank = encoder.preprocessor.stack([encoder.preprocessor.blank()])
    inputs = {name: torch.from_numpy(array) for name, array in blank.items()}
    called = call_order(encoder.eval(), lambda: encoder(inputs))
    owners = {id(parameter): module for module in called for parameter in module.parameters(recurse=False)}
    times = [[called[owners[id(p)]] for p in group if id(p) in owners] for group in encoder.depth_groups()]
    spans = [(min(group), max(group)) for group in times if group]
    assert spans
    assert all(before[1] < after[0] for before, after in pairwise(spans))


def test_every_family_of_the_registry_is_checked() -> None:
    """A family is what one package has from one paper; those without gradients are checked in ``encoders/onnx``."""
    checked = {_family(find_encoder(name.partition(" ")[0])) for name in ENCODERS}
    assert {_family(info) for info in list_encoders() if info.source != "unknown" and info.trains} <= checked


def _family(info: EncoderInfo) -> tuple[str, str]:
    return info.name.partition("/")[0], info.paper
