"""Fusion: tokens of several inputs in, one vector a record out."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from fusion.attention import AttentionFusion
from fusion.base import FusionModule
from fusion.concat import ConcatFusion
from fusion.gated import GatedFusion
from fusion.late import LateFusion

__all__ = [
    "AttentionFusion",
    "ConcatFusion",
    "FusionModule",
    "GatedFusion",
    "LateFusion",
    "create_fusion",
    "list_fusions",
]

_FUSIONS = {"concat": ConcatFusion, "attention": AttentionFusion, "gated": GatedFusion, "late": LateFusion}


def list_fusions() -> list[str]:
    """Names that ``create_fusion`` takes."""
    return list(_FUSIONS)


def create_fusion(name: str, in_dims: Mapping[str, int], out_dim: int | None = None, **kwargs: Any) -> FusionModule:
    """Builds a fusion by name: "concat", "attention", "gated" or "late".

    Args:
        in_dims: width of each input, e.g. ``{"image": 512, "text": 384}``.
        out_dim: width of the fused vector; None is the fusion's own default (concat and late: the plain concatenation).
        **kwargs: further arguments of that fusion, e.g. ``num_heads=8``.

    Raises:
        LookupError: if there is no such fusion.
        TypeError: if the fusion takes no such argument.
        ValueError: if ``in_dims`` is empty or an argument is out of range.
    """
    if name not in _FUSIONS:
        near = difflib.get_close_matches(name, _FUSIONS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise LookupError(f"there is no fusion {name!r}; there are {', '.join(_FUSIONS)}{hint}")
    if out_dim is not None:
        kwargs["out_dim"] = out_dim
    known = list(inspect.signature(_FUSIONS[name]).parameters)[1:]
    for key in kwargs:
        if key not in known:
            raise TypeError(f"the fusion {name!r} takes no {key}, only {', '.join(known)}; leave {key} out")
    return _FUSIONS[name](in_dims, **kwargs)
