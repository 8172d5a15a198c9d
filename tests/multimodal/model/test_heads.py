import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.assertions import assert_close
from support.digits import digits
from torch import Tensor

from multimodal.decoding import Destandardize, Sigmoid, Softmax
from multimodal.model.heads import ClassificationHead, Head, MultilabelHead, RegressionHead

LABELS = ("a", "b", "c")
HEADS = {
    "classification": lambda: ClassificationHead(6, LABELS),
    "multilabel": lambda: MultilabelHead(6, LABELS),
    "regression": lambda: RegressionHead(6, mean=10.0, std=4.0, unit="kg"),
}
PLACEHOLDERS = {
    "classification": torch.zeros(5, dtype=torch.int64),
    "multilabel": torch.zeros(5, 3),
    "regression": torch.zeros(5),
}

every_head = pytest.mark.parametrize("kind", HEADS)


def outputs(columns: int = 3) -> Tensor:
    return torch.randn(5, columns, generator=torch.Generator().manual_seed(0))


@every_head
def test_outputs_are_linear_in_the_fused_vector_and_every_parameter_learns(kind):
    head: Head = HEADS[kind]()
    fused = torch.randn(5, 6)
    result = head(fused)
    assert result.shape == (5, head.num_outputs)
    assert_close(result, F.linear(fused, head.linear.weight, head.linear.bias))
    losses = head.loss(result, PLACEHOLDERS[kind])
    assert losses.shape == (5,)
    losses.sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())


@every_head
def test_the_loss_of_a_placeholder_is_finite_and_so_is_its_gradient_times_zero(kind):
    head: Head = HEADS[kind]()
    losses = head.loss(head(1e4 * torch.randn(5, 6)), PLACEHOLDERS[kind])
    assert losses.isfinite().all()
    (losses * 0.0).sum().backward()
    assert all(torch.equal(parameter.grad, torch.zeros_like(parameter)) for parameter in head.parameters())


@every_head
def test_the_loss_of_each_record_is_its_own(kind):
    head: Head = HEADS[kind]()
    result, targets = head(torch.randn(5, 6)), PLACEHOLDERS[kind]
    expected = torch.cat([head.loss(result[[row]], targets[[row]]) for row in range(5)])
    assert_close(head.loss(result, targets), expected)


@every_head
def test_the_loss_is_computed_in_float32_under_autocast(kind):
    head: Head = HEADS[kind]()
    result = head(torch.randn(5, 6)).detach()
    with torch.autocast("cpu", torch.bfloat16):
        assert head.loss(result.bfloat16(), PLACEHOLDERS[kind]).dtype == torch.float32


@every_head
def test_saved_heads_hold_only_what_is_exported(kind):
    assert set(HEADS[kind]().state_dict()) == {"linear.weight", "linear.bias"}


def test_cross_entropy_with_smoothing_and_weights_agrees_with_its_formula():
    head = ClassificationHead(6, LABELS, label_smoothing=0.2, class_weights=[1.0, 2.0, 0.5])
    target = torch.tensor([0, 1, 2, 1, 0])
    log_probabilities = outputs().log_softmax(dim=1).double().numpy()
    spread = 0.8 * np.eye(3)[target.numpy()] + 0.2 / 3
    expected = -(spread * log_probabilities).sum(axis=1) * np.array([1.0, 2.0, 0.5])[target.numpy()]
    assert_close(head.loss(outputs(), target), expected)


def test_cross_entropy_without_options_is_torchs():
    target = torch.tensor([0, 1, 2, 1, 0])
    expected = F.cross_entropy(outputs(), target, reduction="none")
    assert_close(ClassificationHead(6, LABELS).loss(outputs(), target), expected)


def test_binary_cross_entropy_with_smoothing_and_weights_agrees_with_its_formula():
    head = MultilabelHead(6, LABELS, label_smoothing=0.2, class_weights=[1.0, 2.0, 0.5])
    target = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]]).float()
    probabilities = 1 / (1 + np.exp(-outputs().double().numpy()))
    smooth = 0.8 * target.numpy() + 0.1
    entropy = -(smooth * np.log(probabilities) + (1 - smooth) * np.log(1 - probabilities))
    assert_close(head.loss(outputs(), target), (entropy * [1.0, 2.0, 0.5]).mean(axis=1))


def test_the_squared_error_is_that_of_the_standardised_target():
    target = torch.tensor([2.0, 10.0, 18.0, 11.0, -6.0])
    expected = (outputs(1)[:, 0] - (target - 10.0) / 4.0) ** 2
    assert_close(HEADS["regression"]().loss(outputs(1), target), expected)


