"""Static word vectors: files of every format, their conversion, and the encoder made of them."""

import errno
import io
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.assertions import assert_close
from support.word_files import FORMATS, WORDS, make_vectors, write_vectors

from encoders import create_encoder
from encoders.preprocessing import load_preprocessor, save_preprocessor
from encoders.testing import check_encoder
from encoders.text import word_table
from encoders.text.word_table import WordTable

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def glove(tmp_path):
    return write_vectors(tmp_path / "glove.txt", make_vectors(), "glove.txt")


def encode(encoder, texts):
    arrays = encoder.preprocessor.stack([encoder.preprocessor(text) for text in texts])
    with torch.no_grad():
        return encoder({name: torch.from_numpy(array) for name, array in arrays.items()})


# --- reading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_vectors_that_were_written(form, tmp_path):
    vectors = make_vectors()
    encoder = create_encoder(f"wordvectors/{write_vectors(tmp_path / form, vectors, form)}")
    tokens, mask = encode(encoder, ["The red apple, Milk!", "crème of 1.5 hills"])
    expected = [
        [vectors[word] for word in row]
        for row in (("the", "red", "apple", ",", "Milk"), ("crème", "of", "1.5", "hills"))
    ]
    assert mask.sum(1).tolist() == [5, 4]
    for row, real, wanted in zip(tokens, mask, expected, strict=True):
        np.testing.assert_array_equal(row[real], wanted)
    assert encoder.embed_dim == 4
    assert encoder.provenance.weights == "pretrained"


@pytest.mark.parametrize("form", ["word2vec.bin", "word2vec.txt", "glove.txt"])
def test_words_are_found_in_the_sorted_keys(form, tmp_path):
    vectors = make_vectors((*WORDS, "\U0001f34e", "ÿ", "zz"))
    table = WordTable.open(write_vectors(tmp_path / "file", vectors, form))
    assert len(table) == len(vectors)
    for word, vector in vectors.items():
        np.testing.assert_array_equal(table.matrix[table.row(word)], vector)
    assert [table.row(word) for word in ("", "appl", "apples", "\U0001f34f", "zzz", "\ud83d")] == [None] * 6


