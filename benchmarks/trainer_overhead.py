"""What the Trainer costs over a loop written by hand, side by side: same model, data, workers, optimizer and clipping.

    python benchmarks/trainer_overhead.py [--pairs 11] [--workers 1]

The data are the demo's 2,000 drawn things, the model is compact/image at 32 pixels with two heads: a small one, so
that overhead shows. Each pair runs one epoch (125 steps of 16) of both loops, in alternating order; timed is from the
start of the second step to the start of the last, so that neither starting workers nor writing the checkpoint counts.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

import multimodal as mm
from multimodal.builders.training import build_trainer_options
from multimodal.demo.data import unpack_demo_data
from multimodal.job import TrainingSetup
from multimodal.splits.tables import read_tables
from multimodal.trainer import Trainer
from multimodal.trainer.step import Step
from multimodal.transfer.strategies import Finetune

CPU = torch.device("cpu")


def make_setup(folder: Path, workers: int) -> TrainingSetup:
    data = unpack_demo_data(folder)
    job = mm.Job(
        data=mm.Data(train=str(data.source), valid=str(data.source_valid), workers=workers),
        inputs={"image": mm.Input(encoder="compact/image", weights=None, options={"image_size": 32})},
        fusion=mm.Fusion(name="concat", dim=64),
        tasks={"object": mm.Task(), "pattern": mm.Task()},
        transfer=mm.Transfer(strategy="finetune"),
        train=mm.Train(epochs=1, batch_size=16),
    )
    return TrainingSetup.build(job, read_tables(job), folder)


def by_hand(setup: TrainingSetup) -> float:
    """Seconds a step of the plainest loop that does the same."""
    model, loader = setup.model, setup.loader
    steps = loader.order.steps_per_epoch
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}], lr=1e-3
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    starts = []
    total = 0.0
    model.train()
    for [batch] in loader.steps(0, steps):
        starts.append(time.perf_counter())
        outputs = model(batch.inputs).outputs
        loss = torch.stack([F.cross_entropy(outputs[task], batch.targets[task]) for task in outputs]).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*matrices, *vectors], 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
    return (starts[-1] - starts[1]) / (len(starts) - 2)


def by_trainer(setup: TrainingSetup) -> float:
    """Seconds a step of ``Trainer.fit``."""
    starts = []
    original = Step.__call__

    def timed(self: Step, *arguments: Any, **options: Any) -> float:
        starts.append(time.perf_counter())
        return original(self, *arguments, **options)

    with tempfile.TemporaryDirectory() as folder, patch.object(Step, "__call__", timed):
        options = build_trainer_options(setup.job, CPU)
        trainer = Trainer(setup.model, setup.loader, Path(folder), options=options)
        trainer.fit(Finetune().plan(setup.model, 1))
    return (starts[-1] - starts[1]) / (len(starts) - 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        setup = make_setup(Path(folder), given.workers)
        loops = (by_hand, by_trainer)
        for loop in loops:
            loop(setup)  # warm-up
        pairs = []
        for pair in range(given.pairs):
            order = loops if pair % 2 == 0 else loops[::-1]
            seconds = {loop.__name__: loop(setup) for loop in order}
            pairs.append((seconds["by_hand"], seconds["by_trainer"]))
    hand = statistics.median(hand for hand, _ in pairs)
    ratio = statistics.median(trainer / hand for hand, trainer in pairs)
    extra = statistics.median(trainer - hand for hand, trainer in pairs)
    print(f"by hand {hand * 1e3:.2f} ms a step; trainer/hand {ratio:.4f}; difference {extra * 1e6:.0f} us a step")
    print("pairs (ms): " + ", ".join(f"{hand * 1e3:.2f}/{trainer * 1e3:.2f}" for hand, trainer in pairs))


if __name__ == "__main__":
    main()
