"""Weights of the tasks that are learned with the rest, and what a job says of its tasks' conflicts."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support.assertions import assert_close
from support.tiny_models import make_dataset, make_model, make_rows

from multimodal.config import ConfigError, parse_job
from multimodal.data.dataset import StepLoader
from multimodal.data.order import Order
from multimodal.model import MultimodalModel
from multimodal.run import Run
from multimodal.trainer import Trainer
from multimodal.trainer.gradients import conflict_lines, summarise_cosines
from multimodal.trainer.losses import combined_loss
from multimodal.trainer.state import TrainerOptions
from multimodal.trainer.step import Step
from multimodal.trainer.weighting import TASK_WEIGHT, LearnedTaskWeights, loss_weights
from multimodal.training import fit
from multimodal.transfer.multitask import UncertaintyWeighting
from multimodal.transfer.plan import OptimizerSpec
from multimodal.transfer.strategies import Finetune

WEIGHTS = {"color": 1.0, "price": 0.5}
SEEN: Any = None  # the loss of learned weights looks at nothing


def total(learned: LearnedTaskWeights, losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return combined_loss(losses, learned.weights()) + learned(SEEN)


def test_at_equal_weights_the_loss_is_that_of_the_paper():
    learned, paper = LearnedTaskWeights({"a": 1.0, "b": 1.0}), UncertaintyWeighting(2)
    values = torch.tensor([0.3, -1.2])
    for module in (learned.uncertainty, paper):
        module.log_variances.data.copy_(values)
    losses = torch.tensor([2.0, 0.5])
    assert_close(total(learned, {"a": losses[0], "b": losses[1]}), paper(losses))


def test_each_weight_goes_to_that_set_over_twice_the_loss():
    """s* = ln L, so that w exp(-s) / 2 = w / (2 L), and a task counts w (1 + ln L) / 2."""
    learned, losses = LearnedTaskWeights({"a": 1.0, "b": 3.0}), {"a": torch.tensor(2.0), "b": torch.tensor(0.5)}
    optimizer = torch.optim.LBFGS(learned.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = total(learned, losses)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert_close([learned.report()[task] for task in "ab"], [1 / 4, 3.0], "optimum")
    assert_close(total(learned, losses), (1 + torch.tensor(2.0).log()) / 2 + 3 * (1 - torch.tensor(2.0).log()) / 2)


def test_without_them_the_weights_are_those_that_were_set():
    model = make_model()
    assert loss_weights(model, WEIGHTS) is WEIGHTS
    model.objectives[TASK_WEIGHT] = LearnedTaskWeights(WEIGHTS)
    assert [weight.item() for weight in loss_weights(model, WEIGHTS).values()] == [0.5, 0.25]


# --- in the loop -------------------------------------------------------------------------------------------------


def make_trainer(folder: Path, *, parts: int = 1) -> tuple[MultimodalModel, Trainer]:
    model = make_model()
    model.objectives[TASK_WEIGHT] = LearnedTaskWeights(WEIGHTS)
    data = make_dataset(make_rows(folder / "media", 13, gaps=True), folder / "media", model)
    options = TrainerOptions(
        optimizer=OptimizerSpec(learning_rate=1e-2, weight_decay=0.5), task_weights=WEIGHTS, checkpoint_steps=2
    )
    return model, Trainer(model, StepLoader(data, Order(13, 4, seed=0), parts), folder, options=options)


def test_they_learn_without_weight_decay_and_stand_in_the_history(tmp_path):
    model, trainer = make_trainer(tmp_path)
    trainer.fit(Finetune().plan(model, 3))
    learned = model.objectives[TASK_WEIGHT]
    assert learned.uncertainty.log_variances.abs().min() > 0
    with (tmp_path / "history.csv").open(encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    assert [float(last[f"task_weight.{task}"]) for task in WEIGHTS] == pytest.approx(list(learned.report().values()))


def test_they_are_not_decayed(tmp_path):
    decayed: list[float] = []
    original = Step.__init__

    def look(self: Step, model: MultimodalModel, optimizer: torch.optim.Optimizer, *rest: Any, **options: Any) -> None:
        learned = {id(parameter) for parameter in model.objectives.parameters()}
        for group in optimizer.param_groups:
            decayed.extend(group["weight_decay"] for parameter in group["params"] if id(parameter) in learned)
        original(self, model, optimizer, *rest, **options)

    model, trainer = make_trainer(tmp_path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Step, "__init__", look)
        trainer.fit(Finetune().plan(model, 1))
    assert decayed == [0.0]


def test_accumulated_parts_give_the_step_of_the_whole(tmp_path):
    (whole, one), (cut, other) = make_trainer(tmp_path / "a"), make_trainer(tmp_path / "b", parts=2)
    one.fit(Finetune().plan(whole, 1))
    other.fit(Finetune().plan(cut, 1))
    for name, tensor in whole.state_dict().items():
        assert_close(cut.state_dict()[name], tensor, "steps")


def test_a_resumed_run_ends_with_the_same_weights(tmp_path):
    whole, trainer = make_trainer(tmp_path / "whole")
    trainer.fit(Finetune().plan(whole, 3))
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    newest = sorted((tmp_path / "killed/checkpoints").glob("step-*"))[-1]
    newest.unlink()  # resumes from the one before
    again, trainer = make_trainer(tmp_path / "killed")
    trainer.fit(Finetune().plan(again, 3), resume=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


# --- in a job ----------------------------------------------------------------------------------------------------


def make_job(**train: Any) -> dict[str, Any]:
    return {
        "name": "weighted",
        "data": {"workers": 0},
        "inputs": {"image": {"encoder": "compact/image", "weights": None, "options": {"image_size": 32}}},
        "fusion": {"name": "concat", "dim": 8},
        "tasks": {"color": {}, "price": {"type": "regression", "weight": 2.0}},
        "train": {"epochs": 3, "batch_size": 8, **train},
    }


def run(folder: Path, **train: Any) -> Run:
    rows = make_rows(folder / "media", 18)
    job = parse_job(make_job(**train))
    return fit(job, train=rows, valid=rows[:6], root=folder / "media", out=folder / "run")


def test_learned_weights_are_told_and_leave_with_the_training(tmp_path):
    trained = run(tmp_path, task_weighting="uncertainty")
    assert trained.metrics["training"]["objectives"][TASK_WEIGHT].keys() == {"color", "price"}
    assert not any("objectives" in name for name in trained.model.state_dict())


def test_pcgrad_and_the_cosine_of_the_gradients_are_told(tmp_path):
    trained = run(tmp_path, task_weighting="pcgrad")
    (found,) = trained.metrics["training"]["gradient_cosine"].values()
    assert found["epochs"] == 3
    assert -1 <= found["mean"] <= 1


def test_cosines_are_not_measured_where_they_are_turned_off(tmp_path):
    trained = run(tmp_path, gradient_cosine=False)
    assert "gradient_cosine" not in trained.metrics["training"]
    assert "gradient_cosine" not in (trained.folder / "history.csv").read_text()


def test_pcgrad_without_anything_shared_is_refused(tmp_path):
    values = make_job(task_weighting="pcgrad")
    values["fusion"] = {"name": "late"}
    values["inputs"]["image"]["frozen"] = True
    rows = make_rows(tmp_path / "media", 9)
    with pytest.raises(ConfigError, match="share nothing that trains"):
        fit(parse_job(values), train=rows, valid=rows[:6], root=tmp_path / "media", out=tmp_path / "run", cache=False)


@pytest.mark.parametrize("way", ["uncertainty", "pcgrad"])
def test_one_task_has_nothing_to_be_weighted_against(way):
    values = make_job(task_weighting=way)
    del values["tasks"]["price"]
    with pytest.raises(ConfigError, match=r"train.task_weighting has no effect: .* there is one; leave it out"):
        parse_job(values)


# --- what the cosines say ----------------------------------------------------------------------------------------


def entries(*values: float) -> list[dict[str, float]]:
    return [{"epoch": float(index), "gradient_cosine.a.b": value} for index, value in enumerate(values)]


def test_tasks_that_clearly_conflict_are_named_with_what_to_try():
    (line,) = conflict_lines(summarise_cosines(entries(-0.3, -0.2, -0.25)))
    assert line.startswith("a and b pull what they share in opposite directions: mean gradient cosine -0.25 over 3")
    assert "train.task_weighting: pcgrad" in line
    assert "tasks.a.tower" in line


@pytest.mark.parametrize("values", [(0.3, 0.2, 0.1), (-0.3, 0.3, -0.1), (-0.3, -0.3), (-0.01, -0.011, -0.012)], ids=str)
def test_nothing_is_said_of_tasks_that_agree_or_of_noise(values):
    assert conflict_lines(summarise_cosines(entries(*values))) == []


def test_the_summary_is_json(tmp_path):
    assert json.loads(json.dumps(summarise_cosines(entries(0.5)))) == {"a.b": {"mean": 0.5, "error": None, "epochs": 1}}
