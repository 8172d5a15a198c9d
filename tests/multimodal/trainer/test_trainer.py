"""The loop: what is frozen stays, what is killed resumes bit by bit, what is not finite is left out."""

import csv
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from support.assertions import assert_close, near
from support.interruption import KilledError, kill_at
from support.tiny_models import make_dataset, make_model, make_rows
from torch import Tensor

from multimodal.data.dataset import Batch, StepLoader, collate
from multimodal.data.order import Order
from multimodal.model import MultimodalModel
from multimodal.records import RecordError
from multimodal.runtime.checkpoint import load_newest_checkpoint
from multimodal.trainer import Hooks, Trainer
from multimodal.trainer.losses import combined_loss, task_losses
from multimodal.trainer.state import TrainerOptions, TrainingError
from multimodal.transfer.plan import OptimizerSpec, ParamGroup, Phase, TransferStrategy
from multimodal.transfer.strategies import Finetune, LinearProbe, ProbeThenFinetune, TwoPhase

WEIGHTS = {"color": 1.0, "price": 0.5}


def make_trainer(folder: Path, model: MultimodalModel, *, n: int = 22, gaps: bool = True, **options) -> Trainer:
    hooks, parts = Hooks(options.pop("evaluate", None)), options.pop("accumulate", 1)
    data = make_dataset(make_rows(folder / "media", n, gaps=gaps), folder / "media", model)
    defaults = {"optimizer": OptimizerSpec(learning_rate=1e-2), "seed": 3, "task_weights": WEIGHTS}
    return Trainer(
        model,
        StepLoader(data, Order(n, batch_size=5, seed=3), parts),
        folder,
        options=TrainerOptions(**{**defaults, **options}),
        hooks=hooks,
    )


def train(folder: Path, strategy: TransferStrategy, *, epochs: int = 3, **options) -> MultimodalModel:
    model = make_model(norm="batch", dropout=0.2, modality_dropout=0.3)
    make_trainer(folder, model, **options).fit(strategy.plan(model, epochs))
    return model


def assert_same(left: MultimodalModel, right: MultimodalModel) -> None:
    other = right.state_dict()
    for name, value in left.state_dict().items():
        assert torch.equal(value, other[name]), name


def test_probe_leaves_the_encoders_bit_identical_with_their_batchnorm_buffers(tmp_path):
    before = make_model(norm="batch").state_dict()
    after = train(tmp_path, LinearProbe()).state_dict()
    for name in before:
        assert torch.equal(before[name], after[name]) == name.startswith("encoders."), name


def test_finetune_changes_every_parameter(tmp_path):
    before = dict(make_model(norm="batch").named_parameters())
    for name, parameter in train(tmp_path, Finetune()).named_parameters():
        assert not torch.equal(before[name], parameter), name


def test_training_lowers_the_loss(tmp_path):
    model = make_model()
    state = make_trainer(tmp_path, model, n=30).fit(Finetune().plan(model, 12))
    assert state.history[-1]["loss"] < 0.5 * state.history[0]["loss"]


def test_the_same_seed_gives_the_same_weights(tmp_path):
    assert_same(train(tmp_path / "a", Finetune()), train(tmp_path / "b", Finetune()))


def train_until(
    step: int, monkeypatch: pytest.MonkeyPatch, folder: Path, strategy: TransferStrategy, **options
) -> None:
    """Trains, and is stopped in the middle of the given step as if the process had been killed."""
    with monkeypatch.context() as patched:
        kill_at(patched, step)
        with pytest.raises(KilledError):
            train(folder, strategy, **options)


@pytest.mark.parametrize("step", [1, 4, 7, 11, 14])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path, monkeypatch, step):
    strategy = ProbeThenFinetune(probe_epochs=1)
    options = {"checkpoint_steps": 3, "accumulate": 2}
    whole = train(tmp_path / "whole", strategy, **options)
    train_until(step, monkeypatch, tmp_path / "killed", strategy, **options)
    model = make_model(norm="batch", dropout=0.2, modality_dropout=0.3)
    make_trainer(tmp_path / "killed", model, **options).fit(strategy.plan(model, 3), resume=True)
    assert_same(whole, model)


def test_history_after_a_resume_is_that_of_an_uninterrupted_run(tmp_path, monkeypatch):
    train(tmp_path / "whole", Finetune(), checkpoint_steps=2)
    train_until(8, monkeypatch, tmp_path / "killed", Finetune(), checkpoint_steps=2)
    model = make_model(norm="batch", dropout=0.2, modality_dropout=0.3)
    make_trainer(tmp_path / "killed", model, checkpoint_steps=2).fit(Finetune().plan(model, 3), resume=True)
    assert (tmp_path / "killed/history.csv").read_bytes() == (tmp_path / "whole/history.csv").read_bytes()


