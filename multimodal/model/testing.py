"""The contract of task types as a check that anybody can run: ``check_task_type("mine/tags")``."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from encoders.base import evaluating
from encoders.contract import contract_step, require, some
from encoders.onnx_graph import export_graph
from encoders.testing import TOLERANCES
from multimodal.config import Task
from multimodal.model.heads import Head, HeadPlace, head_class
from multimodal.task_types import Decoding, TaskType, join_outputs, task_type

_require, _step = partial(require, kind="a task type"), partial(contract_step, kind="a task type")
DIM, LENGTH, RECORDS = 6, 5, 4
Seen = tuple[Tensor, ...]
"""What a head sees: one tensor; or the tokens of each input, then the masks."""


def check_task_type(
    name: str, *, inputs: Sequence[str] = ("first", "second"), cells: Sequence[Any] | None = None, export: bool = True
) -> None:
    """Checks every promise of a registered task type; returns nothing if all are kept.

    Args:
        inputs: of a task; a head of tokens may want just one.
        cells: as a table has them, that can be learned from; None takes ``example_cells``.
        export: whether to export the head, too, which takes seconds.

    Raises:
        ContractError: for the first promise that is broken.
    """
    kind, given = task_type(name), Task(type=name)
    cells = list(kind.example_cells if cells is None else cells)
    _require(kind.main_metric in kind.metrics, kind, "lists its main_metric among its metrics", "add it")
    columns = ("label",) if kind.has_column else tuple(inputs)
    rows = [dict(zip(columns, [cell] if kind.has_column else cell, strict=True)) for cell in cells]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with _step(kind, "gives head_arguments that are JSON, a target reader and a head for its example cells"):
            arguments = json.loads(json.dumps(kind.head_arguments(given, cells)))
            reader = kind.target(columns, arguments)
            place = HeadPlace(
                DIM, dict.fromkeys(inputs, DIM), tuple(inputs), {i: i for i in inputs}, is_separated=False
            )
            head = head_class(kind.head_of(given)).build(place, **arguments)
            targets = reader.stack([reader.read(row) for row in rows])
            nothing = reader.stack([None] * len(rows))
        _check_losses(kind, head, inputs, targets, nothing)
        outputs = _check_outputs(kind, head, inputs)
        decoding = head.decoding()
        _check_decoding(kind, decoding, outputs)
        with evaluating(head), torch.no_grad(), _step(kind, "has metrics"):
            scores = decoding.scores(_run(head, _seen(head, inputs, len(rows)), inputs).numpy())
            found = decoding.metrics(scores, targets, ())
        absent = {*kind.metrics, decoding.headline} - {*found}
        _require(not absent, kind, "computes its metrics and its headline", f"there is no {sorted(absent)}")
        if export:
            _check_export(kind, head, inputs)


def _seen(head: Head, inputs: Sequence[str], records: int) -> Seen:
    if head.sees != "tokens":
        return (torch.randn(records, DIM if head.sees == "fused" else DIM * len(inputs)),)
    masks = [torch.arange(LENGTH) < 1 + torch.arange(records)[:, None] % LENGTH for _ in inputs]
    return (*(torch.randn(records, LENGTH, DIM) for _ in inputs), *masks)


def _run(head: Head, seen: Seen, inputs: Sequence[str]) -> Tensor:
    if head.sees == "tokens":
        tokens, masks = seen[: len(inputs)], seen[len(inputs) :]
        seen = (dict(zip(inputs, tokens, strict=True)), dict(zip(inputs, masks, strict=True)))  # type: ignore[assignment]
    outputs: Tensor = head(*seen)
    return outputs


def _check_losses(
    kind: TaskType, head: Head, inputs: Sequence[str], targets: np.ndarray, placeholders: np.ndarray
) -> None:
    count = len(targets)
    with _step(kind, "has a head whose loss takes its targets"):
        outputs = _run(head.train(), _seen(head, inputs, count), inputs)
        for cells in (placeholders, targets):
            losses = head.loss(outputs, torch.from_numpy(cells))
            promise = "has a head whose loss is one finite number per record"
            _require(losses.shape == (count,), kind, promise, f"it is {list(losses.shape)}; do not reduce it")
            _require(bool(losses.isfinite().all()), kind, promise, "mind records without a label (the placeholder)")
        losses.sum().backward()
    idle = [name for name, parameter in head.named_parameters() if parameter.grad is None]
    _require(not idle, kind, "has a head of which every parameter gets a gradient", f"{some(idle)} get none")


def _check_outputs(kind: TaskType, head: Head, inputs: Sequence[str]) -> np.ndarray:
    """Compares rows and paddings; gives the outputs of some records."""
    decoding, seen = head.decoding(), _seen(head, inputs, RECORDS)
    with evaluating(head), torch.no_grad():
        outputs = _run(head, seen, inputs)
        ndim = len(decoding.axes)
        _require(outputs.ndim == ndim, kind, "has outputs of its decoding's axes", f"{list(outputs.shape)}")
        alone = torch.cat([_run(head, tuple(part[row : row + 1] for part in seen), inputs) for row in range(RECORDS)])
        _compare(kind, "has outputs that do not depend on other records", outputs, alone)
        if head.sees == "tokens":
            longer = tuple(F.pad(part, (0, 0, 0, 3) if part.ndim == 3 else (0, 3)) for part in seen)
            padded = _run(head, longer, inputs).numpy()
            joined = join_outputs([outputs.numpy(), padded])[:RECORDS]
            promise = "has outputs that do not depend on padding, which are PADDING where a mask is False"
            _compare(kind, promise, torch.from_numpy(padded), torch.from_numpy(joined))
    return outputs.numpy()


def _compare(kind: TaskType, promise: str, actual: Tensor, expected: Tensor, tolerance: str = "float32") -> None:
    relative, absolute = TOLERANCES[tolerance]
    same = actual.shape == expected.shape and torch.allclose(actual, expected, rtol=relative, atol=absolute)
    _require(same, kind, promise, f"{list(actual.shape)} and {list(expected.shape)}, or other values")


def _check_decoding(kind: TaskType, decoding: Decoding, outputs: np.ndarray) -> None:
    promise = "has a decoding that JSON rebuilds"
    with _step(kind, promise):
        again = kind.decoding.from_config(json.loads(json.dumps(decoding.to_config())))
    _require(again == decoding, kind, promise, "make it a frozen dataclass whose fields are JSON")
    with _step(kind, "has a decoding that predicts, fills its columns and responds in JSON"):
        predictions = decoding.predictions(outputs)
        cells = {len(decoding.cells(prediction)) for prediction in predictions}
        keys = {key for prediction in predictions for key in json.loads(json.dumps(decoding.response(prediction)))}
        properties = {*json.loads(json.dumps(decoding.schema))}
        texts = [decoding.shown(prediction) for prediction in predictions]
        same = bool(decoding.agree(outputs, outputs, _Limits()).all())
    _require(len(predictions) == len(outputs) == len(texts), kind, "predicts once per record", f"{len(predictions)}")
    _require(cells == {len(decoding.columns)}, kind, "fills its columns", f"{sorted(cells)} cells")
    _require(keys == properties, kind, "responds with the keys of its schema", f"{sorted(keys)}")
    _require(same, kind, "agrees with itself", "mind NaN")


class _Limits:
    value, cosine = 0.0, 0.999


def _check_export(kind: TaskType, head: Head, inputs: Sequence[str]) -> None:
    import onnxruntime

    def keyed(records: int) -> dict[str, Tensor]:
        return {f"seen_{place}": part for place, part in enumerate(_seen(head, inputs, records))}

    axes: dict[str, tuple[int | str, ...]] = {}
    for place, part in enumerate(_seen(head, inputs, 2)):
        length = "length" if head.sees == "tokens" else part.shape[1]
        axes[f"seen_{place}"] = ("batch", length, *part.shape[2:])
    promise = "has a head with the outputs of its ONNX graph"
    with evaluating(head), torch.no_grad(), _step(kind, promise):
        graph = export_graph(
            head, keyed(2), axes, ["outputs"], lambda given: (_run(head, tuple(given.values()), inputs),)
        )
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        given = keyed(RECORDS)
        names = [value.name for value in session.get_inputs()]
        (outputs,) = session.run(None, {name: given[name].numpy() for name in names})
        _compare(kind, promise, torch.from_numpy(outputs), _run(head, tuple(given.values()), inputs), "onnx")
