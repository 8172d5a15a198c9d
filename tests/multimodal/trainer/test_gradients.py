"""Gradients of single tasks: seen without changing anything, and with what conflicts taken out."""

import csv
from pathlib import Path

import pytest
import torch
from support.assertions import assert_close
from support.tiny_models import make_dataset, make_model, make_rows

from multimodal.config import ConfigError
from multimodal.data.dataset import Batch, StepLoader, collate
from multimodal.data.order import Order
from multimodal.model import MultimodalModel
from multimodal.runtime.distributed import Processes
from multimodal.trainer import Trainer
from multimodal.trainer.gradients import TaskGradients, check_shared, shared_parameters
from multimodal.trainer.losses import loss_normalizers, loss_terms, task_losses, weighted_losses
from multimodal.trainer.state import TrainerOptions
from multimodal.trainer.step import Step
from multimodal.transfer.multitask import gradient_cosines, project_conflicts
from multimodal.transfer.plan import OptimizerSpec, ParamGroup, Phase
from multimodal.transfer.strategies import Finetune, LinearProbe

WEIGHTS = {"color": 1.0, "price": 0.5}
PAIR = "gradient_cosine.color.price"


def make_parts(folder: Path, model: MultimodalModel, cuts: int = 1, n: int = 12) -> list[Batch]:
    data = make_dataset(make_rows(folder, n, gaps=True), folder, model)
    rows = torch.arange(n).chunk(cuts)
    return [collate([data[0, int(row)] for row in cut], data.readers, data.targets) for cut in rows]


def one_by_one(model: MultimodalModel, batch: Batch) -> torch.Tensor:
    """Each task's gradient on encoders and fusion, by a backward pass of its own, [t p]."""
    rows = []
    for task, weight in WEIGHTS.items():
        model.zero_grad()
        totals = loss_normalizers([batch], loss_terms(model, [task]))
        (weight * task_losses(model, model(batch.inputs), batch, [task], totals)[task]).backward()
        shared = [*model.encoders.parameters(), *model.fusion.parameters()]
        rows.append(torch.cat([p.grad.flatten() for p in shared if p.grad is not None]))
    model.zero_grad()
    return torch.stack(rows)


def make_step(model: MultimodalModel, *, scaler: torch.amp.GradScaler | None = None, **options) -> Step:
    optimizer = torch.optim.SGD([{"params": list(model.parameters()), "lr_scale": 1.0}], lr=1.0)
    settings = TrainerOptions(clip_norm=None, task_weights=WEIGHTS, **options)
    scaler = torch.amp.GradScaler("cpu", enabled=False) if scaler is None else scaler
    return Step(model, optimizer, options=settings, scaler=scaler, processes=Processes())


@pytest.mark.parametrize("cuts", [1, 3])
def test_they_are_those_of_backward_passes_of_their_own_whatever_the_parts(tmp_path, cuts):
    model = make_model().eval()
    (whole,) = make_parts(tmp_path, model)
    parts = make_parts(tmp_path, model, cuts)
    totals = loss_normalizers(parts, loss_terms(model, list(WEIGHTS)))
    gradients = TaskGradients(shared_parameters(model), list(WEIGHTS))
    for part in parts:
        losses = task_losses(model, model(part.inputs), part, list(WEIGHTS), totals)
        gradients.add(weighted_losses(losses, WEIGHTS))
    expected = one_by_one(model, whole)
    assert_close(gradients.rows, expected)
    assert_close(gradients.cosines()["color.price"], gradient_cosines(expected)[0, 1])


def test_a_task_without_a_gradient_has_no_cosine():
    weight = torch.nn.Parameter(torch.ones(3))
    gradients = TaskGradients([weight], ["a", "b", "c"])
    gradients.add({"a": weight.sum(), "b": weight.sum() * 0, "c": -weight[0]})
    assert gradients.cosines() == {"a.c": pytest.approx(-(3**-0.5))}


# --- PCGrad ------------------------------------------------------------------------------------------------------


def conflicting(seed: int = 0) -> MultimodalModel:
    """A model whose two tasks conflict: the price is made to want what the colour does not."""
    model = make_model(seed=seed)
    with torch.no_grad():
        model.head("price").linear.weight.copy_(-3 * model.head("color").linear.weight[:1])
    return model


