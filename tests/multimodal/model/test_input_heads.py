import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from support.assertions import assert_close
from support.tiny_models import make_dataset, make_model, make_rows
from torch import Tensor

from multimodal.evaluation import answer, expert_weights_of, fit_expert_weights
from multimodal.model.heads import ClassificationHead, Head, MultilabelHead, RegressionHead
from multimodal.model.input_heads import LateHead

IN_DIMS = {"image": 4, "text": 3, "audio": 5}


def late_head(kind: type[Head] = ClassificationHead, *arguments: object, **options: object) -> LateHead:
    """Over the image and the text, of three inputs."""
    torch.manual_seed(0)
    return LateHead({name: kind(IN_DIMS[name], *arguments, **options) for name in ("image", "text")}, IN_DIMS).eval()


def parts(records: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(records, width, generator=generator) for name, width in IN_DIMS.items()}


def present(**absent: list[int]) -> dict[str, Tensor]:
    """Of records some without an input."""
    return {name: torch.tensor([row not in absent.get(name, []) for row in range(3)]) for name in IN_DIMS}


def side_by_side(values: dict[str, Tensor]) -> Tensor:
    return torch.cat([values[name] for name in IN_DIMS], dim=1)


# --- what it answers ---------------------------------------------------------------------------------------------


def test_evidence_over_the_prior_adds_up_by_trust() -> None:
    frequencies = [0.5, 0.3, 0.2]
    head = late_head(ClassificationHead, ("a", "b", "c"), frequencies=frequencies)
    head.expert_weights.copy_(torch.tensor([0.5, 2.0]))
    given = parts()
    alone = {name: log_softmax(head.head(name)(given[name]).detach(), axis=1) for name in head.names}
    prior = np.log(frequencies)
    expected = prior + 0.5 * (alone["image"] - prior) + 2.0 * (alone["text"] - prior)
    assert_close(torch.log_softmax(head(side_by_side(given)), dim=1), log_softmax(expected, axis=1))


def test_bayes_rule_holds_where_inputs_are_independent_given_the_answer() -> None:
    """Two features of two values each, and what a perfect head says of each."""
    prior, likelihood = np.array([0.7, 0.3]), np.array([[0.9, 0.4], [0.2, 0.6]])  # of the answer; of value 1 [input, c]
    head = late_head(ClassificationHead, ("a", "b"), frequencies=list(prior))
    alone = [np.log(prior * p / (prior * p).sum()) for p in likelihood]
    combined = head.combine(torch.from_numpy(np.stack(alone))[:, None].float(), torch.ones(2, 1))
    both = prior * likelihood.prod(axis=0)
    assert_close(torch.softmax(combined, dim=1)[0], both / both.sum())


def test_an_input_that_is_missing_says_nothing_and_without_any_the_prior_answers() -> None:
    head = late_head(ClassificationHead, ("a", "b"), frequencies=[0.8, 0.2])
    given = parts(3)
    outputs = head(side_by_side(given), present(image=[1]))
    assert_close(outputs[1:2], head.head("text")(given["text"][1:2]))
    outputs = head(side_by_side(given), present(image=[1], text=[1]))
    assert_close(torch.softmax(outputs[1], dim=0), [0.8, 0.2])


def test_inputs_that_the_task_does_not_use_change_nothing() -> None:
    head, given = late_head(RegressionHead), parts()
    before = head(side_by_side(given))
    given["audio"] += 1
    assert torch.equal(head(side_by_side(given)), before)


def test_numbers_are_averaged_by_trust_over_the_inputs_that_are_there() -> None:
    head = late_head(RegressionHead, mean=10.0, std=2.0)
    head.expert_weights.copy_(torch.tensor([1.0, 3.0]))
    given = parts(3)
    image, text = (head.head(name)(given[name]).detach() for name in head.names)
    outputs = head(side_by_side(given), present(text=[1, 2], image=[2]))
    assert_close(outputs, torch.stack([0.25 * image[0] + 0.75 * text[0], image[1], torch.zeros(1)]))


@pytest.mark.parametrize("kind", [ClassificationHead, MultilabelHead, RegressionHead])
def test_an_input_whose_vector_is_zero_is_there_all_the_same(kind: type[Head]) -> None:
    head = late_head(kind) if kind is RegressionHead else late_head(kind, ("a", "b"))
    given = parts(3)
    given["image"][1] = 0
    alone = [head.head(name)(given[name]) for name in head.names]
    assert_close(head(side_by_side(given)), head.combine(torch.stack(alone), torch.ones(2, 3)))
    assert_close(head(side_by_side(given)), head(side_by_side(given), present()))


