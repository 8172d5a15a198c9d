"""Trains an embedding task in as many processes as torchrun started; run by test_embedding_distributed.py.

"arcface": a whole job, of which some records have no label. "odd": one whose groups two processes cannot share.
"supcon": groups of two records of a label; one process then has two parts of a step (``accumulate``) that hold what
the two processes get.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from support.assertions import changed
from support.synthetic_products import CONFIG
from support.tiny_models import make_dataset, make_model, make_rows

from multimodal.config import parse_job
from multimodal.data.dataset import StepLoader
from multimodal.data.order import LabelOrder, StepOrder
from multimodal.model.embedding_heads import SupConHead
from multimodal.records.targets import ClassTarget
from multimodal.runtime.distributed import processes
from multimodal.trainer import Trainer
from multimodal.trainer.state import TrainerOptions
from multimodal.training import fit
from multimodal.transfer.plan import OptimizerSpec
from multimodal.transfer.strategies import Finetune


class OneAfterTheOther(LabelOrder):
    """The same steps, the groups of the first of two processes before those of the second."""

    def blocks(self, epoch: int) -> list[list[np.ndarray]]:
        return [[np.concatenate([block[0::2], block[1::2]])] for (block,) in super().blocks(epoch)]


def arcface(folder: Path, shop: Path) -> None:
    job = {"tasks.product.tower": [8], "train.epochs": 2, "train.batch_size": 5, "train.device": "cpu"}
    job |= {"train.optimizer": "sgd", "train.learning_rate": 0.1}  # AdamW makes steps of rounding differences
    fit(parse_job(changed(CONFIG, job)), train=shop / "train.csv", valid=shop / "valid.csv", out=folder, cache=False)


def odd(folder: Path, shop: Path) -> None:
    job = {"tasks.product.records_per_label": 3, "train.batch_size": 9, "train.device": "cpu"}
    fit(parse_job(changed(CONFIG, job)), train=shop / "train.csv", out=folder, cache=False)


def supcon(folder: Path, media: Path) -> None:
    rows = make_rows(media, 14)
    with processes() as group:
        model = make_model()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model.heads["color"] = SupConHead(model.fusion.out_dim, width=4)
        data = make_dataset(rows, media, model)
        reader = data.targets["color"]
        assert isinstance(reader, ClassTarget)
        data.targets["color"] = replace(reader, open_set=True)
        labels = np.array([reader.index[row["color"]] for row in rows])
        order: StepOrder = (LabelOrder if group.world > 1 else OneAfterTheOther)(labels, 8, 0, 2)
        trainer = Trainer(
            model,
            StepLoader(data, order, accumulate=1 if group.world > 1 else 2),
            folder,
            options=TrainerOptions(
                optimizer=OptimizerSpec(learning_rate=1e-2),
                seed=1,
                task_weights={"color": 1.0, "price": 1.0},
                gradient_cosine=True,
            ),
            processes=group,
        )
        state = trainer.fit(Finetune().plan(model, 3))
        if group.is_main:
            (folder / "losses.json").write_text(json.dumps([entry["loss"] for entry in state.history]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"arcface": arcface, "odd": odd, "supcon": supcon}[sys.argv[3]](Path(sys.argv[1]), Path(sys.argv[2]))