@pytest.mark.parametrize("cuts", [1, 3])
@pytest.mark.parametrize("scale", [None, 1024.0])
def test_a_step_moves_what_is_shared_by_the_projected_sum_and_each_head_by_its_own(tmp_path, cuts, scale):
    for seed in range(20):
        model = conflicting(seed)
        (whole,) = make_parts(tmp_path, model)
        rows = one_by_one(model, whole)
        if gradient_cosines(rows)[0, 1] < -0.01:
            break
    else:
        pytest.fail("no seed makes the tasks conflict")
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    plain = conflicting(seed)
    make_step(plain)(make_parts(tmp_path, model, cuts), 1.0, seed=5)
    make_step(model, project_conflicts=True, scaler=scaler)(make_parts(tmp_path, model, cuts), 1.0, seed=5)
    moved = torch.cat([(before[n] - p.detach()).flatten() for n, p in model.named_parameters() if "heads" not in n])
    assert_close(moved, project_conflicts(rows, generator=torch.Generator().manual_seed(5)), "rotated")
    for name, parameter in plain.heads.named_parameters():
        assert_close(dict(model.heads.named_parameters())[name], parameter)


def test_without_a_conflict_it_changes_nothing(tmp_path):
    plain, projected = make_model(), make_model()
    for model in (plain, projected):
        with torch.no_grad():
            model.head("price").linear.weight.zero_()  # no gradient reaches what is shared
    make_step(plain)(make_parts(tmp_path, plain), 0.1, seed=5)
    make_step(projected, project_conflicts=True)(make_parts(tmp_path, projected), 0.1, seed=5)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(projected.state_dict()[name], tensor), name


def test_a_job_whose_tasks_share_nothing_that_trains_is_refused():
    model = make_model(fusion="late")  # learns nothing, so that a probe trains the heads alone
    with pytest.raises(ConfigError, match=r"pcgrad, but the tasks share nothing that trains: .*fusion with dim"):
        check_shared(model, LinearProbe().plan(model, 1))
    check_shared(model, Finetune().plan(model, 1))
    heads = tuple(name for name, _ in model.named_parameters() if name.startswith("heads."))
    step = make_step(model, project_conflicts=True)
    assert step.shared
    for parameter in (*model.encoders.parameters(), *model.fusion.parameters()):
        parameter.requires_grad_(False)
    assert make_step(model, project_conflicts=True).shared == []
    with pytest.raises(ConfigError):
        check_shared(model, [Phase("heads", 1, (ParamGroup("heads", heads),))])


# --- in the loop -------------------------------------------------------------------------------------------------


def train(folder: Path, *, epochs: int = 3, fusion: str = "concat", **options) -> MultimodalModel:
    model = make_model(norm="batch", fusion=fusion, dropout=0.2)
    data = make_dataset(make_rows(folder / "media", 13, gaps=True), folder / "media", model)
    settings = TrainerOptions(OptimizerSpec(learning_rate=1e-2), task_weights=WEIGHTS, **options)
    trainer = Trainer(model, StepLoader(data, Order(13, 4, seed=0), accumulate=2), folder, options=settings)
    trainer.fit(Finetune().plan(model, epochs))
    return model


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("fusion", ["concat", "attention", "gated"])
def test_measuring_leaves_every_weight_bit_identical(tmp_path, fusion):
    plain = train(tmp_path / "plain", fusion=fusion)
    measured = train(tmp_path / "measured", fusion=fusion, gradient_cosine=True)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(measured.state_dict()[name], tensor), name
    assert PAIR not in history(tmp_path / "plain")[0]
    found = [float(entry[PAIR]) for entry in history(tmp_path / "measured")]
    assert len(found) == 3
    assert all(-1 <= cosine <= 1 for cosine in found)


def test_it_is_measured_once_an_epoch(tmp_path, monkeypatch):
    passes = []
    add = TaskGradients.add
    monkeypatch.setattr(TaskGradients, "add", lambda self, losses: (passes.append(len(losses)), add(self, losses))[1])
    train(tmp_path, gradient_cosine=True)
    assert passes == [2] * 3 * 2  # epochs x parts


def test_pcgrad_trains_to_other_weights_and_repeats_them(tmp_path):
    plain = train(tmp_path / "plain")
    first, second = (train(tmp_path / name, project_conflicts=True) for name in "ab")
    assert any(not torch.equal(t, plain.state_dict()[n]) for n, t in first.state_dict().items())
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name
