"""SIGTERM and Ctrl-C end a training wherever it is: with a checkpoint where its state is whole."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from support.tiny_models import make_dataset, make_model, make_rows

from multimodal.data.dataset import RecordDataset, Sample, StepLoader
from multimodal.data.order import Order
from multimodal.model import MultimodalModel
from multimodal.runtime.checkpoint import load_newest_checkpoint
from multimodal.runtime.stopping import Stopped, StopSignals
from multimodal.trainer import Trainer
from multimodal.trainer.state import TrainerOptions
from multimodal.transfer.strategies import Finetune

WORKER = Path(__file__).with_name("stop_worker.py")
N, STEPS = 22, 5
"""Records, and steps of an epoch."""


class BlockedDataset(RecordDataset):
    """Has its process send a signal to that which trains when it comes to a row, and wait for ever."""

    key, signal = (0, -2), signal.SIGTERM

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        if key == self.key:
            os.kill(os.getppid(), self.signal)
            threading.Event().wait()
        return super().__getitem__(key)


def make_trainer(folder: Path, model: MultimodalModel, *, workers: int = 0, step: int | None = None) -> Trainer:
    """Training that waits for ever for the records of a step (from 0); None waits for none."""
    plain = make_dataset(make_rows(folder / "media", N), folder / "media", model)
    data = BlockedDataset(plain.records, plain.readers, plain.targets)
    order = Order(N, batch_size=5, seed=3)
    if step is not None:
        data.key = (step // STEPS, int(order.blocks(step // STEPS)[step % STEPS][0][0]))
    options = TrainerOptions(task_weights={"color": 1.0, "price": 0.5})
    return Trainer(model, StepLoader(data, order, workers=workers), folder, options=options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> MultimodalModel:
    """Trained without a stop."""
    model = make_model()
    make_trainer(tmp_path_factory.mktemp("whole"), model).fit(Finetune().plan(model, 2))
    return model


@pytest.mark.parametrize(("workers", "step"), [(1, 0), (1, 2), (2, 5), (1, 8), (2, 8)])
def test_sigterm_while_a_batch_is_waited_for_saves_what_was_trained(whole, tmp_path, workers, step):
    model = make_model()
    with pytest.raises(SystemExit) as exit_info:
        make_trainer(tmp_path, model, workers=workers, step=step).fit(Finetune().plan(model, 2))
    assert exit_info.value.code == 143
    checkpoint = load_newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.step <= step  # the process reads ahead
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    resumed = make_model()
    make_trainer(tmp_path, resumed).fit(Finetune().plan(resumed, 2), resume=True)
    other = whole.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in resumed.state_dict().items())


def test_ctrl_c_while_a_batch_is_waited_for_ends_the_training(tmp_path):
    model = make_model()
    trainer = make_trainer(tmp_path, model, workers=1, step=1)
    trainer.loader.data.signal = signal.SIGINT
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(Finetune().plan(model, 1))
    finally:
        signal.signal(signal.SIGINT, before)


def test_of_several_processes_none_leaves_alone():
    signals = StopSignals(at_once=False)
    with signals.heard():
        os.kill(os.getpid(), signal.SIGTERM)
        signals.check()
    assert signals.asked


def test_who_waits_learns_of_the_signal():
    signals = StopSignals(at_once=True)
    with signals.heard():
        signals.check()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):
            signals.check()


def test_another_thread_leaves_signals_as_they_are():
    def hear() -> None:
        with StopSignals(at_once=True).heard():
            seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[object] = []
    thread = threading.Thread(target=hear)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_who_listened_to_signals_before_goes_on_hearing_of_them(number):
    heard, told = os.pipe()
    os.set_blocking(told, False)
    before = signal.set_wakeup_fd(told)
    handler = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        with StopSignals(at_once=True).heard():
            os.kill(os.getpid(), number)
            assert os.read(heard, 1) == bytes([number])
        assert signal.set_wakeup_fd(told) == told
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGUSR1, handler)
        os.close(heard)
        os.close(told)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "place"),
    [("SIGTERM", "call"), ("SIGTERM", "loop"), ("SIGTERM", "evaluation"), ("SIGINT", "call"), ("SIGINT", "evaluation")],
)
def test_a_step_that_never_ends_is_given_up(tmp_path, name, place):
    root = WORKER.parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")])}
    command = [sys.executable, str(WORKER), str(tmp_path), name, place]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 128 + signal.Signals[name], done.stderr
    assert f"ended by {name}: what was under way did not end within" in done.stderr
    checkpoint = load_newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.step == 2
