"""Names of fusions: finding them, building them. Never imports torch, but with the fusion that it builds."""

import inspect
from collections.abc import Callable, Mapping
from itertools import starmap
from typing import TYPE_CHECKING, Any

from encoders.plugins import Decorated, Registry, built_in

if TYPE_CHECKING:
    from fusion.base import FusionModule

FusionFactory = Callable[..., "FusionModule"]
"""(in_dims, out_dim=..., further keyword arguments) -> fusion."""
BUILT_IN = {
    "concat": "fusion.concat:ConcatFusion",
    "attention": "fusion.attention:AttentionFusion",
    "gated": "fusion.gated:GatedFusion",
    "late": "fusion.concat:LateFusion",
}
FUSIONS: Registry[FusionFactory] = Registry("fusion", "multimodal.fusions", lambda: starmap(built_in, BUILT_IN.items()))


def register_fusion(name: str) -> Callable[[Decorated], Decorated]:
    """Registers a FusionModule class, or a factory ``f(in_dims, **options)``, under a name of your own.

    A job's ``fusion.dim`` and ``fusion.dropout`` come as ``out_dim`` and ``dropout`` where they are set, what is under
    ``fusion.options`` by its own names.

    Raises:
        ValueError: if the name is taken.
    """
    return FUSIONS.register(name)


def list_fusions() -> list[str]:
    """Names that ``create_fusion`` takes; imports no plug-in.

    >>> list_fusions()[:4]
    ['concat', 'attention', 'gated', 'late']
    """
    return list(FUSIONS.entries())


def create_fusion(name: str, in_dims: Mapping[str, int], out_dim: int | None = None, **kwargs: Any) -> "FusionModule":
    """Builds a fusion by name.

    Args:
        in_dims: dimension of each input, e.g. ``{"image": 512, "text": 384}``.
        out_dim: dimension of the fused vector; None is the fusion's own default (concat and late: the plain
            concatenation).
        **kwargs: further arguments of that fusion, e.g. ``num_heads=8``.

    Raises:
        LookupError: if there is no such fusion.
        TypeError: if the fusion takes no such argument.
        ValueError: if ``in_dims`` is empty or an argument is out of range.
        ImportError: if the fusion of another distribution cannot be imported.
    """
    factory = FUSIONS.load(name)
    if out_dim is not None:
        kwargs["out_dim"] = out_dim
    parameters = inspect.signature(factory).parameters
    known, takes_any = list(parameters)[1:], any(entry.kind is entry.VAR_KEYWORD for entry in parameters.values())
    for key in kwargs:
        if key not in known and not takes_any:
            raise TypeError(f"the fusion {name!r} takes no {key}, only {', '.join(known)}; leave {key} out")
    return factory(in_dims, **kwargs)
