"""Trains the tiny model, gets a signal, and is stuck in a step or an evaluation for ever; run by test_stopping.py.

    python stop_worker.py FOLDER SIGNAL PLACE

``call``: in a step, in a call that never returns. ``loop``: in a step, in Python. ``evaluation``: as ``call``, there.
"""

import ctypes
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from support.tiny_models import make_dataset, make_model, make_rows

from multimodal.data.dataset import StepLoader
from multimodal.data.order import Order
from multimodal.trainer import Hooks, Trainer, trainer
from multimodal.trainer.state import TrainerOptions
from multimodal.transfer.strategies import Finetune


def stick_in_a_call(number: int) -> None:
    ready = threading.Event()

    def kill() -> None:
        ready.wait()
        os.kill(os.getpid(), number)

    sys.setswitchinterval(1000)  # the signal then comes when this thread is inside the call, never before
    threading.Thread(target=kill).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})  # another thread gets it, so that the call continues
    ready.set()
    ctypes.CDLL(None).select(0, None, None, None, None)


def stick_in_a_loop(number: int) -> None:
    os.kill(os.getpid(), number)
    while True:
        pass


def main(folder: Path, number: int, place: str) -> None:
    trainer.STEP_SECONDS = trainer.EVALUATION_SECONDS = 0.3
    model = make_model()
    data = make_dataset(make_rows(folder / "media", 20), folder / "media", model)
    calls = 0

    def hook(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3 and place != "evaluation":
            (stick_in_a_loop if place == "loop" else stick_in_a_call)(number)

    def evaluate() -> tuple[dict[str, float], float]:
        stick_in_a_call(number)
        raise AssertionError("it is stuck")

    model.heads["color"].register_forward_hook(hook)
    options = TrainerOptions(checkpoint_steps=2, task_weights={"color": 1.0, "price": 1.0})
    hooks = Hooks(evaluate if place == "evaluation" else None)
    loader = StepLoader(data, Order(20, 5, seed=0), workers=1)
    training = Trainer(model, loader, folder, options=options, hooks=hooks)
    training.fit(Finetune().plan(model, 2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(signal.Signals[sys.argv[2]]), sys.argv[3])
