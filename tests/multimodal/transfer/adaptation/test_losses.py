import numpy as np
import pytest
import torch
from scipy.stats import entropy
from support.assertions import assert_close, near
from support.digits import digits, halves
from torch import nn

from multimodal.transfer.adaptation.confidence import entropy_loss, mcc_loss
from multimodal.transfer.adaptation.distances import deep_coral_loss, median_bandwidth, mmd_loss

PIXELS, LABELS = digits()
SOURCE, TARGET = halves()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whitened(n: int, d: int) -> torch.Tensor:
    rows = normal(n, d)
    rows = rows - rows.mean(dim=0)
    return torch.linalg.qr(rows).Q * (n - 1) ** 0.5


# --- Deep CORAL --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [3, 8])
def test_coral_of_twice_as_wide_a_cloud_is_nine_in_four_d(d):
    source = whitened(50, d)
    assert_close(deep_coral_loss(source, 2 * source), 9 / (4 * d), "float64")


def test_coral_is_numpys_and_blind_to_a_shift():
    source, target = normal(30, 4), normal(20, 4, seed=1) @ normal(4, 4, seed=2)
    difference = np.cov(source.numpy(), rowvar=False) - np.cov(target.numpy(), rowvar=False)
    assert_close(deep_coral_loss(source, target), (difference**2).sum() / 64, "float64")
    assert float(deep_coral_loss(source, source + 5.0)) < 1e-20


# --- MMD ---------------------------------------------------------------------------------------------------------


BIAS = 2 * (1 - 1 / 3) / 1000
"""By which the V-statistic of 1,000 standard normal records exceeds the U-statistic: 2 (1 - E k) / n."""


def test_mmd_of_two_normals_is_the_closed_form():
    """2 (s^2 / (s^2 + 2 sigma^2))^(d/2) (1 - exp(-|shift|^2 / 2 (s^2 + 2 sigma^2))) = 0.3244."""
    expected = 2 * (1 / 3) * (1 - np.exp(-4 / 6))
    assert expected == near(0.3244, "four digits")
    target = normal(1000, 2, seed=1) + torch.tensor([2.0, 0.0])
    found = float(mmd_loss(normal(1000, 2), target, bandwidth=1.0, factors=(1.0,)))
    assert found - BIAS == near(expected, "a twentieth")


def test_records_of_one_domain_have_none_but_for_the_bias_of_v():
    source, target = normal(1000, 2), normal(1000, 2, seed=1)
    assert abs(float(mmd_loss(source, target, bandwidth=1.0, factors=(1.0,))) - BIAS) < 1e-3


def test_identical_inputs_give_zero_and_finite_gradients():
    source = normal(20, 3).requires_grad_()
    loss = mmd_loss(source, source.detach().clone())
    assert abs(float(loss.detach())) < 1e-12
    loss.backward()
    assert source.grad is not None
    assert source.grad.isfinite().all()


def test_blocks_of_unequal_size_are_means_of_kernels():
    source, target = normal(7, 3).numpy(), normal(12, 3, seed=1).numpy()

    def mean(first: np.ndarray, second: np.ndarray) -> float:
        return float(np.exp(-((first[:, None] - second[None]) ** 2).sum(-1) / (2 * 1.5**2)).mean())

    expected = mean(source, source) + mean(target, target) - 2 * mean(source, target)
    actual = mmd_loss(torch.from_numpy(source), torch.from_numpy(target), bandwidth=1.5, factors=(1.0,))
    assert_close(actual, expected, "float64")


def test_the_bandwidth_has_no_gradient_and_is_the_median():
    source, target = normal(6, 3).requires_grad_(), normal(5, 3, seed=1)
    bandwidth = median_bandwidth(source, target)
    assert not bandwidth.requires_grad
    rows = torch.cat([source, target]).detach().numpy()
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=-1)[np.triu_indices(11, 1)]
    assert float(bandwidth) == near(np.median(distances), "float32")


# --- class confusion and entropy ---------------------------------------------------------------------------------


def test_answers_that_say_nothing_confuse_all_classes():
    assert_close(mcc_loss(torch.zeros(12, 4, dtype=torch.float64)), 0.75, "float64")


def test_sure_answers_to_all_classes_confuse_none():
    assert float(mcc_loss(100 * torch.eye(4, dtype=torch.float64).repeat(3, 1))) < 1e-6


def test_a_class_that_the_batch_lacks_counts_as_confused():
    """Confident, right predictions score worst: a batch needs two or three times as many records as classes."""
    one_class = 100 * torch.eye(4, dtype=torch.float64)[[0, 0, 0]]
    assert_close(mcc_loss(one_class), 0.75, "float64")


def test_entropy_is_scipys_and_lowest_where_all_answers_are_the_same():
    logits = normal(20, 5)
    assert_close(entropy_loss(logits), entropy(logits.softmax(1).numpy(), axis=1).mean(), "float64")
    assert float(entropy_loss(torch.tensor([[100.0, 0.0]] * 3))) < 1e-6


# --- behaviour ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [deep_coral_loss, mmd_loss])
def test_training_a_map_on_the_loss_undoes_a_change_of_scale(loss):
    source, target = normal(200, 3).float(), normal(200, 3, seed=1).float() * torch.tensor([3.0, 1.0, 0.3])
    scale = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([scale], 0.05)
    before = float(loss(source, target))
    for _ in range(150):
        optimizer.zero_grad()
        value = loss(source, target * scale.exp())
        value.backward()
        optimizer.step()
    assert float(value.detach()) < 0.05 * before
    assert_close(scale.exp() * torch.tensor([3.0, 1.0, 0.3]), torch.ones(3), "a fifth")


def test_no_unsupervised_loss_undoes_inversion():
    """1 - x has the covariance of x: the loss sees no shift while every answer is wrong."""
    source = torch.from_numpy(PIXELS[SOURCE])
    target = 1.0 - torch.from_numpy(PIXELS[TARGET])
    direct = deep_coral_loss(source, torch.from_numpy(PIXELS[TARGET]))
    assert_close(deep_coral_loss(source, target), direct, "float64")


@pytest.mark.parametrize("loss", [deep_coral_loss, mmd_loss])
def test_batches_that_cannot_be_compared_are_refused(loss):
    with pytest.raises(ValueError, match="features of one dimension"):
        loss(torch.ones(4, 3), torch.ones(4, 2))


def test_a_covariance_needs_two_records_and_a_temperature_heat():
    with pytest.raises(ValueError, match="at least 2 records of each domain"):
        deep_coral_loss(torch.ones(1, 3), torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"the paper's is 2\.5"):
        mcc_loss(torch.ones(2, 3), temperature=0.0)


def test_losses_train_an_encoder():
    layer = nn.Linear(64, 5)
    source, target = (torch.from_numpy(PIXELS[rows[:40]]).float() for rows in (SOURCE, TARGET))
    total = deep_coral_loss(layer(source), layer(target)) + mmd_loss(layer(source), layer(target))
    (total + mcc_loss(layer(target)) + entropy_loss(layer(target))).backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum() > 0
