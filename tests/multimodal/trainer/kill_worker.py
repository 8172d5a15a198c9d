"""Trains the tiny model and kills itself with SIGKILL at a given moment; run by test_kill.py.

    python kill_worker.py FOLDER MEDIA [step:N | write:N]

``step:N`` dies inside the N-th optimizer step of this process, ``write:N`` while its N-th file is half written.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from support.tiny_models import make_dataset, make_model, make_rows

from multimodal.data.dataset import StepLoader
from multimodal.data.order import Order
from multimodal.runtime import checkpoint
from multimodal.runtime.checkpoint import save_tensors
from multimodal.trainer import Trainer
from multimodal.trainer.state import TrainerOptions
from multimodal.transfer.plan import OptimizerSpec
from multimodal.transfer.strategies import ProbeThenFinetune


def die_at(moment: str) -> None:
    kind, _, number = moment.partition(":")
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == int(number):
            os.kill(os.getpid(), signal.SIGKILL)

    if kind == "step":
        original = torch.optim.AdamW.step

        def step(self: torch.optim.AdamW, closure: Any = None) -> Any:
            count()
            return original(self, closure)

        torch.optim.AdamW.step = step
    else:
        write = checkpoint.write_atomically

        def write_half(path: Path, content: bytes) -> None:
            if calls + 1 == int(number):
                path.with_name(f".{path.name}.partial").write_bytes(content[: len(content) // 2])
            count()
            write(path, content)

        checkpoint.write_atomically = write_half


def main(folder: Path, media: Path, moment: str | None) -> None:
    if moment is not None:
        die_at(moment)
    model = make_model(norm="batch", dropout=0.2, modality_dropout=0.3)
    data = make_dataset(make_rows(media, 22, gaps=True), media, model)
    weights = {"color": 1.0, "price": 0.5}
    options = TrainerOptions(OptimizerSpec(learning_rate=1e-2), seed=3, checkpoint_steps=2, task_weights=weights)
    loader = StepLoader(data, Order(22, batch_size=5, seed=3), workers=1)
    trainer = Trainer(model, loader, folder, options=options)
    trainer.fit(ProbeThenFinetune(probe_epochs=1).plan(model, 3), resume=True)
    save_tensors(folder / "model.safetensors", model.state_dict())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