def test_words_with_spaces_are_read_and_left_out_of_the_vocabulary(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_bytes(b"the 1 2\n. . . 3 4\nbad\xff 5 6\n\xc2\xa0 7 8\n\napple 9 10\r\n")
    table = WordTable.open(path)
    assert table.matrix.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    assert table.row(". . .") == 1
    assert table.most_frequent(9) == {"the": 0, "apple": 4}


def test_of_a_word_that_is_there_twice_the_first_counts(tmp_path, caplog):
    path = tmp_path / "file.txt"
    path.write_text("a 1\nb 2\na 3\n")
    with caplog.at_level(logging.INFO):
        table = WordTable.open(path)
    assert table.matrix[table.row("a")] == 1
    assert "1 words are there twice" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: is neither 'words dim' nor a word and its numbers"),
        (b"hello\nworld\n", "line 1: is neither"),
        (b"the one two\n", "line 1: is neither"),
        (b"the 1 2\napple 1\n", "line 2: is no word with 2 numbers"),
        (b"2 2\nthe 1 2\napple 1 x\n", "line 3: is no word with 2 numbers"),
        (b"the 1 2\napple 1 nan\n", "line 2: holds a number that is not finite"),
        (b"3 2\nthe 1 2\napple 1 2\n", "announces 3 words and holds 2"),
        (b"1 2\nthe 1 2\napple 1 2\n", "announces 1 words and holds 2"),
        (b"2 2\nthe " + b"\1" * 8 + b"apple " + b"\1" * 7, "word 2 of 2: the file ends, or is damaged, here"),
        (b"2 2\nthe " + b"\1" * 8 + b"\1" * 20_000, "word 2 of 2: the file ends, or is damaged, here"),
        (b"1 2\nthe " + b"\1" * 8 + b"apple", "continues after its 1 words"),
        (b"2 1\nthe " + b"\1" * 4 + b"apple \x00\x00\xc0\x7f", "word 2: holds a number that is not finite"),
        (b"0 2\n", "holds no words"),
        (b"\x1f\x8b\x08", "is compressed; unpack it"),
        (b"\xba\x16\x4f\x2f\x0c\x00", r"is a whole fastText model; give its file of vectors, which ends in \.vec"),
    ],
)
def test_damaged_files_are_refused_with_their_line_and_leave_nothing(content, message, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        WordTable.open(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"no file of word vectors 'nowhere\.vec'; give wordvectors/"):
        create_encoder("wordvectors/nowhere.vec")


# --- converting once ---------------------------------------------------------------------------------------------


def test_a_file_is_converted_once_and_again_when_it_has_changed(glove, monkeypatch):
    converted = []
    convert = word_table._convert
    monkeypatch.setattr(word_table, "_convert", lambda *given: converted.append(given) or convert(*given))
    first = WordTable.open(glove)
    WordTable.open(glove)
    assert len(converted) == 1
    write_vectors(glove, make_vectors(("other", "words")), "glove.txt")
    assert WordTable.open(glove).row("other") == 0
    assert len(converted) == 2
    assert first.row("apple") == 2  # who has the old one open, keeps it
    assert sorted(path.name for path in glove.parent.iterdir()) == ["glove.txt", "glove.txt.table"]


@pytest.mark.parametrize("name", ["keys.bin", "offsets.npy", "rows.npy", "matrix.npy", "table.json"])
def test_a_conversion_that_lost_a_part_is_made_again(name, glove):
    WordTable.open(glove)
    part = glove.with_name("glove.txt.table") / name
    part.write_bytes(part.read_bytes()[:-3])
    assert WordTable.open(glove).row("apple") == 2


def test_a_conversion_that_is_cut_off_leaves_nothing(glove, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(word_table, "_write_keys", stop)
    with pytest.raises(KeyboardInterrupt):
        WordTable.open(glove)
    assert list(glove.parent.iterdir()) == [glove]


def test_the_conversion_can_be_kept_elsewhere(glove, tmp_path):
    encoder = create_encoder(f"wordvectors/{glove}", cache=tmp_path / "cache" / "words")
    assert [path.suffix for path in (tmp_path / "cache" / "words").iterdir()] == [".table"]
    assert not glove.with_name("glove.txt.table").exists()
    assert "cache" not in json.dumps(encoder.architecture())


def test_a_place_that_cannot_be_written_is_named(glove, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(word_table.tempfile, "mkdtemp", refuse)
    with pytest.raises(PermissionError, match=r"glove\.txt\.table cannot be written .* as the option cache"):
        WordTable.open(glove)


class Failing(io.BufferedReader):
    """Gives so many bytes of a file, then what the system says of its disk."""

    def __init__(self, path, number, left):
        super().__init__(io.FileIO(path))
        self.number, self.left = number, left

    def _take(self, content):
        self.left -= len(content)
        if self.left < 0:
            raise OSError(self.number, os.strerror(self.number))
        return content

    def read(self, size=-1):
        return self._take(super().read(size))

    def readline(self, size=-1):
        return self._take(super().readline(size))

    def __next__(self):
        return self._take(super().__next__())

    def readinto(self, buffer):
        return len(self._take(buffer[: super().readinto(buffer)]))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ETIMEDOUT, errno.ENXIO])
@pytest.mark.parametrize("opening", [1, 2, 3])
@pytest.mark.parametrize("form", ["glove.txt", "word2vec.bin"])
def test_a_file_that_cannot_be_read_is_not_called_a_place_that_cannot_be_written(
    number, opening, form, tmp_path, monkeypatch
):
    path = write_vectors(tmp_path / form, make_vectors(), form)
    opened, openings = Path.open, []

    def open_(self, mode="r", *arguments, **options):
        if self != path:
            return opened(self, mode, *arguments, **options)
        openings.append(mode)
        return Failing(path, number, 3 if len(openings) == opening else 10**6)

    monkeypatch.setattr(Path, "open", open_)
    with pytest.raises(ValueError, match=f"{form}: cannot be read .{os.strerror(number)}.; see its permissions"):
        WordTable.open(path)
    assert len(openings) == opening
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_three_million_words_open_in_two_seconds_and_200_mb(tmp_path):
    count, dim = 3_000_000, 8
    entries = np.empty(count, dtype=[("word", "S9"), ("vector", "<f4", dim)])
    entries["word"] = [b"w%07d " % number for number in np.random.default_rng(0).permutation(count)]
    entries["vector"] = np.arange(count)[:, None]
    path = tmp_path / "big.bin"
    path.write_bytes(f"{count} {dim}\n".encode() + entries.tobytes())
    WordTable.open(path)
    code = rf"""
import re, time
from pathlib import Path
from encoders.text.word_table import WordTable
start = time.process_time()
table = WordTable.open(Path({str(path)!r}))
rows = [table.row(f"w{{number:07d}}") for number in range(0, 3_000_000, 30_000)]
print(time.process_time() - start, int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
print(*rows)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    figures, rows = done.stdout.strip().split("\n")
    seconds, megabytes = map(float, figures.split())
    assert seconds < 2
    assert megabytes < 200
    found = entries["word"][[int(row) for row in rows.split()]]
    assert found.tolist() == [b"w%07d " % number for number in range(0, count, 30_000)]


# --- the encoder -------------------------------------------------------------------------------------------------


def test_the_vocabulary_is_the_most_frequent_words(glove):
    encoder = create_encoder(f"wordvectors/{glove}", vocabulary=3)
    assert encoder.preprocessor.words == WORDS[:3]
    assert encoder.embed.weight.shape == (4, 4)
    assert len(create_encoder(f"wordvectors/{glove}").preprocessor.words) == len(WORDS)


def test_the_vocabulary_can_be_a_file(glove, tmp_path, caplog):
    (tmp_path / "mine.txt").write_text("pear\nmango\napple\npear\n")
    vectors = make_vectors()
    with caplog.at_level(logging.INFO):
        encoder = create_encoder(f"wordvectors/{glove}", vocabulary=str(tmp_path / "mine.txt"))
    assert encoder.preprocessor.words == ("pear", "apple")
    np.testing.assert_array_equal(encoder.embed.weight.detach(), [[0] * 4, vectors["pear"], vectors["apple"]])
    assert "no vector for 1 of 3 words" in caplog.text


def test_a_vocabulary_that_cannot_be_used_is_refused(glove, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vocabulary 'nowhere\.txt' is no file; give a text file"):
        create_encoder(f"wordvectors/{glove}", vocabulary="nowhere.txt")
    (tmp_path / "mine.txt").write_text("mango\n")
    with pytest.raises(ValueError, match="has none of the words of the vocabulary"):
        create_encoder(f"wordvectors/{glove}", vocabulary=tmp_path / "mine.txt")
    with pytest.raises(ValueError, match="vocabulary is 0; give a whole number"):
        create_encoder(f"wordvectors/{glove}", vocabulary=0)


def test_a_narrowed_encoder_keeps_the_vectors_of_its_words(glove):
    encoder = create_encoder(f"wordvectors/{glove}")
    narrow = encoder.narrowed(["pear", "mango", "apple", "pear"])
    assert narrow.preprocessor.words == ("pear", "apple")
    assert narrow.embed.weight.shape == (3, 4)
    assert_close(encode(narrow, ["pear apple"])[0], encode(encoder, ["pear apple"])[0])
    assert narrow.architecture()["size"] == [2, 4]
    with pytest.raises(ValueError, match=f"has none of these words; give words of its {len(WORDS)}"):
        encoder.narrowed(["mango"])


def test_an_unknown_text_is_one_token_of_zeros_even_after_training(glove):
    encoder = create_encoder(f"wordvectors/{glove}")
    optimizer = torch.optim.SGD(encoder.parameters(), lr=1.0)
    inputs = {
        name: torch.from_numpy(a) for name, a in encoder.preprocessor.stack([encoder.preprocessor("mango")]).items()
    }
    (encoder(inputs)[0] + 1).square().sum().backward()
    optimizer.step()
    tokens, mask = encode(encoder, ["mango"])
    assert tokens.tolist() == [[[0.0] * 4]]
    assert mask.tolist() == [[True]]


def test_random_weights_keep_the_words(glove):
    torch.manual_seed(0)
    encoder = create_encoder(f"wordvectors/{glove}", weights=None)
    assert encoder.preprocessor.words == WORDS
    assert not np.allclose(encoder.embed.weight[3].detach(), make_vectors()["apple"])
    assert encoder.provenance.weights == "random"


def test_weights_come_from_a_file(glove, tmp_path):
    encoder = create_encoder(f"wordvectors/{glove}", weights=None)
    torch.save(encoder.state_dict(), tmp_path / "tuned.pt")
    again = create_encoder(f"wordvectors/{glove}", weights=tmp_path / "tuned.pt")
    assert_close(again.embed.weight, encoder.embed.weight, "float32")


def test_it_is_rebuilt_without_the_file(glove, tmp_path):
    encoder = create_encoder(f"wordvectors/{glove}", max_tokens=3)
    save_preprocessor(encoder.preprocessor, tmp_path / "saved")
    arguments = json.loads(json.dumps(encoder.architecture()))
    late = create_encoder(encoder.name, weights=None, **arguments).preprocessor
    assert late.assets() == encoder.preprocessor.assets()
    shutil.rmtree(glove.with_name("glove.txt.table"))
    glove.unlink()
    rebuilt = create_encoder(encoder.name, weights=None, **arguments)
    rebuilt.load_state_dict(encoder.state_dict())
    rebuilt.preprocessor = load_preprocessor(tmp_path / "saved")
    texts = ["the red apple of milk", "mango"]
    assert_close(encode(rebuilt, texts)[0], encode(encoder, texts)[0], "float32")
    assert rebuilt.architecture() == encoder.architecture()


def test_every_promise_is_kept(glove):
    check_encoder(create_encoder(f"wordvectors/{glove}"))
