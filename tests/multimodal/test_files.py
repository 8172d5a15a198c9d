import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from multimodal.files import OverwriteError, refuse_overwriting, sha256_of, write_atomically


def test_a_file_is_written_and_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "a.json"
    for content in (b"one", b"", b"two" * 100_000):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_its_folder_is_made_where_there_is_none(tmp_path):
    write_atomically(tmp_path / "new" / "folder" / "a.json", b"one")
    assert (tmp_path / "new" / "folder" / "a.json").read_bytes() == b"one"


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, function):
    path = tmp_path / "a.json"
    write_atomically(path, b"old")

    def fail(*args: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(os, function, fail)
        with pytest.raises(OSError, match="the disk is full"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")  # what the failed write left behind does not matter
    assert path.read_bytes() == b"new"


def recorded(name: str, function: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    """The function, noting its name each time."""

    def call(*args: Any) -> Any:
        calls.append(name)
        return function(*args)

    return call


def test_the_content_is_on_disk_before_the_name_points_to_it(tmp_path, monkeypatch):
    calls: list[str] = []
    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, recorded(name, getattr(os, name), calls))
    write_atomically(tmp_path / "a.json", b"new")
    assert calls == ["fsync", "replace"]


def test_sha256_is_that_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    content = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table with other names: a link, a hard link, a link to the folder that it lies in."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "table.csv").write_text("text\nred\n")
    (tmp_path / "data" / "link.csv").symlink_to("table.csv")
    (tmp_path / "data" / "chain.csv").symlink_to("link.csv")
    (tmp_path / "hard.csv").hardlink_to(tmp_path / "data" / "table.csv")
    (tmp_path / "current").symlink_to("data")
    (tmp_path / "nowhere.csv").symlink_to("data/new.csv")
    return tmp_path


NAMES = (
    "data/table.csv",
    "./data/../data/table.csv",
    "{}/data/table.csv",
    "data/link.csv",
    "data/chain.csv",
    "hard.csv",
    "current/table.csv",
    "current/link.csv",
)


@pytest.mark.parametrize("out", NAMES)
@pytest.mark.parametrize("read", ["data/table.csv", "hard.csv", "current/chain.csv"])
def test_an_output_that_is_an_input_is_refused_by_whatever_name(folder, monkeypatch, out, read):
    monkeypatch.chdir(folder)
    out = out.format(folder)
    with pytest.raises(OverwriteError, match="is the same file as") as error:
        refuse_overwriting("--out", out, [("the config", "absent.yaml"), ("the table", Path(read))])
    assert (
        str(error.value) == f"--out {out} is the same file as the table {read}, which would be lost; name another file"
    )


@pytest.mark.parametrize("out", NAMES)
def test_an_output_that_a_record_names_is_refused(folder, monkeypatch, out):
    monkeypatch.chdir(folder)
    media = [Path("absent.png"), Path("a\0.png"), Path("a" * 5000), Path("data/table.csv")]
    with pytest.raises(OverwriteError, match=r"is the same file as data/table.csv, which a record names"):
        refuse_overwriting("--out", out.format(folder), [], media)


@pytest.mark.parametrize("out", ["data/new.csv", "nowhere.csv", "current/new/deep.csv", "hard.csv", "data"])
def test_an_output_in_a_folder_that_is_read_is_refused(folder, monkeypatch, out):
    monkeypatch.chdir(folder)
    with pytest.raises(OverwriteError, match=f"--out {out} (lies in|is the same file as) the bundle current, which "):
        refuse_overwriting("--out", out, [("the bundle", Path("current"))])


@pytest.mark.parametrize("out", ["new.csv", "data/new.csv", "data2/table.csv", "other.csv", "copy.csv", "nowhere.csv"])
def test_other_outputs_pass_and_records_are_looked_at_only_where_there_is_a_file(folder, monkeypatch, out):
    monkeypatch.chdir(folder)
    (folder / "copy.csv").write_text("text\nred\n")  # the same content in another file
    (folder / "data2").mkdir()

    def media() -> Iterator[Path]:
        assert (folder / out).exists()
        yield Path("data/table.csv")

    refuse_overwriting("--out", out, [("the table", "data/table.csv"), ("the weights", "absent")], media())


def test_two_outputs_of_one_name_are_refused_before_there_is_a_file(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(OverwriteError, match=r"--embeddings current/a.npy is the same file as --out data/a.npy"):
        refuse_overwriting("--embeddings", "current/a.npy", [("--out", "data/a.npy")])
