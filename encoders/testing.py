"""The contract of encoders as a check that anybody can run: ``check_encoder(my_encoder)``."""

import copy
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encoders.base import Encoder, evaluating, tensors_of
from encoders.contract import ContractError, contract_step, require, some
from encoders.contract_checks import check_attributes, check_parameters, preprocess
from encoders.onnx_graph import OPSET, export_onnx
from encoders.preprocessing import Arrays, Preprocessor
from encoders.registry import create_encoder

__all__ = ["ContractError", "check_encoder", "check_preprocessor", "default_samples", "export_onnx"]

# (relative, absolute for tokens of scale 1): a row computed in another batch takes other kernels, and a deep encoder
# adds up their rounding
TOLERANCES = {"same": (0.0, 1e-6), "float32": (1e-4, 1e-4), "onnx": (0.0, 1e-4)}
Encoded = tuple[np.ndarray, np.ndarray]
"""Tokens ``[b l d]`` and mask ``[b l]``."""


def check_encoder(encoder: Encoder, *, samples: Sequence[Any] | None = None, export: bool = True) -> None:
    """Checks every promise of an encoder; returns nothing if all are kept.

    The encoder is left as it was. Shapes and types, one row at a time against many, padding, parameters and their
    gradients, saving and loading, the stand-in for a missing value, the preprocessor's JSON, and the exported
    graph in onnxruntime against torch.

    Args:
        encoder: built with random or with pretrained weights; all its parameters trainable.
        samples: at least three raw values that differ, and differ in length where a length may vary; None takes
            noise of the modality, which is known for image, text and audio.
        export: whether to export, too, which takes seconds to minutes.

    Raises:
        ContractError: for the first promise that is broken.
        ValueError: if samples are needed and not given, or are too few.
    """
    check_attributes(encoder)
    raws = list(default_samples(encoder.modality) if samples is None else samples)
    if len(raws) < 3:
        raise ValueError(f"the check needs at least 3 samples, {len(raws)} were given; give raw values that differ")
    records = preprocess(encoder.preprocessor, raws, owner=encoder, kind="an encoder")
    check_parameters(encoder)
    with evaluating(encoder), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _check_tokens(encoder, records)
        _check_rows(encoder, records)
        _check_missing(encoder, records)
        _check_gradients(encoder, records)
        _check_saving(encoder, records)
        if export:
            _check_export(encoder, records)


def check_preprocessor(preprocessor: Preprocessor, *, samples: Sequence[Any] | None = None) -> None:
    """Checks a preprocessor by itself, which ``check_encoder`` checks, too; returns nothing if all promises are kept.

    Args:
        samples: raw values that differ; None takes noise of the modality, which is known for image, text and audio.

    Raises:
        ContractError: for the first promise that is broken.
        ValueError: if samples are needed and not given.
    """
    kind = "a preprocessor"
    has_methods = isinstance(preprocessor, Preprocessor)
    require(has_methods, preprocessor, "has the methods of encoders.preprocessing.Preprocessor", "add them", kind)
    raws = default_samples(preprocessor.modality) if samples is None else samples
    records = preprocess(preprocessor, raws, owner=preprocessor, kind=kind)
    for raw, record in zip(raws, records, strict=True):
        with contract_step(preprocessor, "preprocesses raw values", kind):
            again = preprocessor(raw)
        same = all(np.array_equal(again[name], record[name]) for name in record)
        fix = "the same value gave other arrays; augmentation happens before preprocessing"
        require(same, preprocessor, "is deterministic", fix, kind)


def default_samples(modality: str) -> list[Any]:
    """Three raw values of an image, text or audio encoder, of three sizes.

    Raises:
        ValueError: for another modality.
    """
    rng = np.random.default_rng(0)
    if modality == "image":
        return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((40, 48), (64, 64), (90, 56))]
    if modality == "text":
        return ["ripe", "a red apple and a pear", "Milk, 1.5 % fat, from the cows of one farm in the hills"]
    if modality == "audio":
        return [(0.1 * rng.standard_normal(length).astype(np.float32), 16000) for length in (5600, 9100, 14000)]
    raise ValueError(f"there are no samples of modality {modality!r}; give check_encoder(..., samples=[raw values])")


# --- tokens -------------------------------------------------------------------------------------------------


