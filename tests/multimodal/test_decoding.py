import json

import numpy as np
import pytest
from support.assertions import assert_close

from multimodal.decoding import Destandardize, PairedEmbeddings, Prediction, Sigmoid, Softmax

LABELS = ("apple", "pear", "plum")
DECODINGS = [
    Softmax(LABELS, temperature=2.0),
    Sigmoid(LABELS, (0.2, 0.5, 0.9)),
    Destandardize(3.0, 2.0, "EUR"),
]


@pytest.mark.parametrize("decoding", DECODINGS, ids=lambda decoding: decoding.kind)
def test_json_rebuilds_the_same_decoding(decoding):
    config = json.loads(json.dumps(decoding.to_config()))
    assert type(decoding).from_config(config) == decoding


@pytest.mark.parametrize("decoding", DECODINGS, ids=lambda decoding: decoding.kind)
def test_one_answer_a_record_also_of_none(decoding):
    width = 1 if decoding.kind == "destandardize" else 3
    outputs = np.random.default_rng(0).normal(size=(4, width)).astype(np.float32)
    assert len(decoding.predictions(outputs)) == 4
    assert decoding.predictions(outputs[2:3]) == decoding.predictions(outputs)[2:3]
    assert decoding.predictions(outputs[:0]) == []


def test_paired_embeddings_come_back_by_json_and_are_told_apart():
    decoding = PairedEmbeddings(("image", "text"))
    assert PairedEmbeddings.from_config(json.loads(json.dumps(decoding.to_config()))) == decoding
    outputs = np.arange(12, dtype=np.float32).reshape(2, 6)
    first, second = decoding.split(decoding.scores(outputs))
    assert_close(np.concatenate([first, second], axis=1), outputs)
    assert first.shape == (2, 3)
    assert [answer.embedding.tolist() for answer in decoding.predictions(outputs)] == outputs.tolist()


def test_the_json_of_another_decoding_is_refused():
    with pytest.raises(ValueError, match="of kind 'poem', and 'softmax' is needed; export the run again"):
        Softmax.from_config({"kind": "poem"})
    with pytest.raises(ValueError, match="of kind None"):
        Softmax.from_config({"labels": ["a"]})


def test_softmax_gives_the_most_probable_class_and_all_probabilities():
    logits = np.log([[0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    first, second = Softmax(LABELS).predictions(logits)
    assert (first.label, second.label) == ("pear", "apple")
    assert first.probability == first.probabilities["pear"]
    assert list(first.probabilities) == list(LABELS)
    assert_close(list(first.probabilities.values()), [0.2, 0.7, 0.1], "float64")
    assert (first.labels, first.value, first.embedding, first.missing) == ((), None, None, ())


def test_the_temperature_divides_the_logits():
    logits = np.array([[2.0, 0.0, -1.0]])
    exponentials = np.exp(logits / 4.0)
    assert_close(Softmax(LABELS, temperature=4.0).scores(logits), exponentials / exponentials.sum(), "float64")


def test_large_logits_do_not_overflow():
    logits = np.array([[1e4, -1e4, 0.0]], np.float32)
    assert Softmax(LABELS).scores(logits).tolist() == [[1.0, 0.0, 0.0]]
    assert Sigmoid(LABELS, (0.5,) * 3).scores(logits).tolist() == [[1.0, 0.0, 0.5]]


def test_sigmoid_gives_every_label_that_reaches_its_threshold():
    probabilities = np.array([[0.3, 0.6, 0.8], [0.1, 0.1, 0.95], [0.1, 0.1, 0.1]])
    outputs = np.log(probabilities / (1 - probabilities))
    answers = Sigmoid(LABELS, (0.2, 0.5, 0.9)).predictions(outputs)
    assert [answer.labels for answer in answers] == [("apple", "pear"), ("plum",), ()]
    assert answers[2].probability is None
    assert_close([answers[0].probability, answers[1].probability], [0.3, 0.95], "float64")
    assert_close(list(answers[0].probabilities.values()), probabilities[0], "float64")
    assert answers[0].label is None


def test_a_probability_equal_to_the_threshold_gives_the_label():
    assert Sigmoid(("new",), (0.5,)).predictions(np.array([[0.0]]))[0].labels == ("new",)


def test_a_number_comes_back_in_the_datas_unit():
    answers = Destandardize(10.0, 2.0, "EUR").predictions(np.array([[0.0], [-1.5]], np.float32))
    assert answers == [Prediction(value=10.0), Prediction(value=7.0)]
    assert type(answers[0].value) is float


def test_scores_are_float64_whatever_the_outputs_are():
    for decoding in DECODINGS:
        outputs = np.zeros((2, 1 if decoding.kind == "destandardize" else 3), np.float16)
        assert decoding.scores(outputs).dtype == np.float64
