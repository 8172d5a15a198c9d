"""Predictions that resume where a killed process stopped, in every format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.assertions import full_disk

from export import Bundle, Predictor, prediction_files, predictions, write_predictions
from export.prediction_files import ResumeError
from multimodal.records import ManifestError
from multimodal.runtime.files import UnwritableFileError


@pytest.fixture(scope="module")
def predictor(bundle: Bundle) -> Predictor:
    return Predictor.load(bundle.folder, device="cpu", precision="fp32")


@pytest.fixture
def thirty(media: Path) -> Path:
    lines = [f"{index % 9}.png,red {'thing ' * (index % 4)}," for index in range(30)]
    lines[13] = "no.png,red,"
    (media / "thirty.csv").write_text("\n".join(["image,text,sound", *lines]) + "\n")
    return media / "thirty.csv"


class KilledError(BaseException):
    """Stands for the end of the process: nothing is cleaned up for it."""


def kill_after(predictor: Predictor, batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the process end while the batch after these is written."""
    write, done = predictions._Writer.write, []

    def dying(self: Any, *arguments: Any) -> None:
        done.append(1)
        if len(done) > batches:
            self.lines.write(b"half a li")
            self.lines.flush()
            raise KilledError
        write(self, *arguments)

    monkeypatch.setattr(predictions._Writer, "write", dying)


READERS = {
    ".csv": lambda path: pd.read_csv(path),
    ".jsonl": lambda path: pd.read_json(path, lines=True),
    ".parquet": lambda path: pd.read_parquet(path),
}


@pytest.mark.parametrize(
    ("suffix", "batches"),
    [(suffix, batches) for suffix in READERS for batches in (1, 3, 4, 5, 6, 7)],
)
def test_a_killed_job_resumes_and_ends_as_if_nothing_had_happened(
    predictor: Predictor, thirty: Path, tmp_path: Path, suffix: str, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    counts = write_predictions(predictor, thirty, whole, embeddings=tmp_path / "whole.npy", batch_size=4)
    assert counts == (1, 30)
    with monkeypatch.context() as patch:
        kill_after(predictor, batches, patch)
        with pytest.raises(KilledError):
            write_predictions(predictor, thirty, out, embeddings=tmp_path / "out.npy", batch_size=4)
    assert not out.exists()
    seen: list[tuple[int, int]] = []
    failures: list[str] = []
    counts = write_predictions(
        predictor, thirty, out, embeddings=tmp_path / "out.npy", batch_size=4, resume=True,
        advance=lambda done, total: seen.append((done, total)), on_failure=failures.append,
    )  # fmt: skip
    assert counts == (1, 30)
    assert seen == [(min(done, 30), 30) for done in range(4 * batches + 4, 33, 4)]
    bad = "thirty.csv, row 14, column image: 'no.png' does not exist"
    assert [line.startswith(bad) for line in failures] == [True] * (batches <= 3)  # named once
    assert out.read_bytes() == whole.read_bytes()
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    left = READERS[suffix](out)
    assert left["error"].notna().tolist() == [row == 13 for row in range(30)]
    assert np.load(tmp_path / "out.npy").shape == (30, 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f"whole{suffix}", f"out{suffix}", "whole.npy", "out.npy"]
    )


def test_values_of_the_other_formats_are_typed(predictor: Predictor, thirty: Path, tmp_path: Path) -> None:
    write_predictions(predictor, thirty, tmp_path / "o.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert isinstance(rows[0]["color_probability"], float)
    assert rows[0]["error"] is None
    assert rows[13]["color"] is None
    assert rows[13]["error"].startswith("photo: 'no.png'")
    write_predictions(predictor, thirty, tmp_path / "o.parquet")
    assert pd.read_parquet(tmp_path / "o.parquet").dtypes["price"] == np.float64


def test_another_job_is_not_gone_on_with(
    predictor: Predictor, thirty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_after(predictor, 1, patch)
        with pytest.raises(KilledError):
            write_predictions(predictor, thirty, tmp_path / "o.csv", batch_size=4)
    thirty.write_text(thirty.read_text() + "0.png,red,\n")
    with pytest.raises(ResumeError, match="was begun with another table; run it as before, or without resuming"):
        write_predictions(predictor, thirty, tmp_path / "o.csv", resume=True)
    assert write_predictions(predictor, thirty, tmp_path / "o.csv") == (1, 31)  # starts anew


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (".o.csv.progress.json", "{", r"is damaged \(JSONDecodeError.*; run without resuming, from the start"),
        (".o.csv.progress.json", "[]", r"is damaged \(TypeError"),
        (".o.csv.partial", "", r"\.o\.csv\.partial misses lines that .*progress\.json counts; run without resuming"),
        (".o.csv.partial", None, r"\.o\.csv\.partial misses lines"),
    ],
)
def test_what_was_noted_wrongly_is_not_gone_on_with(
    predictor: Predictor,
    thirty: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    content: str | None,
    message: str,
) -> None:
    with monkeypatch.context() as patch:
        kill_after(predictor, 1, patch)
        with pytest.raises(KilledError):
            write_predictions(predictor, thirty, tmp_path / "o.csv", batch_size=4)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    with pytest.raises(ResumeError, match=message):
        write_predictions(predictor, thirty, tmp_path / "o.csv", resume=True)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_resumed_process_refuses_an_impossible_batch_size_as_a_first_one_does(
    predictor: Predictor, thirty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    with monkeypatch.context() as patch:
        kill_after(predictor, 1, patch)
        with pytest.raises(KilledError):
            write_predictions(predictor, thirty, tmp_path / "o.csv", batch_size=4)
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}; give at least 1"):
        write_predictions(predictor, thirty, tmp_path / "o.csv", batch_size=batch_size, resume=True)


