import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_close
from scipy.special import log_softmax
from tiny import make_rows
from torch import Tensor

from multimodal.build import build_encoders, build_model, build_target
from multimodal.config import Task, parse_task
from multimodal.contrastive import MAX_SCALE, WIDTH, ContrastiveHead, pair_losses
from multimodal.data import Batch, RecordDataset, collate
from multimodal.decoding import PairedEmbeddings
from multimodal.losses import Term, combined_loss, known_weights, loss_terms, task_losses
from multimodal.model import MultimodalModel
from multimodal.records import InputReader, read_records

IN_DIMS = {"image": 6, "other": 6, "text": 4}
CLIP_JOB: dict[str, Any] = {
    "inputs": {
        "image": {"encoder": "compact/image", "options": {"image_size": 32}},
        "text": {"encoder": "compact/text"},
    },
    "fusion": {"name": "late"},
    "tasks": {"match": {"type": "contrastive"}},
}


def views(first: str = "image", second: str = "other", *, seed: int = 0) -> ContrastiveHead:
    torch.manual_seed(seed)
    return ContrastiveHead(IN_DIMS, (first, second), shared=second == "other")


def units(records: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(2, records, 5, generator=generator)
    first, second = torch.nn.functional.normalize(both, dim=2)
    return first, second


def fused(records: int = 5) -> Tensor:
    return torch.randn(records, sum(IN_DIMS.values()), generator=torch.Generator().manual_seed(1))


# --- the loss ----------------------------------------------------------------------------------------------------


def test_info_nce_is_the_mean_of_both_cross_entropies_of_clip():
    first, second = units(6)
    logits = 5.0 * first.double().numpy() @ second.double().numpy().T
    expected = -(np.diag(log_softmax(logits, axis=1)) + np.diag(log_softmax(logits, axis=0))) / 2
    assert_close(pair_losses(first, second, torch.tensor(5.0), within=False), expected)


def test_nt_xent_is_the_formula_of_simclr_over_both_views():
    first, second = units(4)
    z = np.concatenate([first.double().numpy(), second.double().numpy()])
    temperature, n = 0.2, len(first)
    losses = np.zeros(2 * n)
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = [np.exp(z[i] @ z[k] / temperature) for k in range(2 * n) if k != i]
        losses[i] = -np.log(np.exp(z[i] @ z[j] / temperature) / sum(others))
    expected = (losses[:n] + losses[n:]) / 2
    assert_close(pair_losses(first, second, torch.tensor(1 / temperature), within=True), expected)


def test_equal_embeddings_cost_what_guessing_does_and_perfect_ones_nothing():
    same, scale = torch.ones(8, 1), torch.tensor(3.0)
    assert_close(pair_losses(same, same, scale, within=False), np.full(8, math.log(8)))
    assert_close(pair_losses(same, same, scale, within=True), np.full(8, math.log(15)))
    perfect = torch.eye(8)
    assert_close(pair_losses(perfect, perfect, torch.tensor(100.0), within=True), np.zeros(8))
    wrong = pair_losses(perfect, perfect.roll(1, dims=0), torch.tensor(100.0), within=False)
    assert_close(wrong, np.full(8, 100.0))


@pytest.mark.parametrize("head", [views(), views("image", "text")], ids=["views", "text"])
def test_a_head_that_knows_nothing_has_the_loss_one_however_many_records_there_are(head):
    for records in (2, 7):
        outputs = torch.ones(records, 2 * WIDTH) / math.sqrt(WIDTH)
        assert_close(head.loss(outputs, torch.ones(records, dtype=torch.bool)), np.ones(records))
    assert head.null_loss == 1.0


@pytest.mark.parametrize("head", [views(), views("image", "text")], ids=["views", "text"])
def test_records_that_lack_an_input_are_no_rows_and_no_negatives(head):
    outputs, target = head(fused(6)), torch.tensor([True, False, True, True, False, True])
    losses = head.loss(outputs, target)
    assert_close(losses[target], head.loss(outputs[target], torch.ones(4, dtype=torch.bool)))
    assert not losses[~target].any()


@pytest.mark.parametrize("count", [0, 1])
def test_a_batch_without_two_pairs_costs_nothing_and_gives_every_parameter_a_gradient(count):
    head = views()
    losses = head.loss(head(fused(3)), torch.arange(3) < count)
    losses.sum().backward()
    assert not losses.any()
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in head.parameters())


