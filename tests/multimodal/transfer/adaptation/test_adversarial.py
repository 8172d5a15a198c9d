import math

import pytest
import torch
from support.assertions import assert_close
from torch import Tensor, nn

from multimodal.transfer.adaptation.adversarial import (
    DomainDiscriminator,
    RandomMultilinearMap,
    cdan_loss,
    dann_loss,
    multilinear_map,
    reversal_scale,
    reverse_gradient,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_reversal_changes_nothing_forward_and_the_sign_backward():
    features = normal(4, 3).requires_grad_()
    output = reverse_gradient(features, 0.7)
    assert torch.equal(output, features)
    slopes = normal(4, 3, seed=1)
    output.backward(slopes)
    assert features.grad is not None
    assert torch.equal(features.grad, -0.7 * slopes)


def test_the_schedule_is_the_papers():
    values = [round(reversal_scale(progress), 4) for progress in (0.0, 0.1, 0.25, 0.5, 1.0)]
    assert values == [0.0, 0.4621, 0.8483, 0.9866, 0.9999]
    with pytest.raises(ValueError, match="share of the training"):
        reversal_scale(1.5)


def test_a_discriminator_that_knows_nothing_loses_ln_2_whatever_the_sizes():
    discriminator = DomainDiscriminator(3, 8)
    nn.init.zeros_(discriminator.layers[-1].weight)
    nn.init.zeros_(discriminator.layers[-1].bias)
    assert_close(dann_loss(discriminator, normal(5, 3), normal(9, 3)), math.log(2))


def test_the_discriminator_descends_and_the_features_ascend():
    torch.manual_seed(0)
    discriminator = DomainDiscriminator(3, 8)
    source, target = normal(20, 3).requires_grad_(), normal(20, 3, seed=1) + 1
    reversed_loss = dann_loss(discriminator, source, target, scale=0.5)
    ours = torch.autograd.grad(reversed_loss, [source, *discriminator.parameters()])
    plain = nn.functional.binary_cross_entropy_with_logits(discriminator(source), torch.ones(20)) / 2
    plain = plain + nn.functional.binary_cross_entropy_with_logits(discriminator(target), torch.zeros(20)) / 2
    expected = torch.autograd.grad(plain, [source, *discriminator.parameters()])
    assert_close(ours[0], -0.5 * expected[0])
    for actual, wanted in zip(ours[1:], expected[1:], strict=True):
        assert_close(actual, wanted)


def test_adversarial_training_aligns_two_domains():
    torch.manual_seed(0)
    source, target = normal(200, 2), normal(200, 2, seed=1) + torch.tensor([3.0, 0.0])
    shift, discriminator = torch.zeros(2, requires_grad=True), DomainDiscriminator(2, 16)
    optimizer = torch.optim.Adam([{"params": [shift], "lr": 0.05}, {"params": discriminator.parameters(), "lr": 0.01}])
    for step in range(200):
        optimizer.zero_grad()
        dann_loss(discriminator, source, target + shift, scale=reversal_scale(step / 200)).backward()
        optimizer.step()
    assert float((shift.detach() - torch.tensor([-3.0, 0.0])).norm()) < 1.0


def test_products_have_inner_products_of_both():
    features, outputs = normal(6, 4), normal(6, 3, seed=1).softmax(1)
    mapped = multilinear_map(features, outputs)
    assert mapped.shape == (6, 12)
    assert_close(mapped @ mapped.T, (features @ features.T) * (outputs @ outputs.T))


def test_random_products_have_them_on_average():
    features, outputs = normal(6, 4), normal(6, 3, seed=1).softmax(1)
    random_map = RandomMultilinearMap(4, 3, 200_000)
    mapped = random_map(features, outputs)
    assert_close(mapped @ mapped.T, (features @ features.T) * (outputs @ outputs.T), "a tenth")
    assert set(random_map.state_dict()) == {"first", "second"}


def test_unsure_answers_count_less_and_get_no_gradient():
    source = normal(5, 4).requires_grad_(), normal(5, 3, seed=1).requires_grad_()
    target = normal(7, 4, seed=2), torch.zeros(7, 3)
    loss = cdan_loss(DomainDiscriminator(12, 8), source, target)
    loss.backward()
    assert source[0].grad is not None
    assert source[1].grad is None
    logits = torch.tensor([[50.0, 0.0], [0.0, 0.0]])  # weights 2 and 1.5, of mean 1: 8/7 and 6/7

    class First(nn.Module):
        def forward(self, mapped: Tensor) -> Tensor:
            return mapped[:, 0]

    one, zeros = torch.tensor([[2.0], [0.0]]), torch.zeros(1, 1)
    actual = cdan_loss(First(), (one, logits), (zeros, torch.zeros(1, 2)))
    softplus = nn.functional.softplus
    expected = (8 / 7 * softplus(torch.tensor(-2.0)) + 6 / 7 * math.log(2)) / 2
    assert_close(actual, (expected + math.log(2)) / 2)


def test_the_same_answer_everywhere_makes_cdan_dann():
    torch.manual_seed(0)
    sure = torch.tensor([[100.0, 0.0]])
    discriminator = DomainDiscriminator(8, 8)
    source, target = normal(5, 4), normal(6, 4, seed=1)
    padded = [multilinear_map(rows, torch.tensor([[1.0, 0.0]]).expand(len(rows), 2)) for rows in (source, target)]
    actual = cdan_loss(discriminator, (source, sure.expand(5, 2)), (target, sure.expand(6, 2)))
    assert_close(actual, dann_loss(discriminator, *padded))


def test_domains_of_two_dims_are_refused():
    with pytest.raises(ValueError, match="features of one dimension"):
        dann_loss(DomainDiscriminator(3, 8), torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ValueError, match="features of one dimension"):
        cdan_loss(DomainDiscriminator(3, 8), (torch.ones(2, 3), torch.ones(2, 2)), (torch.ones(2, 3), torch.ones(2, 3)))
