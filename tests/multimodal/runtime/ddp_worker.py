"""Trains the tiny model, once per kind, in as many processes as torchrun started; run by test_distributed.py.

One label of ``price`` and one image in the whole table: most steps have no label of a task, and no record with an
input, in at least one process. "batch" has a BatchNorm. "uncertainty" and "pcgrad" weigh the tasks. With "corrupt" the
other images cannot be read and are skipped, in one epoch. With "dann" the rows are a source that is aligned with the
same rows without labels.
"""

import json
import logging
import sys
from pathlib import Path

import torch
from support.tiny_models import make_dataset, make_model, make_rows

from multimodal.config.setting import SOURCE, UNLABELLED
from multimodal.data.dataset import RecordDataset, SampleDataset, StepLoader
from multimodal.data.domains import JoinedDataset, domain_order
from multimodal.data.order import Order, StepOrder
from multimodal.runtime.distributed import Processes, processes
from multimodal.trainer import Trainer
from multimodal.trainer.state import TrainerOptions
from multimodal.trainer.weighting import TASK_WEIGHT, LearnedTaskWeights
from multimodal.transfer.adaptation.objectives import create_adaptation
from multimodal.transfer.plan import OptimizerSpec
from multimodal.transfer.strategies import Finetune


def main(folder: Path, media: Path, kinds: list[str]) -> None:
    torch.set_num_threads(1)
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    with processes() as group:
        for kind in kinds:
            train(folder / kind, media, kind, group)


def train(folder: Path, media: Path, kind: str, group: Processes) -> None:
    folder.mkdir(exist_ok=True)
    rows, corrupt = make_rows(media, 13), kind == "corrupt"
    weights = {"color": 1.0, "price": 1.0}
    for index, row in enumerate(rows):
        row |= {} if index == 4 else {"price": None, "image": "no.png" if corrupt else None}
    model = make_model(norm="batch" if kind == "batch" else "group")
    data: SampleDataset = make_dataset(rows, media, model)
    order: StepOrder = Order(13, batch_size=4, seed=1)
    if kind == "dann":
        data, order = domains(make_dataset(rows, media, model)), domain_order([(13, None)], 13, batch_size=4, seed=1)
        model.objectives["adapt"] = create_adaptation("dann", {None: 8, "text": 8}, {}, weight=1.0)
    if kind == "uncertainty":
        model.objectives[TASK_WEIGHT] = LearnedTaskWeights(weights)
    options = TrainerOptions(
        optimizer=OptimizerSpec(learning_rate=1e-2),
        seed=1,
        task_weights=weights,
        on_error="skip",
        project_conflicts=kind == "pcgrad",
        gradient_cosine=True,
    )
    trainer = Trainer(model, StepLoader(data, order, accumulate=2), folder, options=options, processes=group)
    state = trainer.fit(Finetune().plan(model, 1 if corrupt else 3))
    if group.is_main:
        (folder / "losses.json").write_text(json.dumps([entry["loss"] for entry in state.history]))
        (folder / "skipped.json").write_text(json.dumps(sorted(map(int, state.skipped_rows))))


def domains(labelled: RecordDataset) -> JoinedDataset:
    records = labelled.records.without(["color", "price"])
    source = RecordDataset(labelled.records, labelled.readers, labelled.targets, origin=SOURCE)
    return JoinedDataset([source, RecordDataset(records, labelled.readers, labelled.targets, origin=UNLABELLED)])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
