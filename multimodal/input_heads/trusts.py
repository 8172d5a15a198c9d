"""Fitting how far late fusion trusts each input, on records that were not trained on."""

import numpy as np
import torch

from multimodal.data import RecordDataset
from multimodal.evaluation import Answers, answer
from multimodal.model import MultimodalModel


def fitted_trusts(model: MultimodalModel) -> dict[str, dict[str, float]]:
    """Task -> input -> trust."""
    return {task: dict(zip(head.names, head.trusts.tolist(), strict=True)) for task, head in model.late_heads.items()}


def fit_trusts(model: MultimodalModel, dataset: RecordDataset, *, workers: int = 0) -> Answers:
    """Fits every trust of the model to these records; gives what it then answers, all inputs shown."""
    heads, everything = model.late_heads, model.input_names
    for head in heads.values():
        head.trusts.fill_(1.0)  # each input, shown alone, then says what its own head says
    subsets = dict.fromkeys([everything, *((name,) for name in everything)])  # the same where there is one input
    alone = answer(model, dataset, subsets=list(subsets), workers=workers)
    outputs = dict(alone.outputs[everything])  # of heads that have no trusts
    for task, head in heads.items():
        device = head.trusts.device
        said = torch.from_numpy(np.stack([alone.outputs[(name,)][task] for name in head.names])).to(device)
        present = torch.from_numpy(np.stack([alone.answered[(name,)] for name in head.names])).to(device)
        cells = [dataset.targets[task].read(dataset.records[row]) for row in alone.rows.tolist()]
        known = [index for index, cell in enumerate(cells) if cell is not None]
        if known:
            target = torch.from_numpy(np.stack([cell for cell in cells if cell is not None])).to(device)
            head.fit_trusts(said[:, known], present[:, known], target)
        outputs[task] = head.combine(said, present * head.trusts[:, None]).cpu().numpy()
    return Answers(alone.rows, {everything: outputs}, {everything: alone.answered[everything]}, alone.errors)