def test_large_numbers_close_together_keep_their_difference():
    head = RegressionHead(6, mean=1.7e9, std=100.0)
    assert_close(head.loss(torch.zeros(2, 1), torch.tensor([1.7e9 + 128, 1.7e9 - 256])), [1.28**2, 2.56**2])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_chance_loss_of_classes_is_that_of_equal_logits(smoothing):
    head = ClassificationHead(6, LABELS, label_smoothing=smoothing)
    assert_close(head.loss(torch.zeros(1, 3), torch.tensor([1])), [head.chance_loss])
    assert head.chance_loss == math.log(3)


def test_the_chance_loss_of_labels_is_that_of_equal_chances():
    head = MultilabelHead(6, LABELS)
    assert_close(head.loss(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 1.0]])), [head.chance_loss])


def test_the_chance_loss_of_numbers_is_that_of_answering_their_mean():
    numbers = torch.tensor([1.0, 4.0, 4.0, 7.0])
    head = RegressionHead(6, mean=float(numbers.mean()), std=float(numbers.std(correction=0)))
    assert_close(head.loss(torch.zeros(4, 1), numbers).mean(), head.chance_loss)


def test_a_single_class_has_a_chance_loss_that_can_be_divided_by():
    assert ClassificationHead(6, ["only"]).chance_loss > 0


def test_decodings_say_what_the_outputs_mean():
    assert HEADS["classification"]().decoding() == Softmax(LABELS)
    assert MultilabelHead(6, LABELS, threshold=0.3).decoding() == Sigmoid(LABELS, (0.3, 0.3, 0.3))
    assert HEADS["regression"]().decoding() == Destandardize(10.0, 4.0, "kg")


@pytest.mark.parametrize("head", [ClassificationHead, MultilabelHead])
def test_there_is_one_class_weight_a_label(head):
    with pytest.raises(ValueError, match="2 class_weights for 3 labels; give one per label"):
        head(6, LABELS, class_weights=[1.0, 2.0])


# --- logit adjustment ---


def adjusted(**options: object) -> ClassificationHead:
    torch.manual_seed(0)
    return ClassificationHead(4, ("a", "b", "c"), frequencies=[0.7, 0.2, 0.1], logit_adjustment=True, **options)


def test_an_adjusted_head_is_trained_on_logits_plus_log_frequencies_and_answers_without_them():
    head, plain = adjusted(), ClassificationHead(4, ("a", "b", "c"))
    plain.load_state_dict(head.state_dict())
    fused, target = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    assert torch.equal(head(fused), plain(fused))
    shares = torch.tensor([0.7, 0.2, 0.1])
    expected = F.cross_entropy(plain(fused) + shares.log(), target, reduction="none")  # equation 10 of the paper
    assert_close(head.loss(head(fused), target), expected)
    assert list(head.state_dict()) == ["linear.weight", "linear.bias"]


def test_the_prior_of_an_adjusted_head_is_that_of_classes_alike_frequent():
    assert adjusted().prior.unique().numel() == 1


def test_an_adjusted_head_needs_frequencies_and_takes_no_class_weights():
    with pytest.raises(ValueError, match="logit_adjustment needs the frequencies, and does what class_weights do"):
        ClassificationHead(4, ("a", "b"), logit_adjustment=True)
    with pytest.raises(ValueError, match="logit_adjustment needs the frequencies"):
        adjusted(class_weights=[1.0, 1.0, 1.0])


def test_rare_classes_gain_by_an_adjusted_head_on_a_balanced_test():
    """E11: digits with 100 records of one class down to 5 of another; published gains are of a linear head."""
    pixels, labels = digits()
    counts = np.geomspace(100, 5, 10).round().astype(int)
    kept, rest = [], []
    for label, count in enumerate(counts):
        rows = np.random.default_rng(label).permutation(np.flatnonzero(labels == label))
        kept, rest = [*kept, *rows[:count]], [*rest, *rows[100:170]]
    shares = (counts / counts.sum()).tolist()
    recalls = []
    for adjust in (False, True):
        torch.manual_seed(0)
        head = ClassificationHead(64, [str(n) for n in range(10)], frequencies=shares, logit_adjustment=adjust)
        x, y = torch.from_numpy(pixels[kept]).float(), torch.from_numpy(labels[kept])
        optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

        def closure(head=head, optimizer=optimizer, x=x, y=y) -> torch.Tensor:
            optimizer.zero_grad()
            loss = head.loss(head(x), y).mean() + 1e-3 / 2 * head.linear.weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        answers = head(torch.from_numpy(pixels[rest]).float()).argmax(dim=1).numpy()
        recalls.append(np.array([(answers[labels[rest] == n] == n).mean() for n in range(10)]))
    plain, balanced = recalls
    assert balanced.mean() > plain.mean() + 0.02
    assert balanced[-3:].mean() > plain[-3:].mean() + 0.08
