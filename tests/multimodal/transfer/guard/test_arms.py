"""Planted cases: what the arms say is known beforehand."""

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.assertions import assert_close, near
from support.digits import digits, few

from multimodal.transfer.folds import repeated_folds
from multimodal.transfer.guard.arms import compare_arms, compare_numbers, probe_scores, sample_rows
from multimodal.transfer.guard.held_out import L2, PENALTIES, ridge_scores


def planted(count: int, strength: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of three classes, features that tell them, and noise."""
    rng, labels = np.random.default_rng(seed), np.arange(count) % 3
    return labels, strength * np.eye(3)[labels] + rng.normal(size=(count, 3)), rng.normal(size=(count, 4))


def test_features_that_decide_where_the_others_are_noise_are_positive():
    labels, telling, noise = planted(90, 5.0)
    found = compare_arms({"raw": noise, "random": noise[:, :2], "probe": telling}, labels)
    assert found["verdict"] == "positive"
    assert found["gap"]["low"] > 0
    assert found["action"].startswith("freezing and fine-tuning these encoders both work")
    assert found["arms"]["probe"]["value"] > 0.9 > 0.6 > found["arms"]["raw"]["value"]
    assert list(found["arms"]) == ["majority", "raw", "random", "probe"]
    assert found["arms"]["majority"]["value"] == near(1 / 3, "a hundredth")


def test_an_encoder_of_some_digits_scrambles_the_others_and_is_negative():
    """Frozen features of the digits 0 to 4 are worse for 5 to 9 than the pixels that they were made of."""
    pixels, labels = digits()
    source, target = labels < 5, few(labels, 60)
    target = target[labels[target] >= 5]
    model = MLPClassifier((64, 32), max_iter=400, random_state=0).fit(pixels[source], labels[source])
    hidden = pixels[target]
    for weights, bias in zip(model.coefs_[:2], model.intercepts_[:2], strict=True):
        hidden = np.maximum(hidden @ weights + bias, 0.0)
    found = compare_arms({"raw": pixels[target], "probe": hidden}, labels[target] - 5)
    assert (found["verdict"], found["against"]) == ("negative", "raw")
    assert found["gap"]["high"] < 0
    assert found["action"] == ("do not freeze these encoders: fine-tune them, or take the better arm, raw features")


def test_few_records_are_inconclusive_and_say_how_many_more_would_do():
    labels, telling, _ = planted(18, 1.0)
    other = planted(18, 1.0, seed=1)[1]
    found = compare_arms({"raw": other, "probe": telling}, labels)
    assert found["verdict"] == "inconclusive"
    assert found["gap"]["low"] < 0 < found["gap"]["high"]
    assert "these labels cannot tell" in found["action"]
    equal = compare_arms({"raw": telling, "probe": telling}, labels)
    assert (equal["more_labels"], equal["gap"]["value"]) == (None, 0.0)
    assert equal["action"].endswith("from raw features: the gap is within chance")


def test_inputs_together_that_lose_against_one_alone_are_named():
    labels, telling, _ = planted(60, 4.0)
    noise = np.random.default_rng(1).normal(size=(60, 300))
    together = np.concatenate([telling, noise], axis=1)
    arms = {"raw": noise, "probe": together, "single:text": telling, "single:image": noise}
    found = compare_arms(arms, labels)["inputs"]
    assert (found["verdict"], found["against"]) == ("negative", "text")
    assert found["note"] == "inputs together lose against text alone"
    assert compare_arms({"raw": noise, "probe": telling}, labels)["inputs"] is None


@pytest.mark.parametrize(
    "best, words",
    [
        ("raw", "raw features"),
        ("random", "random weights"),
        ("single:a", "a alone"),
        ("single:text", "text alone"),
        ("single:my photo", "my photo alone"),
    ],
)
def test_advice_against_the_encoders_names_the_best_arm_of_all(best, words):
    labels, telling, noise = planted(90, 5.0)
    middling = planted(90, 2.5)[1]
    arms = {"raw": middling, "random": noise, "probe": noise[:, :2], "single:a": noise, "single:b": noise}
    found = compare_arms(arms | {best: telling}, labels)
    assert found["verdict"] == "negative"
    assert found["action"].endswith(f"take the better arm, {words}")


def test_advice_for_the_encoders_names_an_input_that_is_better_alone():
    labels, telling, noise = planted(120, 4.0)
    wide = np.random.default_rng(1).normal(size=(120, 300))
    together = np.concatenate([telling, wide], axis=1)
    found = compare_arms({"raw": noise, "probe": together, "single:text": telling, "single:image": wide}, labels)
    assert found["verdict"] == "positive"
    assert found["action"].endswith("; text alone is better than all inputs together")


@pytest.mark.slow
@pytest.mark.parametrize("groups, size, repeats", [(8, 6, 3), (12, 4, 2), (16, 1, 3), (20, 1, 4), (15, 2, 3)])
def test_arms_that_are_alike_are_told_apart_as_seldom_as_5_in_100(groups, size, repeats):
    centres = np.random.default_rng(7).normal(size=(2, 8)) * 3 / np.sqrt(8)
    group = np.repeat(np.arange(groups), size)

    def claims(rng: np.random.Generator) -> bool:
        labels = rng.permutation(np.arange(groups) % 2)[group]
        shared = rng.normal(size=(2, groups, 8))[:, group]  # what the records of a group have in common
        arms = centres[labels] + shared + 0.3 * rng.normal(size=shared.shape)
        found = compare_arms({"probe": arms[0], "raw": arms[1]}, labels, groups=group, repeats=repeats)
        return found["verdict"] != "inconclusive"

    times = 100
    found = sum(claims(np.random.default_rng(seed)) for seed in range(times))
    assert found <= binom.ppf(0.999, times, 0.05)  # 12: more in one of 1000 such tests of a rate of 5 %


def test_a_class_with_fewer_records_than_folds_lowers_their_number():
    labels = np.array([0, 0, 0, 1, 1])
    features = np.arange(5.0)[:, None]
    assert compare_arms({"raw": features, "probe": features}, labels)["folds"] == 3


def test_the_probe_is_scikit_learns_on_features_scaled_inside_the_fold():
    labels, telling, _ = planted(60, 1.0)
    parts = repeated_folds(labels, folds=5)
    scores = probe_scores(telling, labels, parts)
    train, test = parts[0] != 0, parts[0] == 0
    scaling = StandardScaler().fit(telling[train])
    reference = LogisticRegression(C=1 / (L2 * train.sum()), tol=1e-8, max_iter=1000)
    reference.fit(scaling.transform(telling[train]), labels[train])
    expected = reference.predict(scaling.transform(telling[test])) == labels[test]
    assert scores[0, test].tolist() == expected.astype(float).tolist()


def test_a_sample_keeps_the_shares_of_the_classes():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    rows = sample_rows(labels, 100, seed=3)
    assert np.bincount(labels[rows]).tolist() == [60, 30, 10]
    assert len(np.unique(rows)) == 100
    assert sample_rows(labels, 1000).tolist() == list(range(1000))


def numbers(count: int, strength: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Targets, their fifths, features that tell them, and noise."""
    rng = np.random.default_rng(seed)
    telling, noise = rng.normal(size=(2, count, 3))
    targets = 100 + 7 * (strength * telling.sum(axis=1) + rng.normal(size=count))
    return targets, np.argsort(np.argsort(targets)) * 5 // count, telling, noise


@pytest.mark.parametrize("count, strength", [(60, 3.0), (90, 2.0), (150, 1.0), (300, 0.7), (80, 5.0)])
def test_numbers_are_compared_by_r2(count, strength):
    targets, strata, telling, noise = numbers(count, strength)
    found = compare_numbers({"raw": noise, "random": noise[:, :2], "probe": telling}, targets, strata)
    assert (found["verdict"], found["metric"]) == ("positive", "r2")
    explained = 3 * strength**2 / (3 * strength**2 + 1)
    assert found["arms"]["probe"]["value"] == near(explained, "three twentieths")
    assert found["arms"]["mean"]["value"] <= 0
    swapped = compare_numbers({"raw": telling, "probe": noise}, targets, strata)
    assert swapped["verdict"] == "negative"
    assert swapped["action"].endswith("take the better arm, raw features")


def test_the_scores_of_a_ridge_are_those_of_scikit_learn():
    targets, strata, telling, _ = numbers(50, 1.0)
    parts = repeated_folds(strata, folds=5, repeats=2)
    found = ridge_scores(telling, targets, parts)
    for repeat, part in enumerate(parts):
        pipeline = make_pipeline(StandardScaler(), RidgeCV(alphas=PENALTIES))
        predicted = cross_val_predict(pipeline, telling, targets, cv=PredefinedSplit(part))
        assert_close(found[repeat].mean(), r2_score(targets, predicted), "sums")