def test_a_torn_checkpoint_is_passed_over(tmp_path, monkeypatch, caplog):
    whole = train(tmp_path / "whole", Finetune(), checkpoint_steps=2)
    train_until(8, monkeypatch, tmp_path / "killed", Finetune(), checkpoint_steps=2)
    newest = sorted((tmp_path / "killed/checkpoints").glob("step-*"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    model = make_model(norm="batch", dropout=0.2, modality_dropout=0.3)
    make_trainer(tmp_path / "killed", model, checkpoint_steps=2).fit(Finetune().plan(model, 3), resume=True)
    assert "is torn" in caplog.text
    assert_same(whole, model)


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    whole = train(tmp_path, Finetune())
    model = make_model(norm="batch", seed=9)
    make_trainer(tmp_path, model).fit(Finetune().plan(model, 3), resume=True)
    assert_same(whole, model)


def test_accumulation_gives_the_same_step(tmp_path):
    def plain(folder: Path, accumulate: int) -> MultimodalModel:
        model = make_model()  # without dropout: each part would draw its own
        trainer = make_trainer(folder, model, accumulate=accumulate, optimizer=OptimizerSpec("sgd", 1e-2, momentum=0.0))
        trainer.fit(Finetune().plan(model, 1))
        return model

    whole, parts = plain(tmp_path / "1", 1).state_dict(), plain(tmp_path / "3", 3).state_dict()
    for name, value in whole.items():
        assert_close(value, parts[name], "steps")


def test_the_best_weights_are_kept(tmp_path):
    model = make_model()
    snapshots: list[Tensor] = []
    scores = iter([0.1, 0.9, 0.5])

    def evaluate() -> tuple[dict[str, float], float]:
        snapshots.append(model.heads["color"].linear.weight.detach().clone())
        return {"color.accuracy": 0.5}, next(scores)

    state = make_trainer(tmp_path, model, evaluate=evaluate).fit(Finetune().plan(model, 3))
    assert state.best_score == 0.9
    assert torch.equal(model.heads["color"].linear.weight, snapshots[1])


def test_the_second_phase_begins_where_the_best_probe_was(tmp_path):
    model = make_model()
    snapshots: list[Tensor] = []
    scores = iter([0.9, 0.1, 0.95])

    def evaluate() -> tuple[dict[str, float], float]:
        snapshots.append(model.heads["color"].linear.weight.detach().clone())
        return {}, next(scores)

    tiny_steps = OptimizerSpec(learning_rate=1e-12)
    probe, finetune = ProbeThenFinetune(probe_epochs=2).plan(model, 3)
    finetune = Phase(finetune.name, 1, finetune.groups, tiny_steps)
    make_trainer(tmp_path, model, evaluate=evaluate).fit([probe, finetune])
    assert_close(snapshots[2], snapshots[0], "six digits")


def test_the_second_phase_begins_with_the_loss_at_which_the_first_ended(tmp_path):
    """A step on all records reports the loss from before it: that of the first phase's end."""
    model = make_model()
    rows = make_rows(tmp_path / "media", 8)
    data = make_dataset(rows, tmp_path / "media", model)
    batch = collate([data[0, row] for row in range(8)], data.readers, data.targets)
    losses: list[float] = []

    def evaluate() -> tuple[dict[str, float], float]:
        losses.append(float(step_loss(model, batch)))
        return {}, len(losses) / 10  # each epoch is the best so far

    options = TrainerOptions(OptimizerSpec(learning_rate=1e-2), task_weights=WEIGHTS)
    loader = StepLoader(data, Order(8, 8, seed=0))
    trainer = Trainer(model, loader, tmp_path, options=options, hooks=Hooks(evaluate))
    history = trainer.fit(TwoPhase(probe_epochs=4).plan(model, 6)).history
    assert [entry["phase"] for entry in history] == ["probe"] * 4 + ["finetune"] * 2
    assert history[4]["loss"] == near(losses[3], "six digits")
    assert history[3]["loss"] > losses[3]  # the probe learned something


def step_loss(model: MultimodalModel, batch: Batch) -> Tensor:
    with torch.no_grad():
        losses = task_losses(model, model(batch.inputs), batch, list(WEIGHTS), torch.full((2,), 8.0))
    return combined_loss(losses, WEIGHTS)


def test_patience_ends_a_phase(tmp_path):
    model = make_model()
    scores = iter([0.5, 0.4, 0.3, 0.2, 0.1])
    trainer = make_trainer(tmp_path, model, patience=2, evaluate=lambda: ({}, next(scores)))
    assert len(trainer.fit(Finetune().plan(model, 5)).history) == 3


def poison(model: MultimodalModel, calls: set[int]) -> None:
    """Makes the loss NaN in the given forward passes (from 1)."""
    count = 0

    def hook(module: torch.nn.Module, args: tuple, output: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return output * float("nan") if count in calls else output

    model.heads["color"].linear.register_forward_hook(hook)


def test_a_step_with_a_loss_that_is_not_finite_is_left_out_and_its_rows_named(tmp_path):
    model = make_model(norm="group")
    poison(model, {2})
    state = make_trainer(tmp_path, model).fit(Finetune().plan(model, 1))
    order = np.array_split(Order(22, 5, 3).rows(0), 5)
    assert state.non_finite == [{"step": 2, "rows": order[1].tolist()}]
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_such_a_step_leaves_running_statistics_as_they_were(tmp_path):
    model = make_model(norm="batch")
    tracked: list[int] = []

    def spoil(module: torch.nn.Module, args: tuple, output: Tensor) -> Tensor:
        tracked.append(int(model.encoders["image"].norm.num_batches_tracked))
        return output * float("nan") if len(tracked) == 2 else output

    model.encoders["image"].first.register_forward_hook(spoil)
    make_trainer(tmp_path, model).fit(Finetune().plan(model, 1))
    assert tracked == [0, 1, 1, 2, 3]
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_a_step_after_one_that_was_left_out_is_made_with_a_scaler_too(tmp_path):
    model = make_model()
    poison(model, {2})
    trainer = make_trainer(tmp_path, model)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, enabled=True)  # as fp16 has one on CUDA
    state = trainer.fit(Finetune().plan(model, 1))
    assert [entry["step"] for entry in state.non_finite] == [2]
    assert trainer.scaler.get_scale() == 4.0


def test_three_such_steps_in_a_row_stop_the_run(tmp_path):
    model = make_model()
    poison(model, {2, 3, 4})
    with pytest.raises(TrainingError, match=r"3 steps in a row, up to step 4.*lower train.learning_rate"):
        make_trainer(tmp_path, model).fit(Finetune().plan(model, 1))


def test_an_unreadable_record_stops_training_and_is_named(tmp_path):
    model = make_model()
    trainer = make_trainer(tmp_path, model, gaps=False)
    (tmp_path / "media/7.png").write_bytes(b"torn")
    with pytest.raises(RecordError, match=r"records, row 8, column image: '7.png'"):
        trainer.fit(Finetune().plan(model, 1))


def test_an_unreadable_record_can_be_skipped_and_is_listed(tmp_path):
    model = make_model()
    trainer = make_trainer(tmp_path, model, gaps=False, on_error="skip")
    (tmp_path / "media/7.png").write_bytes(b"torn")
    state = trainer.fit(Finetune().plan(model, 2))
    assert list(state.skipped_rows) == ["7"]
    assert "row 8, column image" in state.skipped_rows["7"]


def test_sigterm_saves_and_exits(tmp_path):
    model = make_model()
    trainer = make_trainer(tmp_path, model)
    calls = 0

    def hook(*args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    model.heads["color"].register_forward_hook(hook)
    with pytest.raises(SystemExit) as exit_info:
        trainer.fit(Finetune().plan(model, 2))
    assert exit_info.value.code == 143
    checkpoint = load_newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.step == 3
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_history_is_a_table_with_a_line_an_epoch(tmp_path):
    train(tmp_path, Finetune(), evaluate=lambda: ({"color.accuracy": 0.5}, 0.5))
    with (tmp_path / "history.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["epoch"] for line in lines] == ["1", "2", "3"]
    assert lines[0]["color.accuracy"] == "0.5"


def test_a_plan_that_names_no_such_parameter_is_refused(tmp_path):
    model = make_model()
    with pytest.raises(ValueError, match=r"of which the model has no .'nothing.weight'."):
        make_trainer(tmp_path, model).fit([Phase("odd", 1, (ParamGroup("odd", ("nothing.weight",)),))])


def test_bf16_trains(tmp_path):
    model = make_model()
    state = make_trainer(tmp_path, model, precision="bf16", gaps=False).fit(Finetune().plan(model, 2))
    assert np.isfinite(state.history[-1]["loss"])


@pytest.mark.gpu
def test_cuda_trains_in_bf16_and_fp16(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    for precision in ("bf16", "fp16"):
        model = make_model().cuda()
        state = make_trainer(tmp_path / precision, model, precision=precision).fit(Finetune().plan(model, 2))
        assert np.isfinite(state.history[-1]["loss"])
