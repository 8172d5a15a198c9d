"""Losses beside those of the tasks train with the model, resume with it, and leave with the training."""

from pathlib import Path

import pytest
import torch
from support.assertions import assert_close
from support.tiny_models import make_dataset, make_model, make_rows
from torch import Tensor, nn

from multimodal.data.dataset import StepLoader
from multimodal.data.order import Order
from multimodal.model import MultimodalModel
from multimodal.model.objective import Objective, StepContext
from multimodal.trainer import Trainer
from multimodal.trainer.state import TrainerOptions
from multimodal.transfer.plan import OptimizerSpec
from multimodal.transfer.strategies import Finetune


class PullTo(Objective):
    """Pulls a learned vector to the mean fused vector, and the fused vector to it."""

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength, self.middle = strength, nn.Parameter(torch.zeros(8))
        self.seen: list[tuple[int, float]] = []

    def forward(self, seen: StepContext) -> Tensor:
        self.seen.append((len(seen.batch.rows), seen.progress))
        return self.strength * (seen.output.fused - self.middle).square().mean()


def train(folder: Path, objective: Objective | None, *, parts: int = 1, epochs: int = 2) -> MultimodalModel:
    model = make_model()
    if objective is not None:
        model.objectives["pull"] = objective
    data = make_dataset(make_rows(folder / "media", 12), folder / "media", model)
    options = TrainerOptions(OptimizerSpec(learning_rate=1e-2), task_weights={"color": 1.0, "price": 1.0})
    trainer = Trainer(model, StepLoader(data, Order(12, 4, seed=0), parts), folder, options=options)
    trainer.fit(Finetune().plan(model, epochs))
    return model


def test_an_objective_changes_what_is_learned_and_learns_itself(tmp_path):
    objective = PullTo()
    pulled, plain = train(tmp_path / "a", objective), train(tmp_path / "b", None)
    assert objective.middle.abs().sum() > 0
    other = dict(pulled.named_parameters())
    for name, parameter in plain.named_parameters():
        if "missing" not in name:  # every record here has both inputs
            assert not torch.equal(parameter, other[name]), name


def test_an_objective_of_strength_zero_changes_nothing(tmp_path):
    idle, plain = train(tmp_path / "a", PullTo(0.0)), train(tmp_path / "b", None)
    for name, tensor in plain.state_dict().items():
        assert_close(idle.state_dict()[name], tensor)


def test_an_objective_sees_every_part_and_how_far_the_phase_is(tmp_path):
    objective = PullTo()
    train(tmp_path, objective, parts=2, epochs=2)
    assert [rows for rows, _ in objective.seen] == [2] * 12
    assert [progress for _, progress in objective.seen] == pytest.approx([step / 6 for step in range(6) for _ in "ab"])