def test_every_parameter_learns():
    for head in (views(), views("other", "text")):
        head.loss(head(fused()), torch.ones(5, dtype=torch.bool)).sum().backward()
        assert all(p.grad.abs().sum() > 0 and p.grad.isfinite().all() for p in head.parameters())


def test_embeddings_and_the_loss_are_in_float32_under_autocast():
    head, target = views(), torch.ones(5, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = head(fused())
        losses = head.loss(outputs, target)
    assert outputs.dtype == losses.dtype == torch.float32
    assert_close(outputs.reshape(5, 2, WIDTH).norm(dim=2), np.ones((5, 2)))
    assert_close(losses, head.loss(outputs, target))


def test_the_scale_stays_below_its_limit_and_can_come_back():
    head, target = views(), torch.ones(5, dtype=torch.bool)
    with torch.no_grad():
        head.log_scale.fill_(9.0)
    head.loss(head(fused()), target).sum().backward()
    assert_close(head.log_scale.exp(), MAX_SCALE)
    assert head.log_scale.grad.abs() > 0


# --- the head ----------------------------------------------------------------------------------------------------


def test_inputs_that_the_task_does_not_compare_change_nothing():
    head, given = views("image", "text"), fused()
    before = head(given)
    given[:, 6:12] += 1  # the part of "other"
    assert torch.equal(head(given), before)


def test_two_views_go_through_one_projection_and_other_inputs_through_their_own():
    given = fused()
    given[:, 6:12] = given[:, :6]
    first, second = views()(given).chunk(2, dim=1)
    assert_close(first, second)
    assert len(views("image", "text").projections) == 2


def test_the_decoding_names_the_pair():
    assert views("image", "text").decoding() == PairedEmbeddings(("image", "text"))


# --- in a model --------------------------------------------------------------------------------------------------


def built(values: dict[str, Any], rows: list[dict[str, Any]], folder: Path) -> tuple[Task, MultimodalModel, Batch]:
    task = parse_task(values)
    torch.manual_seed(0)
    encoders = build_encoders(task.inputs, folder)
    arguments = {name: {"labels": ["blue", "green", "red"]} for name in task.tasks if name != "match"}
    model = build_model(task, encoders, {name: arguments.get(name, {}) for name in task.tasks})
    readers = {name: InputReader(name, task.input_column(name), encoders[name].preprocessor) for name in task.inputs}
    targets = {name: build_target(task, name, arguments.get(name, {})) for name in task.tasks}
    data = RecordDataset(read_records(rows, root=folder), readers, targets)
    return task, model, collate([data[0, row] for row in range(len(rows))], readers, targets)


@pytest.mark.parametrize("fusion", ["late", "concat"])
def test_both_encoders_get_a_gradient_from_the_records_that_have_both_inputs(tmp_path, fusion):
    rows = make_rows(tmp_path, 12, gaps=True)  # no picture in 3, 7 and 11, no text in 4 and 9
    _, model, batch = built({**CLIP_JOB, "fusion": {"name": fusion}}, rows, tmp_path)
    terms = loss_terms(model, ["match"])
    assert terms == [Term("match")]
    counts = known_weights([batch], terms)
    assert counts.tolist() == [7]
    output = model(batch.inputs)
    loss = combined_loss(task_losses(model, output, batch, ["match"], counts), {"match": 1.0})
    head, known = model.head("match"), batch.known["match"]
    both = output.outputs["match"][known]
    assert_close(loss, head.loss(both, torch.ones(7, dtype=torch.bool)).mean())
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} got no gradient"
        assert parameter.grad.isfinite().all()
    assert all(p.grad.any() for name in ("image", "text") for p in model.encoder(name).depth_groups()[0])


def test_beside_a_task_with_labels_late_fusion_keeps_its_heads(tmp_path):
    tasks = {"match": {"type": "contrastive"}, "color": {}}
    _, model, batch = built({**CLIP_JOB, "tasks": tasks}, make_rows(tmp_path, 6), tmp_path)
    assert loss_terms(model, ["match", "color"]) == [Term("match"), Term("color", "image"), Term("color", "text")]
    assert model(batch.inputs).outputs["match"].shape == (6, 2 * WIDTH)


def test_auxiliary_heads_leave_contrastive_tasks_alone(tmp_path):
    fusion = {"name": "concat", "unimodal_weight": 1.0}
    _, model, _ = built({**CLIP_JOB, "fusion": fusion}, make_rows(tmp_path, 6), tmp_path)
    assert model.unimodal.names == {}
