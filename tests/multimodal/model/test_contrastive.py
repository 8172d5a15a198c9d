import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from support.assertions import assert_close
from support.tiny_models import make_rows
from torch import Tensor

from fusion import LateFusion
from multimodal.builders.encoders import build_encoders
from multimodal.builders.heads import build_target_reader
from multimodal.builders.model import build_model
from multimodal.config import Job, parse_job
from multimodal.data.dataset import Batch, RecordDataset, collate
from multimodal.decoding import PairedEmbeddings
from multimodal.model import MultimodalModel
from multimodal.model.contrastive import MAX_SCALE, WIDTH, ContrastiveHead, pair_losses, same_content
from multimodal.records import InputReader, read_records
from multimodal.trainer.losses import Term, combined_loss, loss_normalizers, loss_terms, task_losses

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


def all_different(records: int) -> Tensor:
    """Content numbers of records that share nothing."""
    return torch.arange(1, 2 * records + 1).reshape(records, 2)


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
        assert_close(head.loss(outputs, all_different(records)), np.ones(records))
    assert head.chance_loss == 1.0


@pytest.mark.parametrize("head", [views(), views("image", "text")], ids=["views", "text"])
def test_records_that_lack_an_input_are_no_rows_and_no_negatives(head):
    outputs, target = head(fused(6)), all_different(6)
    known = torch.tensor([True, False, True, True, False, True])
    target[1], target[4, 0] = 0, 0
    losses = head.loss(outputs, target)
    assert_close(losses[known], head.loss(outputs[known], all_different(4)))
    assert not losses[~known].any()


@pytest.mark.parametrize("count", [0, 1])
def test_a_batch_without_two_pairs_costs_nothing_and_gives_every_parameter_a_gradient(count):
    head = views()
    losses = head.loss(head(fused(3)), all_different(3) * (torch.arange(3) < count)[:, None])
    losses.sum().backward()
    assert not losses.any()
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in head.parameters())


def test_every_parameter_learns():
    for head in (views(), views("other", "text")):
        head.loss(head(fused()), all_different(5)).sum().backward()
        assert all(p.grad.abs().sum() > 0 and p.grad.isfinite().all() for p in head.parameters())


def test_embeddings_and_the_loss_are_in_float32_under_autocast():
    head, target = views(), all_different(5)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = head(fused())
        losses = head.loss(outputs, target)
    assert outputs.dtype == losses.dtype == torch.float32
    assert_close(outputs.reshape(5, 2, WIDTH).norm(dim=2), np.ones((5, 2)))
    assert_close(losses, head.loss(outputs, target))


def test_the_scale_stays_below_its_limit_and_can_come_back():
    head, target = views(), all_different(5)
    with torch.no_grad():
        head.log_scale.fill_(9.0)
    head.loss(head(fused()), target).sum().backward()
    assert_close(head.log_scale.exp(), MAX_SCALE)
    assert head.log_scale.grad.abs() > 0


# --- records that say the same -----------------------------------------------------------------------------------


def same(*pairs: tuple[int, int]) -> Tensor:
    """Mask of the pairs of six records that are the same."""
    found = torch.eye(6, dtype=torch.bool)
    for i, j in pairs:
        found[i, j] = found[j, i] = True
    return found


def test_two_records_are_the_same_where_they_share_either_input():
    numbers = torch.tensor([[1, 7], [2, 7], [2, 8], [3, 9]])
    expected = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    assert same_content(numbers).int().tolist() == expected


@pytest.mark.parametrize("within", [False, True])
def test_where_all_differ_loss_and_gradient_are_bit_for_bit_those_of_the_cross_entropy(within):
    first, second = (side.requires_grad_() for side in units(6))
    scale = torch.tensor(5.0)
    plain = []
    for anchors, partners in ((first, second), (second, first)):
        logits = scale * anchors @ partners.T
        if within:
            logits = torch.cat([logits, (scale * anchors @ anchors.T).fill_diagonal_(-math.inf)], dim=1)
        plain.append(torch.nn.functional.cross_entropy(logits, torch.arange(6), reduction="none"))
    expected = torch.stack(plain).mean(dim=0)
    wanted = torch.autograd.grad(expected.sum(), [first, second])
    losses = pair_losses(first, second, scale, within=within, same=same())
    assert torch.equal(losses, expected)
    for gradient, other in zip(torch.autograd.grad(losses.sum(), [first, second]), wanted, strict=True):
        assert torch.equal(gradient, other)


@pytest.mark.parametrize("within", [False, True])
def test_right_answers_are_looked_for_in_equal_shares(within):
    """Equation 2 of supervised contrastive learning, written out."""
    first, second = units(6)
    known = same((0, 1), (1, 2))
    expected = np.zeros(6)
    for anchors, partners in ((first, second), (second, first)):
        for i in range(6):
            candidates = [(partners[j], bool(known[i, j])) for j in range(6)]
            candidates += [(anchors[j], bool(known[i, j])) for j in range(6) if within and j != i]
            logits = np.array([5.0 * float(anchors[i] @ vector) for vector, _ in candidates])
            right = np.array([is_right for _, is_right in candidates])
            expected[i] -= log_softmax(logits)[right].mean() / 2
    assert_close(pair_losses(first, second, torch.tensor(5.0), within=within, same=known), expected)


