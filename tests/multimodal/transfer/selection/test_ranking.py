import numpy as np
import pytest

from multimodal.transfer.folds import repeated_folds
from multimodal.transfer.selection.ranking import (
    CandidateScore,
    LabelledFolds,
    agreement,
    choose_candidate,
    score_candidate,
)

RNG = np.random.default_rng(0)
CLASSES = np.arange(90) % 3
FEATURES = {strength: RNG.normal(size=(90, 6)) + strength * np.eye(3, 6)[CLASSES] for strength in (0.0, 1.0, 2.0, 4.0)}


def judged(labels: np.ndarray = CLASSES) -> dict[str, LabelledFolds]:
    return {"kind": LabelledFolds(np.arange(90), labels, repeated_folds(labels, folds=5, repeats=2))}


def order(features: dict) -> list:
    scores = {name: score_candidate(values, judged()) for name, values in features.items()}
    return sorted(scores, key=lambda name: -scores[name].value)


def test_features_that_tell_more_rank_higher_and_logme_agrees():
    scores = {str(strength): score_candidate(values, judged()) for strength, values in FEATURES.items()}
    assert order(FEATURES) == [4.0, 2.0, 1.0, 0.0]
    assert agreement(scores) == 1.0
    for score in scores.values():
        assert score.interval[0] <= score.value <= score.interval[1]


def test_the_order_does_not_depend_on_scale_nor_on_the_order_of_candidates():
    scale = np.array([1e-3, 1.0, 50.0, 3.0, 1e4, 0.1])
    rescaled = {name: values * scale + 7.0 for name, values in reversed(FEATURES.items())}
    assert order(rescaled) == order(FEATURES)
    plain, other = (score_candidate(values[2.0], judged()) for values in (FEATURES, rescaled))
    assert other.per_fold.tolist() == plain.per_fold.tolist()


def test_features_that_belong_to_other_records_rank_last():
    shuffled = {name: values for name, values in FEATURES.items() if name}
    shuffled["permuted"] = FEATURES[4.0][RNG.permutation(90)]
    assert order(shuffled)[-1] == "permuted"


def fixed(*values: float) -> CandidateScore:
    return CandidateScore(np.array(values), {}, (0.0, 1.0), 0.0)


def test_the_cheapest_within_one_standard_error_is_chosen():
    scores = {"large": fixed(0.8, 0.9, 0.85), "small": fixed(0.8, 0.88, 0.84), "tiny": fixed(0.5, 0.5, 0.5)}
    costs = {"large": 100.0, "small": 10.0, "tiny": 1.0}
    assert choose_candidate(scores, costs) == "small"
    assert choose_candidate(dict(reversed(scores.items())), costs) == "small"


def test_of_equal_cost_the_best_score_is_chosen():
    scores = {"a": fixed(0.84, 0.85), "b": fixed(0.85, 0.86)}
    assert choose_candidate(scores, {"a": 1.0, "b": 1.0}) == "b"


def test_few_or_equal_candidates_have_no_tau():
    assert agreement({"a": fixed(0.5, 0.5)}) is None
    assert agreement(dict.fromkeys("abc", fixed(0.5, 0.5))) is None


def test_the_score_is_the_mean_over_tasks():
    two = judged() | {"other": LabelledFolds(np.arange(90), CLASSES, judged()["kind"].parts)}
    one, both = score_candidate(FEATURES[1.0], judged()), score_candidate(FEATURES[1.0], two)
    assert both.value == pytest.approx(one.value)
    assert both.per_task == {"kind": one.value, "other": one.value}
