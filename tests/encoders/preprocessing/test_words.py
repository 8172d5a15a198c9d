import pickle

import numpy as np
import pytest

from encoders.preprocessing import UnreadableValueError, load_preprocessor, preprocessor_from_config, save_preprocessor
from encoders.preprocessing.words import WordPreprocessor

WORDS = ("the", "apple", "Apple", "don't", "1.5", "kg", ",", "crème", "red", "tree", "U.S", "漢字")


def words(text: str, **options: int) -> list[str]:
    """The vocabulary's words of a text; "" is unknown."""
    known = ("", *WORDS)
    return [known[number] for number in WordPreprocessor(WORDS, **options)(text)["input_ids"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The apple, the Apple", ["the", "apple", ",", "the", "Apple"]),
        ("APPLE", ["apple"]),
        ("don't DON\u2019T", ["don't", "don't"]),
        ("1.5 kg", ["1.5", "kg"]),
        ("red-apple/tree", ["red", "apple", "tree"]),
        ("a mango.the", ["the"]),
        ("cre\u0300me", ["crème"]),
        ("(U.S.)", ["U.S"]),
        ("漢字", ["漢字"]),
        ("mango", [""]),
        ("", [""]),
        (" \n", [""]),
        ("\ud83d apple", ["apple"]),
    ],
)
def test_words_are_looked_up_as_written_then_small_then_in_parts(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize("count", [1, 2, 5, 11, 12])
def test_the_largest_number_is_that_of_the_last_word(count):
    preprocessor = WordPreprocessor(WORDS[:count])
    assert preprocessor.largest_values == {"input_ids": count, "attention_mask": 1}
    assert preprocessor(" ".join(WORDS))["input_ids"].max() == count


def test_only_known_words_count_towards_the_length():
    assert words("mango apple mango red the tree", max_tokens=3) == ["apple", "red", "the"]


def test_of_a_long_text_only_the_beginning_is_read():
    assert words("m" * 300 + " apple", max_tokens=3) == [""]


def test_arrays_and_padding():
    preprocessor = WordPreprocessor(WORDS)
    stacked = preprocessor.stack([preprocessor("the red tree"), preprocessor("mango"), preprocessor.blank()])
    assert stacked["input_ids"].tolist() == [[1, 9, 10], [0, 0, 0], [0, 0, 0]]
    assert stacked["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert {array.dtype for array in stacked.values()} == {np.dtype(np.int64)}


def test_it_is_the_same_after_a_trip_through_a_folder_and_through_a_process(tmp_path):
    original = WordPreprocessor(WORDS, max_tokens=7)
    save_preprocessor(original, tmp_path)
    assert (tmp_path / "vocabulary.txt").read_text(encoding="utf-8").split("\n")[:-1] == list(WORDS)
    for copy in (load_preprocessor(tmp_path), pickle.loads(pickle.dumps(original))):
        assert (copy.words, copy.max_tokens) == (WORDS, 7)
        assert copy("The red tree")["input_ids"].tolist() == [1, 9, 10]


@pytest.mark.parametrize("raw", [None, 3, b"apple"])
def test_another_type_is_refused(raw):
    with pytest.raises(UnreadableValueError, match=f"cannot be a {type(raw).__name__}; give a str"):
        WordPreprocessor(WORDS)(raw)


def test_a_vocabulary_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="the vocabulary has 2 words, 1 of them different"):
        WordPreprocessor(["a", "a"])
    with pytest.raises(ValueError, match="the vocabulary has 0 words"):
        WordPreprocessor([])
    for bad in ("two words", "", "line\n"):
        with pytest.raises(ValueError, match="which no text can hold as one word; leave it out"):
            WordPreprocessor(["a", bad])
    with pytest.raises(ValueError, match=r"needs the file vocabulary\.txt"):
        preprocessor_from_config({"kind": "words"}, {})
    with pytest.raises(ValueError, match="max_tokens is 0"):
        WordPreprocessor(WORDS, max_tokens=0)
