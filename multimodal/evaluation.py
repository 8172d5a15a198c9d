"""TableOutputs of the model over a table, and their scores."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from encoders.base import evaluating
from encoders.preprocessing import Arrays
from multimodal.data.dataset import RecordDataset, evaluation_batches
from multimodal.decoding import EMBEDDING, Decoding
from multimodal.metrics import task_metrics
from multimodal.metrics.calibration import measure_calibration
from multimodal.model import MultimodalModel
from multimodal.records import RecordError
from multimodal.records.targets import Truth, read_truth
from multimodal.runtime.torch_state import isolated_torch_state
from multimodal.task_types import join_outputs

Subset = tuple[str, ...]


@dataclass(frozen=True)
class TableOutputs:
    """Raw outputs over a table, under each combination of inputs."""

    rows: np.ndarray
    """Rows (from 0) that were read, in order."""
    outputs: dict[Subset, dict[str, np.ndarray]]
    """Inputs shown -> task -> [n ...]."""
    answered: dict[Subset, np.ndarray]
    """Inputs shown -> bool [n]: whether the record has one of them."""
    errors: list[RecordError] = field(default_factory=list)
    """Records that could not be read."""


def input_subsets(names: Sequence[str]) -> list[Subset]:
    """Every non-empty combination, the whole first, then by size.

    >>> input_subsets(["image", "text"])
    [('image', 'text'), ('image',), ('text',)]
    """
    sizes = range(len(names), 0, -1)
    return [subset for size in sizes for subset in combinations(names, size)]


@torch.inference_mode()
def answer(
    model: MultimodalModel,
    dataset: RecordDataset,
    *,
    subsets: Sequence[Subset],
    batch_size: int = 64,
    workers: int = 0,
) -> TableOutputs:
    """Runs the model, in eval mode, once over the encoders and once a subset over fusion and heads."""
    device = next(model.parameters()).device
    kept: list[int] = []
    errors: list[RecordError] = []
    outputs: dict[Subset, list[dict[str, Tensor]]] = {subset: [] for subset in subsets}
    answered: dict[Subset, list[Tensor]] = {subset: [] for subset in subsets}
    for batch in evaluation_batches(dataset, batch_size=batch_size, workers=workers):
        failed = {error.row for error in batch.errors}
        good = torch.tensor([row not in failed for row in batch.rows])
        errors += batch.errors
        kept += [row for row in batch.rows if row not in failed]
        tokens, masks = model.encode(batch.to(device).inputs)
        for subset in subsets:
            shown = {name: mask if name in subset else torch.zeros_like(mask) for name, mask in masks.items()}
            result = model.fuse(tokens, shown).outputs
            outputs[subset].append({task: values.float().cpu()[good] for task, values in result.items()})
            has_one = torch.stack([mask.any(dim=1) for mask in shown.values()]).any(dim=0)
            answered[subset].append(has_one.cpu()[good])
    return TableOutputs(
        rows=np.array(kept, dtype=np.int64),
        outputs={subset: _join(parts) for subset, parts in outputs.items()},
        answered={subset: torch.cat(parts).numpy() for subset, parts in answered.items()},
        errors=errors,
    )


def _join(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, np.ndarray]:
    return {task: join_outputs([part[task].numpy() for part in parts]) for task in parts[0]}


Labelled = tuple[str, np.ndarray, Truth]
"""A task, its raw outputs [n ...] of some records, and their found."""


def labelled_outputs(
    outputs: TableOutputs, subset: Subset, dataset: RecordDataset, decodings: Mapping[str, Decoding]
) -> list[Labelled]:
    """Outputs of each task for the records that have one of the inputs shown and a known answer.

    A task that compares two inputs has none where one of them is hidden.
    """
    places = {int(row): index for index, row in enumerate(outputs.rows)}
    shown = outputs.rows[outputs.answered[subset]].tolist()
    found = []
    for task, decoding in decodings.items():
        hidden = not {*decoding.needs} <= {*subset}
        truth = read_truth(dataset.targets[task], dataset.records, [] if hidden else shown)
        found.append((task, outputs.outputs[subset][task][[places[int(row)] for row in truth.rows]], truth))
    return found


def score_outputs(labelled: Iterable[Labelled], decodings: Mapping[str, Decoding]) -> dict[str, Any]:
    """Metrics of every task."""
    return {
        task: task_metrics(decodings[task], outputs, truth.targets, unknown=truth.unknown)
        for task, outputs, truth in labelled
    }


def calibrations(labelled: Iterable[Labelled], decodings: Mapping[str, Decoding]) -> dict[str, Any]:
    """Task -> how far its probabilities can be believed, of every task that has probabilities."""
    measured = {task: measure_calibration(decodings[task], outputs, truth.targets) for task, outputs, truth in labelled}
    return {task: values for task, values in measured.items() if values is not None}


def detailed_tables(labelled: Iterable[Labelled], decodings: Mapping[str, Decoding]) -> dict[str, Any]:
    """Task -> tables behind its scores, as ``Decoding.details`` gives them, of every task that has some."""
    tables = {
        task: decodings[task].details(decodings[task].scores(outputs), truth.targets, truth.unknown)
        for task, outputs, truth in labelled
    }
    return {task: table for task, table in tables.items() if table}


def evaluate(
    model: MultimodalModel,
    dataset: RecordDataset,
    decodings: Mapping[str, Decoding],
    *,
    workers: int = 0,
    on_error: Literal["raise", "skip"] = "raise",
) -> dict[str, Any]:
    """``{"tasks": metrics per task, "modalities": {"image+text": metrics per task}, "calibration": ...}``, JSON.

    Calibration, and the tables of labels in ``details``, are those of the answers to all inputs. ``skipped_rows`` says
    why records could not be read.

    Raises:
        RecordError: for the first record that cannot be read, unless ``on_error`` is "skip".
    """
    subsets = input_subsets(model.input_names)
    found = answer(model, dataset, subsets=subsets, workers=workers)
    if found.errors and on_error == "raise":
        raise found.errors[0]
    labelled = {subset: labelled_outputs(found, subset, dataset, decodings) for subset in subsets}
    tables = {subset: score_outputs(found, decodings) for subset, found in labelled.items()}
    return {
        "tasks": tables[subsets[0]],
        "modalities": {"+".join(subset): table for subset, table in tables.items()},
        "calibration": calibrations(labelled[subsets[0]], decodings),
        "details": detailed_tables(labelled[subsets[0]], decodings),
        "skipped_rows": {str(error.row): error.reason for error in found.errors},
    }


def flat_values(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """("task.metric", value) of every number, for history files."""
    for task, values in metrics.items():
        for name, estimate in values.items():
            if isinstance(estimate, Mapping) and estimate.get("value") is not None:
                yield f"{task}.{name}", float(estimate["value"])


@isolated_torch_state()
def run_torch(model: MultimodalModel, batch: Mapping[str, Arrays], *, embedding: bool = False) -> dict[str, np.ndarray]:
    """Raw outputs of the model, in eval mode, by name.

    Args:
        batch: input -> its arrays and ``present``, as ``stack_inputs`` gives them.
        embedding: adds the fused vector at length 1.
    """
    device = next(model.parameters()).device
    tensors = {
        name: {key: torch.from_numpy(array).to(device) for key, array in arrays.items()}
        for name, arrays in batch.items()
    }
    with evaluating(model), torch.inference_mode():
        result = model(tensors)
    outputs = {**result.outputs, EMBEDDING: result.embedding} if embedding else result.outputs
    return {name: values.float().cpu().numpy() for name, values in outputs.items()}


def expert_weights_of(model: MultimodalModel) -> dict[str, dict[str, float]]:
    """Task -> input -> expert weight in late fusion."""
    return {
        task: dict(zip(head.names, head.expert_weights.tolist(), strict=True))
        for task, head in model.late_heads.items()
    }


def fit_expert_weights(model: MultimodalModel, dataset: RecordDataset, *, workers: int = 0) -> TableOutputs:
    """Fits every expert weight of the model to these records; gives what it then found, all inputs shown."""
    heads, everything = model.late_heads, model.input_names
    for head in heads.values():
        head.expert_weights.fill_(1.0)  # each input, shown alone, then says what its own head says
    subsets = dict.fromkeys([everything, *((name,) for name in everything)])  # the same where there is one input
    alone = answer(model, dataset, subsets=list(subsets), workers=workers)
    outputs = dict(alone.outputs[everything])  # of heads that have no expert weights
    for task, head in heads.items():
        device = head.expert_weights.device
        said = torch.from_numpy(np.stack([alone.outputs[(name,)][task] for name in head.names])).to(device)
        present = torch.from_numpy(np.stack([alone.answered[(name,)] for name in head.names])).to(device)
        cells = [dataset.targets[task].read(dataset.records[row]) for row in alone.rows.tolist()]
        known = [index for index, cell in enumerate(cells) if cell is not None]
        if known:
            target = torch.from_numpy(np.stack([cell for cell in cells if cell is not None])).to(device)
            head.fit_expert_weights(said[:, known], present[:, known], target)
        outputs[task] = head.combine(said, present * head.expert_weights[:, None]).cpu().numpy()
    return TableOutputs(alone.rows, {everything: outputs}, {everything: alone.answered[everything]}, alone.errors)