def _check_tokens(encoder: Encoder, records: Sequence[Arrays]) -> None:
    batch = encoder.preprocessor.stack(records)
    inputs = tensors_of(encoder, batch)
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    with contract_step(encoder, "encodes a batch"), torch.no_grad():
        tokens, mask = encoder({**inputs, "present": torch.ones(len(records), dtype=torch.bool)})
    changed = [name for name, tensor in inputs.items() if not torch.equal(tensor, before[name])]
    require(not changed, encoder, "leaves its inputs unchanged", f"{changed} changed; do not write in place")
    _check_shapes(encoder, tokens, mask, len(records))
    empty = (~mask.any(dim=1)).nonzero()[:, 0].tolist()
    require(not empty, encoder, "gives every record a real token", f"samples {empty} have none")
    require(bool(tokens[mask].isfinite().all()), encoder, "returns finite tokens", "NaN or infinity among real tokens")
    again = _encode(encoder, batch)
    fix = "the same batch gave other tokens in eval mode; draw random numbers only `if self.training`"
    _compare(encoder, "is deterministic in eval mode", (_numpy(tokens), _numpy(mask)), again, "same", fix)
    first, second = again[0][0][again[1][0]], again[0][1][again[1][1]]
    differ = first.shape != second.shape or not np.allclose(first, second, atol=1e-6)
    require(differ, encoder, "returns tokens that depend on the record", "two samples gave the same tokens")


def _check_shapes(encoder: Encoder, tokens: Tensor, mask: Tensor, count: int) -> None:
    promise = "returns tokens [b l d], float, and a mask [b l], bool"
    require(
        tokens.ndim == 3 and tokens.shape[0] == count and tokens.is_floating_point(),
        encoder,
        promise,
        f"tokens are {tokens.dtype} {list(tokens.shape)} for {count} records",
    )
    require(tokens.shape[2] == encoder.embed_dim, encoder, promise, f"d = {tokens.shape[2]}, not {encoder.embed_dim}")
    require(
        mask.dtype == torch.bool and mask.shape == tokens.shape[:2],
        encoder,
        promise,
        f"the mask is {mask.dtype} {list(mask.shape)} for tokens {list(tokens.shape)}; True = real",
    )


def _check_rows(encoder: Encoder, records: Sequence[Arrays]) -> None:
    stack = encoder.preprocessor.stack
    for record, other in zip(records, [*records[1:], records[0]], strict=True):
        alone = _encode(encoder, stack([record]))
        # another record's values in this one's sizes, so that there is no padding
        mate = {name: np.resize(other[name], array.shape) for name, array in record.items()}
        pair = _rows(_encode(encoder, stack([mate, record])), slice(1, 2))
        fix = "a record's tokens changed with its batch; use GroupNorm or LayerNorm, and mind reshapes"
        _compare(encoder, "encodes each record by itself", alone, pair, "float32", fix)
        if encoder.ignores_padding:
            # last row of many: the others may be longer
            many = _rows(_encode(encoder, stack([*records, record])), slice(-1, None))
            fix = (
                "padding changed the real tokens; mask attention, convolutions and averages, or, where the original "
                "model was trained so, set ignores_padding = False"
            )
            _compare(encoder, "gives the same tokens whatever the padding", alone, many, "float32", fix)


def _check_missing(encoder: Encoder, records: Sequence[Arrays]) -> None:
    preprocessor = encoder.preprocessor
    for batch in ([preprocessor.blank()], [preprocessor.blank(), *records]):
        tokens, _ = _encode(encoder, preprocessor.stack(batch))
        fix = "the blank gave NaN or infinity, which times zero stays so; guard divisions and logarithms"
        require(bool(np.isfinite(tokens[0]).all()), encoder, "stays finite where the value is missing", fix)


def _check_gradients(encoder: Encoder, records: Sequence[Arrays]) -> None:
    parameters = dict(encoder.named_parameters())
    promise = "gives every parameter a gradient"
    frozen = [name for name, parameter in parameters.items() if not parameter.requires_grad]
    require(not frozen, encoder, promise, f"{some(frozen)} frozen; leave that to the transfer strategy")
    if not parameters:
        return
    preprocessor = encoder.preprocessor
    for batch, where in ((list(records), ""), ([preprocessor.blank()], " where the value is missing")):
        tokens, mask = encoder(tensors_of(encoder, preprocessor.stack(batch)))
        loss = (tokens[mask] * torch.randn_like(tokens[mask])).sum()  # a plain sum is constant after a LayerNorm
        require(loss.requires_grad, encoder, promise, "the tokens carry none; is there a no_grad or a detach?")
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        gradients = dict(zip(parameters, found, strict=True))
        unused = [name for name, gradient in gradients.items() if gradient is None]
        require(not unused, encoder, promise, f"{some(unused)} without; remove what the tokens do not depend on")
        wild = [name for name, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()]
        require(not wild, encoder, promise, f"that of {some(wild)} is not finite{where}")


