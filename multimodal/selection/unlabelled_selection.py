"""Scores of a model without a target label: for people to read, not to choose by."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from multimodal.data.dataset import evaluation_batches
from multimodal.job import TrainingSetup
from multimodal.job.source_weights import few_components
from multimodal.records import Records
from multimodal.records.targets import class_readers, read_truth
from multimodal.task_types import join_outputs
from multimodal.transfer.instances.domain_weights import density_ratio_weights
from multimodal.transfer.probes.logistic import log_softmax
from multimodal.transfer.selection.validators import WARNING, importance_weighted_risk, target_entropy


def unlabelled_selection(setup: TrainingSetup) -> dict[str, Any]:
    """For each classification task the importance-weighted risk on source validation and the target's entropy, JSON.

    The weights are density ratios on the fused vectors. Not to be chosen by: the plain source validation is often as
    good (https://arxiv.org/abs/2208.07360), and it is what chose the checkpoint.
    """
    assert setup.tables.unlabelled is not None
    rows, fused, outputs = _seen(setup, setup.tables.valid)
    _, there, target_outputs = _seen(setup, setup.tables.unlabelled)
    tasks = {}
    for name, reader in class_readers(setup.datasets.targets).items():
        truth = read_truth(reader, setup.tables.valid, rows.tolist())
        places = np.flatnonzero(np.isin(rows, truth.rows))
        known = truth.targets < len(reader.labels)
        losses = -log_softmax(outputs[name][places[known]])[np.arange(known.sum()), truth.targets[known]]
        tasks[name] = {
            "importance_weighted_risk": _risk(losses, fused[places[known]], there),
            "target_entropy": asdict(target_entropy(np.exp(log_softmax(target_outputs[name])))),
        }
    return {"chosen_by": "source validation", "warning": WARNING, "tasks": tasks}


def describe_selection(found: Mapping[str, Any]) -> Iterator[str]:
    """Lines for people."""
    for task, scores in found["tasks"].items():
        risk, entropy = scores["importance_weighted_risk"], scores["target_entropy"]["value"]
        shown = "not measured"
        if risk is not None:
            shown = f"{risk['value']:.3f} +- {risk['error']:.3f} (records that count: {risk['effective_size']:.0f})"
        yield f"{task}: importance-weighted source risk {shown}, target entropy {entropy:.3f}"


def _risk(losses: np.ndarray, source: np.ndarray, target: np.ndarray) -> dict[str, Any] | None:
    """None where there are too few records to tell the domains apart."""
    folds = min(5, len(source) - 1, len(target) - 1)
    if folds < 2:
        return None
    few = few_components(source, target)
    weights = density_ratio_weights(source, target, components=few, folds=folds).weights
    return asdict(importance_weighted_risk(losses, weights))


@torch.inference_mode()
def _seen(setup: TrainingSetup, records: Records) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Rows that could be read, their fused vectors [n f], and their raw outputs by task [n c]."""
    model, data = setup.model.eval(), setup.datasets.evaluation(records)
    device = next(model.parameters()).device
    rows: list[int] = []
    fused, outputs = [], []
    for batch in evaluation_batches(data, batch_size=64, workers=setup.datasets.workers):
        failed = {error.row for error in batch.errors}
        good = torch.tensor([row not in failed for row in batch.rows])
        result = model(batch.to(device).inputs)
        rows += [row for row in batch.rows if row not in failed]
        fused.append(result.fused.float().cpu()[good])
        outputs.append({name: values.float().cpu()[good] for name, values in result.outputs.items()})
    joined = {name: join_outputs([part[name].numpy() for part in outputs]) for name in outputs[0]}
    return np.array(rows, dtype=np.int64), torch.cat(fused).numpy(), joined
