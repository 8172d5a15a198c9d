"""Adaptation losses in a training step: who takes part, what learns, what survives."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from support.assertions import assert_close
from support.tiny_models import COLORS, make_dataset, make_model, make_rows
from torch import Tensor

from multimodal.config.setting import SOURCE, TARGET, UNLABELLED
from multimodal.data.dataset import Batch, RecordDataset, training_batches
from multimodal.data.domains import JoinedDataset, domain_order
from multimodal.data.order import BLANK, StepSampler
from multimodal.model import ModelOutput, MultimodalModel
from multimodal.model.objective import StepContext
from multimodal.transfer.adaptation.confidence import entropy_loss, mcc_loss, pseudo_label_loss
from multimodal.transfer.adaptation.distances import deep_coral_loss, mmd_loss
from multimodal.transfer.adaptation.objectives import (
    MIXTURE,
    Adversary,
    ConditionalAdversary,
    Distance,
    Sharpening,
    create_adaptation,
)

METHODS = ("deep_coral", "mmd", "dann", "cdan", "mcc", "entropy", "pseudo_labels")
VIEWS: Mapping[str | None, int] = {None: 8, "image": 8}
ORIGIN = [SOURCE, UNLABELLED, SOURCE, BLANK, UNLABELLED, SOURCE, TARGET]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen(features: Tensor, logits: Tensor, origin: list[int], *, progress: float = 0.5, present=None) -> StepContext:
    n = len(origin)
    image = torch.ones(n, dtype=torch.bool) if present is None else torch.tensor(present)
    batch = Batch({"image": {"present": image}}, {}, {}, list(range(n)), torch.ones(n), [], torch.tensor(origin))
    return StepContext(
        make_model(), ModelOutput({"color": logits}, features, {"image": features + 1}, {}), batch, progress
    )


def domains(tmp_path: Path, model: MultimodalModel) -> JoinedDataset:
    """Twelve labelled source records and as many target inputs."""
    plain = make_dataset(make_rows(tmp_path, 12), tmp_path, model)
    records = plain.records
    return JoinedDataset(
        [
            RecordDataset(records, plain.readers, plain.targets, origin=SOURCE),
            RecordDataset(records.without(["color", "price"]), plain.readers, plain.targets, origin=UNLABELLED),
        ]
    )


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_the_encoders_and_all_that_the_objective_learns(tmp_path, method):
    model = make_model()
    objective = create_adaptation(method, VIEWS, {"color": 3}, weight=1.0, threshold=0.2)
    order = domain_order([(12, None)], 12, batch_size=6, seed=0)
    ((batch,), *_) = training_batches(domains(tmp_path, model), StepSampler(order, 0, 1))
    model.train()
    objective(StepContext(model, model(batch.inputs), batch, 0.5)).backward()
    for name, parameter in [*model.encoders.named_parameters(), *objective.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert any(parameter.grad.any() for parameter in model.encoder("image").parameters())
    assert any(parameter.grad.any() for parameter in model.encoder("text").parameters())
    assert all(parameter.grad.any() for parameter in objective.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_a_part_without_a_domain_counts_nothing_and_still_asks_for_every_gradient(method):
    features = normal(3, 8).requires_grad_()
    objective = create_adaptation(method, VIEWS, {"color": 3}, weight=1.0)
    loss = objective(seen(features, features[:, :3], [SOURCE] * 3))
    loss.backward()
    assert loss == 0
    assert features.grad is not None
    assert all(parameter.grad is not None for parameter in objective.parameters())


def test_distances_are_those_of_the_two_domains_with_the_record_that_is_none_left_out():
    features, logits = normal(7, 4), normal(7, 3)
    source, target = features[[0, 2, 5]], features[[1, 4, 6]]
    coral = Distance([None, "image"], deep_coral_loss, weight=2.0)
    assert_close(coral(seen(features, logits, ORIGIN)), 2 * deep_coral_loss(source, target))  # blind to the mean
    mmd = create_adaptation("mmd", {None: 4}, {}, weight=1.0)
    assert_close(mmd(seen(features, logits, ORIGIN)), mmd_loss(source, target, factors=MIXTURE))


def test_a_view_of_an_input_compares_only_records_that_have_it():
    features, present = normal(7, 4), [True, True, True, True, True, False, True]
    coral = Distance(["image"], deep_coral_loss, weight=1.0)
    expected = deep_coral_loss(features[[0, 2]], features[[1, 4, 6]])
    assert_close(coral(seen(features, features, ORIGIN, present=present)), expected)


def test_sharpening_looks_at_unlabelled_records_alone_and_grows_where_early_answers_are_wrong():
    logits = 4 * normal(7, 3)
    given = seen(normal(7, 4), logits, ORIGIN)
    for method, loss, factor in (
        ("mcc", mcc_loss, 1.0),
        ("entropy", entropy_loss, 0.98661430),  # 2 / (1 + e^-5) - 1
        ("pseudo_labels", pseudo_label_loss, 0.98661430),
    ):
        objective = create_adaptation(method, {None: 4}, {"color": 3}, weight=3.0)
        assert isinstance(objective, Sharpening)
        assert_close(objective(given), 3.0 * factor * loss(logits[[1, 4]]))


def test_only_sure_answers_are_labels_and_all_records_divide():
    logits = torch.tensor([[math.log(0.95 / 0.05), 0.0], [math.log(0.6 / 0.4), 0.0]])
    assert_close(pseudo_label_loss(logits), -math.log(0.95) / 2)
    assert_close(pseudo_label_loss(logits, threshold=0.5), -(math.log(0.95) + math.log(0.6)) / 2)


def test_the_reversed_gradient_is_weighted_and_the_discriminator_learns_at_full_rate():
    slopes = []
    for weight, progress in ((1.0, 1.0), (3.0, 1.0), (3.0, 0.0)):
        features = normal(7, 4).requires_grad_()
        objective = create_adaptation("dann", {None: 4}, {}, weight=weight)
        objective(seen(features, features, ORIGIN, progress=progress)).backward()
        first = next(objective.parameters()).grad
        assert features.grad is not None
        assert first is not None
        slopes.append((features.grad, first))
    assert_close(slopes[1][0], 3 * slopes[0][0])
    assert not slopes[2][0].any()
    assert_close(slopes[2][1], slopes[0][1])


def test_the_share_of_right_answers_is_counted_and_starts_anew():
    objective = create_adaptation("dann", {None: 1}, {}, weight=1.0)
    assert isinstance(objective, Adversary)
    separated = torch.tensor([[2.0], [-2.0], [2.0], [0.0], [-2.0], [2.0], [2.0]])  # one of three target records is off

    class Sees(torch.nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features[:, 0]

    objective.discriminators[0] = Sees()
    objective(seen(separated, separated, ORIGIN))
    assert objective.tally.tolist() == [[3, 3], [2, 3]]
    assert objective.monitor() == {"discriminator": pytest.approx((1 + 2 / 3) / 2)}
    assert not objective.tally.any()


def test_a_discriminator_learns_to_tell_domains_apart():
    torch.manual_seed(0)
    objective = create_adaptation("dann", {None: 4}, {}, weight=1.0)
    features = normal(40, 4) + torch.tensor([2.0] * 20 + [-2.0] * 20)[:, None]
    origin = [SOURCE] * 20 + [UNLABELLED] * 20
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        objective(seen(features, features, origin)).backward()
        optimizer.step()
    objective.monitor()
    objective(seen(features, features, origin))
    assert objective.monitor()["discriminator"] == 1.0


def test_wide_features_times_many_classes_are_projected():
    wide = create_adaptation("cdan", {None: 600}, {"color": len(COLORS), "kind": 10}, weight=1.0)
    assert isinstance(wide, ConditionalAdversary)
    assert [d.layers[0].in_features for d in wide.discriminators] == [600 * 3, 1024]
    assert {name for name, _ in wide.named_buffers()} == {"tally", "maps.1.first", "maps.1.second"}


def test_making_an_objective_leaves_the_random_state_alone_and_depends_on_the_seed():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    made = [create_adaptation("dann", {None: 4}, {}, weight=1.0, seed=seed).state_dict() for seed in (0, 0, 1)]
    assert torch.equal(before, torch.get_rng_state())
    weights = [np.concatenate([value.numpy().ravel() for value in state.values()]) for state in made]
    assert (weights[0] == weights[1]).all()
    assert (weights[0] != weights[2]).any()