def _check_saving(encoder: Encoder, records: Sequence[Arrays]) -> None:
    """Into the architecture rebuilt by name where there is one, else into a copy with other weights."""
    promise = "is the same after saving and loading"
    batch = encoder.preprocessor.stack(records)
    state = {name: tensor.detach().clone() for name, tensor in encoder.state_dict().items()}
    with contract_step(encoder, promise):
        if encoder.name:
            arguments = json.loads(json.dumps(encoder.architecture()))
            other = create_encoder(encoder.name, weights=None, **arguments)
        else:
            other = copy.deepcopy(encoder)
            with torch.no_grad():
                for parameter in other.parameters():
                    parameter.add_(torch.randn_like(parameter))
        other.load_state_dict(state)
        with evaluating(other):
            loaded = _encode(other.to(next(iter(state.values())).device if state else "cpu"), batch)
    fix = "something the tokens depend on is not in the state_dict; make it a parameter or a buffer"
    _compare(encoder, promise, _encode(encoder, batch), loaded, "float32", fix)


# --- export -------------------------------------------------------------------------------------------------


def _check_export(encoder: Encoder, records: Sequence[Arrays]) -> None:
    import onnxruntime

    promise = "gives the same tokens as an ONNX graph"
    preprocessor = encoder.preprocessor
    with contract_step(encoder, f"exports to ONNX opset {OPSET} with the axes that preprocessor.tensors names"):
        model = export_onnx(encoder, preprocessor.stack(records[:2]))
    with contract_step(encoder, promise):
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    kept = {value.name: tuple(value.shape) for value in session.get_inputs()}
    unused = [spec.name for spec in preprocessor.tensors if spec.name not in kept]
    require(not unused, encoder, promise, f"the graph does not use {some(unused)}; drop it from the tensors")
    for spec in preprocessor.tensors:
        what = f"{spec.name} is {kept[spec.name]} in the graph, declared as {spec.axes}"
        require(kept[spec.name] == spec.axes, encoder, promise, what)
    blank = preprocessor.blank()
    for chosen in ([records[0]], [records[-1]], [blank], [*records, blank]):  # other sizes than the example's
        batch = preprocessor.stack(chosen)
        with contract_step(encoder, promise):
            tokens, mask = session.run(["tokens", "mask"], batch)
        fix = f"at batch {len(chosen)}; mind data-dependent Python, fixed sizes and fully masked attention"
        _compare(encoder, promise, _encode(encoder, batch), (tokens, mask), "onnx", fix)


# --- helpers ------------------------------------------------------------------------------------------------


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _encode(encoder: Encoder, batch: Arrays) -> Encoded:
    count = len(next(iter(batch.values())))
    with contract_step(encoder, f"encodes a batch of {count}"), torch.no_grad():
        tokens, mask = encoder(tensors_of(encoder, batch))
    _check_shapes(encoder, tokens, mask, count)
    return _numpy(tokens), _numpy(mask)


def _rows(encoded: Encoded, rows: slice) -> Encoded:
    return encoded[0][rows], encoded[1][rows]


def _compare(encoder: Encoder, promise: str, expected: Encoded, actual: Encoded, tolerance: str, fix: str) -> None:
    """Compares the real tokens of each record."""
    relative, absolute = TOLERANCES[tolerance]
    # tokens of a deep network with random weights are in the hundreds, and so is their rounding
    absolute *= max(1.0, float(np.std(expected[0][expected[1]])))
    for expected_row, mask, actual_row, actual_mask in zip(*expected, *actual, strict=True):
        counts = int(mask.sum()), int(actual_mask.sum())
        require(counts[0] == counts[1], encoder, promise, f"{counts[1]} real tokens instead of {counts[0]}; {fix}")
        a, b = expected_row[mask], actual_row[actual_mask]
        off = float(np.abs(a - b).max(initial=0.0))
        require(np.allclose(b, a, rtol=relative, atol=absolute), encoder, promise, f"off by up to {off:.2g}; {fix}")
