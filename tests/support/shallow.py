"""torchvision's deep families with two blocks where they have many: what an export of their kinds of block needs."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from torchvision.models import convnext, efficientnet, maxvit, resnet, swin_transformer, vision_transformer

MOST = 2
"""Blocks of one kind in a row: only from the second on are windows shifted, and blocks added to what they are given."""
_BUILDERS = (  # the function of torchvision, and the argument that says how many blocks there are
    (convnext, "_convnext", "block_setting"),
    (efficientnet, "_efficientnet", "inverted_residual_setting"),
    (maxvit, "_maxvit", "block_layers"),
    (resnet, "_resnet", "layers"),
    (swin_transformer, "_swin_transformer", "depths"),
    (vision_transformer, "_vision_transformer", "num_layers"),
)


def plant_shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes torchvision build with at most ``MOST`` blocks in a row, for a test."""
    for module, name, argument in _BUILDERS:
        monkeypatch.setattr(module, name, _shallow(getattr(module, name), argument))


def _shallow(build: Callable[..., Any], argument: str) -> Callable[..., Any]:
    def built(*positional: Any, **named: Any) -> Any:
        given = inspect.signature(build).bind(*positional, **named)
        given.arguments[argument] = _at_most(given.arguments[argument])
        return build(*given.args, **given.kwargs)

    return built


def _at_most(blocks: Any) -> Any:
    if isinstance(blocks, int):
        return min(blocks, MOST)
    if isinstance(blocks[0], int):  # of stages whose blocks are all of one kind
        return [min(blocks[0], MOST), *(1 for _ in blocks[1:])]
    stages = [copy.copy(stage) for stage in blocks]
    for stage in stages:
        stage.num_layers = min(stage.num_layers, MOST)
    return stages
