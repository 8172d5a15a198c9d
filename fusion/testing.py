"""The contract of fusions as a check that anybody can run: ``check_fusion(MyFusion)``."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from encoders.base import evaluating
from encoders.contract import contract_step, require
from encoders.onnx_graph import OPSET, export_graph
from encoders.testing import TOLERANCES
from fusion.base import FusionModule

DIMS = {"image": 6, "text": 4, "audio": 5}
LENGTHS = {"image": 1, "text": 7, "audio": 3}
_require, _step = partial(require, kind="a fusion"), partial(contract_step, kind="a fusion")
Build = Callable[[Mapping[str, int]], FusionModule]
Inputs = tuple[dict[str, Tensor], dict[str, Tensor]]
"""Tokens ``[b l d]`` and masks ``[b l]`` by input."""


def check_fusion(build: Build, *, export: bool = True) -> None:
    """Checks every promise of a fusion, with one, two and three inputs; returns nothing if all are kept.

    Args:
        build: the class, or a function of ``in_dims`` that gives a fusion.
        export: whether to export, too, which takes seconds.

    Raises:
        ContractError: for the first promise that is broken.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for count in (1, 2, 3):
            with _step(build, f"is built of in_dims, here of {count} inputs"):
                fusion = build(dict(list(DIMS.items())[:count]))
            _check_attributes(fusion)
            with torch.no_grad():
                for parameter in fusion.parameters():  # biases start at zero, which would hide that they are used
                    nn.init.normal_(parameter, std=0.5)
            inputs = _batch(fusion)
            with evaluating(fusion), torch.no_grad():
                _check_rows(fusion, inputs)
                _check_missing(fusion, inputs)
                _check_saving(fusion, build, inputs)
            _check_gradients(fusion, inputs)
        if export:
            _check_export(fusion)


def _check_attributes(fusion: FusionModule) -> None:
    _require(isinstance(fusion, FusionModule), fusion, "is a fusion.FusionModule", "subclass it")
    given = getattr(fusion, "out_dim", None)
    _require(isinstance(given, int) and given > 0, fusion, "sets `out_dim`", f"it is {given!r}; set it in __init__")


def _batch(fusion: FusionModule, records: int = 4) -> Inputs:
    """Tokens and masks, each record with at least one real token and some padding."""
    tokens = {name: torch.randn(records, LENGTHS[name], dim) for name, dim in fusion.in_dims.items()}
    masks = {name: torch.rand(records, LENGTHS[name]) < 0.6 for name in fusion.in_dims}
    for mask in masks.values():
        mask[:, 0] = True
    return tokens, masks