def test_resuming_nothing_starts(predictor: Predictor, thirty: Path, tmp_path: Path) -> None:
    assert write_predictions(predictor, thirty, tmp_path / "o.csv", resume=True) == (1, 30)


def test_a_failure_keeps_what_there_is_only_where_it_may_be_resumed(
    predictor: Predictor, thirty: Path, tmp_path: Path
) -> None:
    def fail(_: str) -> None:
        raise RuntimeError("on purpose")

    for resume, left in ((False, []), (True, [".o.csv.partial", ".o.csv.progress.json"])):
        with pytest.raises(RuntimeError, match="on purpose"):
            write_predictions(predictor, thirty, tmp_path / "o.csv", batch_size=4, on_failure=fail, resume=resume)
        assert sorted(path.name for path in tmp_path.iterdir()) == left


@pytest.mark.parametrize("error", [OSError("the disk is full"), KilledError()])
def test_answers_outlive_a_table_that_cannot_be_written(
    predictor: Predictor, thirty: Path, tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(lines: Path, out: Path, columns: Any) -> None:
        out.write_bytes(b"half a table")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(prediction_files, "_to_parquet", fail)
        with pytest.raises(type(error)):
            write_predictions(predictor, thirty, tmp_path / "o.parquet", resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".o.parquet.partial", ".o.parquet.progress.json"]
    monkeypatch.setattr(predictor, "run", None)  # nothing is answered twice
    assert write_predictions(predictor, thirty, tmp_path / "o.parquet", resume=True) == (1, 30)
    assert len(pd.read_parquet(tmp_path / "o.parquet")) == 30
    assert [path.name for path in tmp_path.iterdir()] == ["o.parquet"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("room", [0, 10, 700])
def test_a_full_disk_names_the_file_and_what_is_answered_is_gone_on_with(
    predictor: Predictor, thirty: Path, tmp_path: Path, suffix: str, room: int
) -> None:
    out, vectors = tmp_path / f"o{suffix}", tmp_path / "o.npy"
    paths = {"out": out, "embeddings": vectors, "task": "embedding"}
    with (
        full_disk(room),
        pytest.raises(UnwritableFileError, match=r"o\.(csv|jsonl|parquet|npy).* cannot be written \("),
    ):
        write_predictions(predictor, thirty, batch_size=4, **paths)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    with full_disk(room), pytest.raises(UnwritableFileError, match="cannot be written"):
        write_predictions(predictor, thirty, batch_size=4, resume=True, **paths)  # type: ignore[arg-type]
    assert not out.exists()
    assert not vectors.exists()
    assert write_predictions(predictor, thirty, batch_size=4, resume=True, **paths) == (1, 30)  # type: ignore[arg-type]
    write_predictions(predictor, thirty, tmp_path / f"whole{suffix}", embeddings=tmp_path / "whole.npy", batch_size=4)
    assert vectors.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_cannot_be_resumed_or_written_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only the predictions of a manifest can be resumed; give its path"):
        write_predictions(predictor, [{"text": "red"}], tmp_path / "o.csv", resume=True)
    with pytest.raises(ValueError, match=r"cannot be written to o.txt; give a name that ends in .csv, .jsonl"):
        write_predictions(predictor, [{"text": "red"}], tmp_path / "o.txt")
    with pytest.raises(ManifestError):
        write_predictions(predictor, tmp_path / "absent.csv", tmp_path / "o.csv")


def test_parquet_without_pyarrow_names_the_command(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'multimodal-transfer.parquet.'"):
        write_predictions(predictor, [{"text": "red"}], tmp_path / "o.parquet")
