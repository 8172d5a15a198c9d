"""Calibration against other people's code: scikit-learn's curve, scipy's minimiser."""

import numpy as np
import pytest
from PIL import Image
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss
from support.assertions import assert_close

from multimodal.builders.heads import build_decodings
from multimodal.config import ConfigError, Task, parse_job
from multimodal.decoding import Destandardize, Sigmoid, Softmax
from multimodal.explain.reliability_diagram import draw_reliability
from multimodal.metrics import task_metrics
from multimodal.metrics.calibration import BINS, fit_temperature, measure_calibration, reliability, with_temperature

LABELS = ("apple", "pear", "plum", "fig")
SOFTMAX = Softmax(LABELS)
SIGMOID = Sigmoid(LABELS, (0.2, 0.5, 0.5, 0.9))


def overconfident(n: int = 3000, factor: float = 3.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are ``factor`` times those that the targets were drawn from."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, len(LABELS)))
    probabilities = SOFTMAX.scores(logits)
    targets = (probabilities.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return (factor * logits).astype(np.float32), targets


def several(n: int = 2000, factor: float = 2.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(n, len(LABELS)))
    return factor * logits, (rng.random(logits.shape) < SIGMOID.scores(logits)).astype(np.float32)


def test_the_error_is_that_of_scikit_learns_curve():
    rng = np.random.default_rng(0)
    stated = rng.random(500)
    true = rng.random(500) < stated**2
    frequency, probability = calibration_curve(true, stated, n_bins=BINS, strategy="uniform")
    found = reliability(stated, true)
    filled = found.counts > 0
    assert_close(found.frequency[filled], frequency, "float64")
    assert_close(found.probability[filled], probability, "float64")
    weights = found.counts[filled] / 500
    assert_close(found.error, float((weights * np.abs(frequency - probability)).sum()), "float64")


def test_the_ends_of_the_scale_are_in_the_first_and_last_bin():
    found = reliability(np.array([0.0, 1.0, 1 / BINS]), np.array([False, True, False]))
    assert (found.counts[0], found.counts[-1], found.counts.sum()) == (2, 1, 3)
    assert reliability(np.zeros(0), np.zeros(0, bool)).error == 0.0


def test_the_temperature_of_logits_that_are_too_large_is_found():
    outputs, targets = overconfident()
    temperature = fit_temperature(SOFTMAX, outputs, targets)
    assert 2.8 < temperature < 3.2
    fitted = minimize_scalar(
        lambda t: log_loss(targets, Softmax(LABELS, t).scores(outputs)), bounds=(0.1, 20), method="bounded"
    ).x
    assert abs(temperature - fitted) < 0.01  # the pull of one record among 3,000
    assert fit_temperature(SOFTMAX, outputs, targets) == temperature  # deterministic
    assert abs(fit_temperature(SOFTMAX, overconfident(factor=1.0)[0], targets) - 1) < 0.1


def test_the_temperature_of_several_labels_is_found():
    outputs, targets = several()
    temperature = fit_temperature(SIGMOID, outputs, targets)
    fitted = minimize_scalar(
        lambda t: log_loss(targets.ravel(), Sigmoid(LABELS, (0.5,) * 4, t).scores(outputs).ravel()),
        bounds=(0.1, 20),
        method="bounded",
    ).x
    assert abs(temperature - fitted) < 0.01


@pytest.mark.parametrize("decoding", [SOFTMAX, SIGMOID], ids=lambda decoding: decoding.kind)
def test_a_temperature_improves_calibration_and_changes_no_answer(decoding):
    outputs, targets = overconfident() if decoding is SOFTMAX else several()
    fitted = with_temperature(decoding, fit_temperature(decoding, outputs, targets))
    before, after = decoding.predictions(outputs), fitted.predictions(outputs)
    assert [(p.label, p.labels) for p in before] == [(p.label, p.labels) for p in after]
    measured = measure_calibration(fitted, outputs, targets)
    assert measured["after"]["error"] < 0.3 * measured["before"]["error"]
    assert measured["after"]["log_loss"] < measured["before"]["log_loss"]
    assert measured["records"] == len(targets)
    assert sum(measured["after"]["bins"]["counts"]) == len(targets) * (1 if decoding is SOFTMAX else len(LABELS))
    accuracy = [task_metrics(d, outputs, targets)["accuracy"] for d in (decoding, fitted)]
    assert accuracy[0] == accuracy[1]


def test_the_log_loss_is_scikit_learns():
    outputs, targets = overconfident(200)
    measured = measure_calibration(Softmax(LABELS, 2.0), outputs, targets)
    assert_close(measured["before"]["log_loss"], log_loss(targets, SOFTMAX.scores(outputs)), "float64")
    assert_close(measured["after"]["log_loss"], log_loss(targets, Softmax(LABELS, 2.0).scores(outputs)), "float64")


def test_tables_that_cannot_tell_leave_the_temperature_near_one():
    targets = np.arange(4)
    separated = fit_temperature(SOFTMAX, 5.0 * np.eye(4), targets)  # no answer is wrong: the loss has no minimum
    assert 0.5 < separated < 1.0
    assert fit_temperature(SOFTMAX, np.zeros((0, 4)), np.zeros(0, np.int64)) == 1.0
    assert fit_temperature(SOFTMAX, np.eye(4), np.full(4, 4)) == 1.0  # labels that training did not have
    assert fit_temperature(Destandardize(0.0, 1.0), np.ones((3, 1)), np.ones(3)) == 1.0


def test_an_unknown_label_is_a_statement_that_did_not_come_true():
    outputs, targets = 9.0 * np.eye(4), np.array([0, 1, 2, 5])
    measured = measure_calibration(SOFTMAX, outputs, targets)
    assert_close(measured["after"]["error"], SOFTMAX.scores(outputs)[0, 0] - 0.75, "float64")
    empty = measure_calibration(SOFTMAX, np.zeros((0, 4)), np.zeros(0, np.int64))
    assert (empty["after"]["error"], empty["after"]["log_loss"]) == (None, None)
    assert measure_calibration(Destandardize(0.0, 1.0), np.ones((3, 1)), np.ones(3)) is None


def test_decodings_written_before_there_were_temperatures_mean_one():
    softmax = Softmax.from_config({"kind": "softmax", "labels": ["a", "b"], "temperature": 1.0})
    sigmoid = Sigmoid.from_config({"kind": "sigmoid", "labels": ["a"], "thresholds": [0.5]})
    assert (softmax.temperature, softmax.min_probability, sigmoid.temperature) == (1.0, 0.0, 1.0)
    assert with_temperature(sigmoid, 3.0).thresholds == (0.5,)


def test_below_the_smallest_probability_there_is_no_answer():
    outputs = np.log([[0.4, 0.3, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1]])
    unsure, sure = Softmax(LABELS, min_probability=0.5).predictions(outputs)
    assert (unsure.label, sure.label) == (None, "apple")
    assert_close(unsure.probability, 0.4, "float64")
    assert list(unsure.probabilities) == list(LABELS)


def test_coverage_and_the_accuracy_among_the_answered():
    probabilities = np.array([[0.4, 0.3, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], [0.3, 0.3, 0.4, 0.0]])
    outputs, targets = np.log(probabilities + 1e-9), np.array([1, 0, 0, 2])
    metrics = task_metrics(Softmax(LABELS, min_probability=0.5), outputs, targets)
    assert (metrics["accuracy"]["value"], metrics["coverage"]["value"]) == (0.5, 0.5)
    assert metrics["answered_accuracy"]["value"] == 0.5
    assert metrics["coverage"]["low"] < 0.5 < metrics["coverage"]["high"]
    assert "coverage" not in task_metrics(SOFTMAX, outputs, targets)
    none = task_metrics(Softmax(LABELS, min_probability=0.99), outputs, targets)
    assert (none["coverage"]["value"], none["answered_accuracy"]["value"]) == (0.0, None)


def test_the_smallest_probability_is_of_the_description_and_for_classes_alone():
    values = {"inputs": {"text": {"encoder": "compact/text"}}, "tasks": {"kind": {"min_probability": 0.8}}}
    decodings = build_decodings(parse_job(values), {"kind": SOFTMAX})
    assert decodings["kind"].min_probability == 0.8
    assert Task().min_probability == 0.0
    values["tasks"]["kind"]["type"] = "multilabel"
    with pytest.raises(ConfigError, match="min_probability belongs to type: classification, and type is multilabel"):
        parse_job(values)
    with pytest.raises(ConfigError, match=r"min_probability is for classification, .* multilabel: leave it out"):
        parse_job(values, resolved=True)
    values["tasks"] = {"tags": {"type": "multilabel"}}
    assert build_decodings(parse_job(values), {"tags": SIGMOID}) == {"tags": SIGMOID}


def test_the_figure_shows_bars_and_rings(tmp_path):
    outputs, targets = overconfident()
    measured = measure_calibration(Softmax(LABELS, 3.0), outputs, targets)
    draw_reliability(measured, "fruit", tmp_path / "deep" / "fruit.png")
    with Image.open(tmp_path / "deep" / "fruit.png") as image:
        assert image.format == "PNG"
        colors = {color for _, color in image.convert("RGB").getcolors(100_000)}
    assert {(213, 94, 0), (0, 114, 178)} <= colors
    empty = measure_calibration(SOFTMAX, np.zeros((0, 4)), np.zeros(0, np.int64))
    draw_reliability(empty, "fruit", tmp_path / "empty.png")
    assert (tmp_path / "empty.png").is_file()


def test_answers_as_if_classes_were_alike_frequent_are_cooled_by_the_frequencies_of_the_records():
    """Logits of balanced classes, three times too sure, on records of which one class is rare: the factor is found."""
    rng = np.random.default_rng(0)
    shares = np.array([0.9, 0.08, 0.02])
    targets = rng.choice(3, 20_000, p=shares)
    means = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    features = means[targets] + rng.normal(size=(len(targets), 2))
    logits = features @ means.T - (means**2).sum(axis=1) / 2  # log likelihoods: the answer where all are as frequent
    softmax = Softmax(("a", "b", "c"))
    assert abs(fit_temperature(softmax, 3.0 * logits, targets, np.log(shares)) - 3.0) < 0.1
    assert abs(fit_temperature(softmax, 3.0 * logits, targets) - 3.0) > 0.2  # without them: of another world
