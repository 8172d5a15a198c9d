import math

import pytest
import torch
from support.assertions import assert_close, near
from torch import Tensor

from multimodal.transfer.multitask import UncertaintyWeighting, gradient_cosines, project_conflicts
from multimodal.transfer.penalties import feature_distillation, l2_sp_penalty


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- L2-SP -------------------------------------------------------------------------------------------------------


def least_squares(alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """The minimiser of |y - X w|^2 / 2 + L2-SP, by Newton's method (one step: it is quadratic); X'X, and w0."""
    rows, start = normal(30, 4), normal(4, seed=1)
    target = rows @ normal(4, seed=2)

    def objective(weights: Tensor) -> Tensor:
        return (target - rows @ weights).square().sum() / 2 + l2_sp_penalty({"w": weights}, {"w": start}, alpha=alpha)

    slope = torch.autograd.functional.jacobian(objective, start)
    found = start - torch.linalg.solve(torch.autograd.functional.hessian(objective, start), slope)
    gram = rows.T @ rows
    expected = start + torch.linalg.solve(gram + alpha * torch.eye(4).double(), rows.T @ (target - rows @ start))
    return found, expected, start


@pytest.mark.parametrize("alpha", [1e-6, 0.3, 5.0])
def test_of_least_squares_l2_sp_has_the_closed_form(alpha):
    """w = w0 + (X'X + alpha I)^-1 X'(y - X w0)."""
    found, expected, _ = least_squares(alpha)
    assert_close(found, expected, "float32")


def test_a_weak_anchor_gives_least_squares_and_a_strong_one_the_start():
    assert_close(least_squares(1e-9)[0], normal(4, seed=2), "float32")
    found, _, start = least_squares(1e9)
    assert_close(found, start, "float32")


def test_at_the_start_it_pulls_at_nothing_that_is_anchored():
    anchored, new = normal(3).requires_grad_(), normal(2).requires_grad_()
    l2_sp_penalty({"a": anchored, "n": new}, {"a": anchored.detach().clone()}, beta=0.5).backward()
    assert anchored.grad is not None
    assert not anchored.grad.any()
    assert_close(new.grad, 0.5 * new, "float64")


def test_anchors_of_other_parameters_are_refused():
    with pytest.raises(ValueError, match="before the training"):
        l2_sp_penalty({"w": torch.ones(2)}, {"v": torch.ones(2)})
    with pytest.raises(ValueError, match="before the training"):
        l2_sp_penalty({"w": torch.ones(2)}, {"w": torch.ones(3)})


# --- feature distillation ----------------------------------------------------------------------------------------


def test_distillation_is_half_the_squared_distance_and_padding_changes_nothing():
    tokens, source = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    squares = (tokens - source).square().sum(2) / 2
    expected = (squares[0].mean() + squares[1, 0]) / 2
    assert_close(feature_distillation(tokens, source, mask), expected, "float64")
    tokens[1, 1:] = 100.0
    assert_close(feature_distillation(tokens, source, mask), expected, "float64")


def test_a_record_without_the_input_takes_no_part_and_none_at_all_is_zero():
    tokens, source = normal(2, 1, 4).requires_grad_(), normal(2, 1, 4, seed=1)
    alone = feature_distillation(tokens[:1], source[:1], torch.tensor([[True]]))
    assert_close(feature_distillation(tokens, source, torch.tensor([[True], [False]])), alone, "float64")
    nothing = feature_distillation(tokens, source, torch.zeros(2, 1, dtype=torch.bool))
    nothing.backward()
    assert float(nothing.detach()) == 0.0


def test_tokens_of_two_batches_are_refused():
    with pytest.raises(ValueError, match="the same batch"):
        feature_distillation(normal(2, 3, 4), normal(2, 3, 5), torch.ones(2, 3, dtype=torch.bool))


# --- several tasks -----------------------------------------------------------------------------------------------


def test_conflicts_are_projected_out():
    assert_close(project_conflicts(torch.tensor([[1.0, 0.0], [-1.0, 1.0]])), torch.tensor([0.5, 1.5]))


def test_gradients_in_agreement_are_summed_and_a_zero_one_does_no_harm():
    gradients = torch.tensor([[1.0, 0.2], [0.5, 1.0], [0.0, 0.0]])
    assert_close(project_conflicts(gradients), gradients.sum(0))
    assert gradient_cosines(gradients).isfinite().all()


def test_what_is_left_conflicts_with_no_task_of_two():
    gradients = normal(2, 6)
    gradients[1] -= 2 * gradients[0]
    assert gradient_cosines(gradients)[0, 1] < 0
    assert (gradients @ project_conflicts(gradients) >= -1e-12).all()


def test_learned_weights_end_at_the_closed_form():
    """L = (2, 1/2): s = log L = +-.6931, each weighted loss a half, the total (1 + log L) / 2 summed = 1."""
    losses, weighting = torch.tensor([2.0, 0.5]), UncertaintyWeighting(2)
    optimizer = torch.optim.LBFGS(weighting.parameters(), max_iter=100, tolerance_grad=1e-9, tolerance_change=1e-12)

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = weighting(losses)
        total.backward()
        return total

    optimizer.step(closure)
    assert_close(weighting.log_variances, [math.log(2), -math.log(2)], "hidden states")
    assert_close(weighting.weights() * losses, [0.5, 0.5], "hidden states")
    assert float(weighting(losses).detach()) == near(1.0, "batches")


def test_a_loss_that_vanishes_does_not_count_without_bound():
    weighting = UncertaintyWeighting(1)
    with torch.no_grad():
        weighting.log_variances.fill_(-50.0)
    assert weighting.weights()[0].item() == pytest.approx(math.exp(10) / 2)
    with pytest.raises(ValueError, match="1 or more"):
        UncertaintyWeighting(0)