def test_equal_embeddings_cost_what_guessing_does_whoever_is_the_same():
    constant = torch.ones(6, 1)
    for within, candidates in ((False, 6), (True, 11)):
        losses = pair_losses(constant, constant, torch.tensor(3.0), within=within, same=same((0, 1), (2, 3)))
        assert_close(losses, np.full(6, math.log(candidates)))


def test_records_that_are_the_same_no_longer_push_each_other_away():
    """With all logits equal, that of a candidate has the gradient 1/N - 1/(k + 1) if it is right, else 1/N."""
    first, second = torch.eye(6), torch.zeros(6, 6, requires_grad=True)  # second[j, i] is the logit of j for i
    losses = pair_losses(first, second, torch.tensor(1.0), within=False, same=same((0, 1)))
    (gradient,) = torch.autograd.grad(losses[0], [second])
    towards, away = (1 / 6 - 1 / 2) / 2, 1 / 6 / 2  # of the mean of two directions
    assert_close(gradient[1:, 0], [towards, *[away] * 4])
    assert_close(gradient[0, 1:], [towards, *[away] * 4])


def test_records_that_are_the_same_can_be_at_one_place_at_no_cost_beyond_the_share():
    first = torch.eye(6)
    first[1] = first[0]
    losses = pair_losses(first, first, torch.tensor(100.0), within=False, same=same((0, 1)))
    assert_close(losses, [math.log(2), math.log(2), 0, 0, 0, 0])


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


def built(values: dict[str, Any], rows: list[dict[str, Any]], folder: Path) -> tuple[Job, MultimodalModel, Batch]:
    job = parse_job(values)
    torch.manual_seed(0)
    encoders = build_encoders(job.inputs, folder)
    arguments = {name: {"labels": ["blue", "green", "red"]} for name in job.tasks if name != "match"}
    model = build_model(job, encoders, {name: arguments.get(name, {}) for name in job.tasks})
    readers = {name: InputReader(name, job.input_column(name), encoders[name].preprocessor) for name in job.inputs}
    targets = {name: build_target_reader(job, name, arguments.get(name, {})) for name in job.tasks}
    data = RecordDataset(read_records(rows, root=folder), readers, targets)
    return job, model, collate([data[0, row] for row in range(len(rows))], readers, targets)


@pytest.mark.parametrize("fusion", ["late", "concat"])
def test_both_encoders_get_a_gradient_from_the_records_that_have_both_inputs(tmp_path, fusion):
    rows = make_rows(tmp_path, 12, gaps=True)  # no image in 3, 7 and 11, no text in 4 and 9
    _, model, batch = built({**CLIP_JOB, "fusion": {"name": fusion}}, rows, tmp_path)
    terms = loss_terms(model, ["match"])
    assert terms == [Term("match")]
    counts = loss_normalizers([batch], terms)
    assert counts.tolist() == [7]
    output = model(batch.inputs)
    loss = combined_loss(task_losses(model, output, batch, ["match"], counts), {"match": 1.0})
    head, known = model.head("match"), batch.known["match"]
    both = output.outputs["match"][known]
    assert_close(loss, head.loss(both, batch.targets["match"][known]).mean())
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
    tasks = {"match": {"type": "contrastive"}, "color": {}}
    _, model, _ = built({**CLIP_JOB, "tasks": tasks, "fusion": fusion}, make_rows(tmp_path, 6), tmp_path)
    assert model.unimodal.names.keys() == {"color"}


ATTENTION: dict[str, Any] = {"name": "attention", "dim": 8, "num_heads": 2}


@pytest.mark.parametrize("fusion", [ATTENTION, {"name": "gated", "dim": 8}], ids=["attention", "gated"])
def test_beside_a_fusion_that_mixes_its_inputs_it_sees_what_late_fusion_would_show(tmp_path, fusion):
    tasks = {"match": {"type": "contrastive"}, "color": {}}
    _, model, batch = built({**CLIP_JOB, "tasks": tasks, "fusion": fusion}, make_rows(tmp_path, 6), tmp_path)
    head, (tokens, masks) = model.head("match"), model.eval().encode(batch.inputs)
    apart = LateFusion({name: model.encoder(name).embed_dim for name in model.input_names})
    alone = ContrastiveHead(apart.in_dims, ("image", "text"), shared=False)
    alone.load_state_dict(head.state_dict())
    assert_close(model.fuse(tokens, masks).outputs["match"], alone(apart(tokens, masks)))


@pytest.mark.parametrize("fusion", [ATTENTION, {"name": "concat", "dim": 8}], ids=["attention", "concat"])
def test_beside_a_fusion_that_mixes_its_inputs_every_parameter_gets_a_gradient(tmp_path, fusion):
    tasks = {"match": {"type": "contrastive"}, "color": {}}
    values = {**CLIP_JOB, "tasks": tasks, "fusion": {**fusion, "modality_dropout": 0.3}}
    _, model, batch = built(values, make_rows(tmp_path, 12, gaps=True), tmp_path)
    counts = loss_normalizers([batch], loss_terms(model, ["match", "color"]))
    losses = task_losses(model.train(), model(batch.inputs), batch, ["match", "color"], counts)
    losses["match"].backward(retain_graph=True)
    assert all(p.grad.any() for name in ("image", "text") for p in model.encoder(name).depth_groups()[0])
    losses["color"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