def _with_gaps(masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """Masks in which the first record has no first input, the second no second one, and so on."""
    return {n: m & (torch.arange(len(m)) != i)[:, None] for i, (n, m) in enumerate(masks.items())}


def _fuse(fusion: FusionModule, inputs: Inputs) -> Tensor:
    count = len(next(iter(inputs[0].values())))
    with _step(fusion, f"fuses a batch of {count}"):
        fused = fusion(dict(inputs[0]), dict(inputs[1]))
    what = f"{fused.dtype} {list(fused.shape)} for {count} records and out_dim {fusion.out_dim}"
    fits = fused.shape == (count, fusion.out_dim) and fused.is_floating_point()
    _require(fits, fusion, "returns one float vector [b f] per record", what)
    _require(bool(fused.isfinite().all()), fusion, "stays finite", "NaN or infinity; guard divisions and logarithms")
    return fused


def _compare(fusion: FusionModule, promise: str, expected: Tensor, actual: Tensor, fix: str) -> None:
    relative, absolute = TOLERANCES["float32"]
    off = float((expected - actual).abs().max())
    close = torch.allclose(actual, expected, rtol=relative, atol=absolute)
    _require(close, fusion, promise, f"off by up to {off:.2g}; {fix}")


def _check_rows(fusion: FusionModule, inputs: Inputs) -> None:
    tokens, masks = inputs
    fused = _fuse(fusion, inputs)
    _compare(fusion, "is deterministic in eval mode", fused, _fuse(fusion, inputs), "draw only `if self.training`")
    differ = not torch.allclose(fused[0], fused[1])
    _require(differ, fusion, "returns a vector that depends on the record", "two records gave the same one")
    for row in range(len(fused)):
        alone = {n: t[[row]] for n, t in tokens.items()}, {n: m[[row]] for n, m in masks.items()}
        fix = "a record's vector changed with its batch; use LayerNorm, and mind reshapes"
        _compare(fusion, "fuses each record by itself", fused[[row]], _fuse(fusion, alone), fix)
    longer = {n: torch.cat([t.masked_fill(~masks[n][..., None], 7.0), t + 9.0], dim=1) for n, t in tokens.items()}
    padded = {n: torch.cat([m, torch.zeros_like(m)], dim=1) for n, m in masks.items()}
    fix = "padding changed the vector; mask attention and averages"
    _compare(fusion, "gives the same vector whatever the padding", fused, _fuse(fusion, (longer, padded)), fix)
    if fusion.uses_mean_token_only:
        counts = {n: m.sum(dim=1, keepdim=True)[..., None] for n, m in masks.items()}
        means = {n: (t * masks[n][..., None]).sum(dim=1, keepdim=True) / counts[n] for n, t in tokens.items()}
        mean = _fuse(fusion, (means, {n: m.any(dim=1, keepdim=True) for n, m in masks.items()}))
        fix = "mean tokens gave another vector; set uses_mean_token_only = False"
        _compare(fusion, "looks at mean tokens only where it says so", fused, mean, fix)


def _check_missing(fusion: FusionModule, inputs: Inputs) -> None:
    """A missing input is the same as its learned token, or zeros; all of them may be missing."""
    tokens, masks = inputs
    for names in (*([name] for name in tokens), list(tokens)):
        without = {n: torch.zeros_like(m) if n in names else m for n, m in masks.items()}
        learned = {n: fusion.missing[n] if fusion.learns_missing else torch.zeros(d) for n, d in fusion.in_dims.items()}
        stand_in = {n: learned[n].expand(len(t), 1, -1) if n in names else t for n, t in tokens.items()}
        given = {n: torch.ones(len(m), 1, dtype=torch.bool) if n in names else m for n, m in masks.items()}
        fix = f"without {', '.join(names)} it is another; override `fuse`, not `forward` or `fill_missing`"
        promise = "puts the learned token where an input is missing"
        _compare(fusion, promise, _fuse(fusion, (stand_in, given)), _fuse(fusion, (tokens, without)), fix)


def _check_gradients(fusion: FusionModule, inputs: Inputs) -> None:
    parameters = dict(fusion.named_parameters())
    if not parameters:
        return
    tokens, masks = inputs
    fused = _fuse(fusion, (tokens, _with_gaps(masks)))
    promise = "gives every parameter a gradient"
    _require(fused.requires_grad, fusion, promise, "the vector carries none; is there a no_grad or a detach?")
    loss = (fused * torch.randn_like(fused)).sum()
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    unused = [name for name, gradient in zip(parameters, found, strict=True) if gradient is None]
    _require(not unused, fusion, promise, f"{', '.join(unused)} without; remove what the vector does not depend on")


def _check_saving(fusion: FusionModule, build: Build, inputs: Inputs) -> None:
    other = build(fusion.in_dims)
    with _step(fusion, "is the same after saving and loading"):
        other.load_state_dict({name: tensor.clone() for name, tensor in fusion.state_dict().items()})
    fix = "something that the vector depends on is not in the state_dict; make it a parameter or a buffer"
    promise = "is the same after saving and loading"
    _compare(fusion, promise, _fuse(fusion, inputs), _fuse(other.eval(), inputs), fix)


def _keyed(inputs: Inputs) -> dict[str, Tensor]:
    tokens, masks = inputs
    return {f"{n}_tokens": t for n, t in tokens.items()} | {f"{n}_mask": m for n, m in masks.items()}


def _check_export(fusion: FusionModule) -> None:
    import onnxruntime

    axes: dict[str, tuple[int | str, ...]] = {}
    for name, dim in fusion.in_dims.items():
        length: int | str = LENGTHS[name] if LENGTHS[name] == 1 else f"{name}_length"
        axes |= {f"{name}_tokens": ("batch", length, dim), f"{name}_mask": ("batch", length)}
    with _step(fusion, f"exports to ONNX opset {OPSET} with any number of records and tokens"):
        model = export_graph(
            fusion,
            _keyed(_batch(fusion, 2)),
            axes,
            ["fused"],
            lambda given: fusion(*({n: given[f"{n}_{part}"] for n in fusion.in_dims} for part in ("tokens", "mask"))),
        )
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    promise = "gives the same vector as an ONNX graph"
    with evaluating(fusion), torch.no_grad():
        for records in (1, 5):
            tokens, masks = _batch(fusion, records)
            masks = _with_gaps(masks)
            keyed = {name: tensor.numpy() for name, tensor in _keyed((tokens, masks)).items()}
            with _step(fusion, promise):
                kept = {value.name: keyed[value.name] for value in session.get_inputs()}
                (fused,) = session.run(None, kept)
            fix = f"at batch {records}; mind data-dependent Python, fixed sizes and fully masked attention"
            _compare(fusion, promise, _fuse(fusion, (tokens, masks)), torch.from_numpy(fused), fix)