def test_labels_are_combined_one_by_one() -> None:
    head = late_head(MultilabelHead, ("a", "b"), frequencies=[0.1, 0.5])
    given = parts()
    prior = torch.tensor([math.log(0.1 / 0.9), 0.0])
    expected = sum(head.head(name)(given[name]) for name in head.names) - prior
    assert_close(head(side_by_side(given)), expected)


def test_classes_that_are_weighted_evenly_have_an_even_prior() -> None:
    head = ClassificationHead(3, ("a", "b"), class_weights=[0.625, 2.5], frequencies=[0.8, 0.2])
    assert_close(torch.softmax(head.prior, dim=0), [0.5, 0.5])


# --- expert weights ----------------------------------------------------------------------------------------------


def test_fitted_expert_weights_have_the_smallest_loss() -> None:
    head = late_head(ClassificationHead, ("a", "b", "c"), label_smoothing=0.1)
    generator = torch.Generator().manual_seed(2)
    target = torch.randint(3, (60,), generator=generator)
    answers = torch.randn(2, 60, 3, generator=generator)
    answers[1] += 2 * torch.nn.functional.one_hot(target, 3)  # the second knows something
    present = torch.rand(2, 60, generator=generator) < 0.8
    head.fit_expert_weights(answers, present, target)

    def loss(logs: np.ndarray) -> float:
        expert_weights = torch.from_numpy(logs).exp()
        outputs = head.combine(answers.double(), present * expert_weights[:, None])
        return float(head.loss(outputs, target).sum() + (logs**2).sum()) / 60

    best = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-10})
    assert_close(head.expert_weights.log(), best.x, "optimum")
    assert head.expert_weights[0] < 0.5 < head.expert_weights[1]


def test_expert_weights_are_kept_with_the_weights_and_are_no_parameters() -> None:
    head = late_head(RegressionHead)
    assert "expert_weights" in head.state_dict()
    assert not any(name == "expert_weights" for name, _ in head.named_parameters())


@pytest.mark.parametrize("gaps", [False, True])
def test_fitting_answers_as_the_model_then_does(tmp_path: Path, gaps: bool) -> None:
    model = make_model(fusion="late").eval()
    data = make_dataset(make_rows(tmp_path, 24, gaps=gaps), tmp_path, model)
    answers = fit_expert_weights(model, data)
    again = answer(model, data, subsets=[model.input_names])
    for task in model.heads:
        assert_close(answers.outputs[model.input_names][task], again.outputs[model.input_names][task])
    assert np.array_equal(answers.answered[model.input_names], again.answered[model.input_names])
    expert_weights = expert_weights_of(model)
    assert {task: list(by_input) for task, by_input in expert_weights.items()} == {
        task: ["image", "text"] for task in expert_weights
    }
    assert expert_weights.keys() == set(model.heads)
    assert expert_weights["color"] != {"image": 1.0, "text": 1.0}
    fit_expert_weights(model, data)
    assert expert_weights_of(model) == expert_weights  # what was fitted before has no say


def test_without_a_known_answer_every_input_is_trusted_alike(tmp_path: Path) -> None:
    model = make_model(fusion="late").eval()
    rows = [{**row, "color": None, "price": None} for row in make_rows(tmp_path, 4)]
    fit_expert_weights(model, make_dataset(rows, tmp_path, model))
    assert expert_weights_of(model)["color"] == {"image": 1.0, "text": 1.0}


def test_adjusted_heads_add_their_evidence_over_classes_alike_frequent() -> None:
    """Bayes: what two independent inputs say of a world where all classes are as frequent, whatever training had."""
    head = late_head(ClassificationHead, ("a", "b"), frequencies=[0.9, 0.1], logit_adjustment=True)
    likelihood = np.array([[0.9, 0.4], [0.2, 0.6]])
    alone = [np.log(p / p.sum()) for p in likelihood]
    combined = head.combine(torch.from_numpy(np.stack(alone))[:, None].float(), torch.ones(2, 1))
    both = likelihood.prod(axis=0)
    assert_close(torch.softmax(combined, dim=1)[0], both / both.sum())
    assert_close(head.loss_offsets, np.log([0.9, 0.1]))
