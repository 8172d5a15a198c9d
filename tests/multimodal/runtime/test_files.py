import ast
import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.assertions import full_disk

from encoders.preprocessing import save_preprocessor
from encoders.preprocessing.image import ImagePreprocessor
from export.gallery.contents import Contents
from export.gallery.folder import write_contents
from export.gallery.source import VectorSource
from export.golden import write_golden_outputs
from export.prediction_files import WritingProgress
from multimodal.runtime.checkpoint import save_tensors
from multimodal.runtime.files import (
    OverwriteError,
    UnwritableFileError,
    naming,
    refuse_overwriting,
    replacing,
    require_temporary_folder,
    sha256_of,
    write_atomically,
    write_json,
)

ROOT = Path(__file__).resolve().parents[3]


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


# --- a place that cannot be written ------------------------------------------------------------------------------


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("no folder")
    return folder / "file" / "a.json"


def a_folder(folder: Path) -> Path:
    (folder / "a.json" / "something").mkdir(parents=True)
    return folder / "a.json"


def a_loop(folder: Path) -> Path:
    (folder / "loop").symlink_to(folder / "loop")
    return folder / "loop" / "a.json"


def below_a_dangling_link(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "nowhere")
    return folder / "link" / "a.json"


UNWRITABLE: dict[str, tuple[Callable[[Path], Path], int]] = {
    "below a file": (below_a_file, errno.EEXIST),
    "a folder": (a_folder, errno.EISDIR),
    "a loop of links": (a_loop, errno.EEXIST),
    "below a dangling link": (below_a_dangling_link, errno.EEXIST),
    "a name that is too long": (lambda folder: folder / ("x" * 250 + ".json"), errno.ENAMETOOLONG),
}


@pytest.mark.parametrize("what", UNWRITABLE)
def test_a_place_that_cannot_be_written_is_named_with_the_reason(tmp_path, what):
    make, reason = UNWRITABLE[what]
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UnwritableFileError, match="make room there, or name another folder") as caught:
        write_atomically(path, b"content")
    assert str(caught.value).startswith(f"{path} cannot be written (")
    assert caught.value.errno == reason
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_is_read_only_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UnwritableFileError, match=r"a\.json cannot be written \(Permission denied\)"):
        write_json(tmp_path / "a.json", {})


def golden(folder: Path) -> None:
    write_golden_outputs(folder, "int8", {"color": np.zeros((9, 3), np.float32)})


def gallery(folder: Path) -> None:
    write_contents(folder, Contents.empty(VectorSource("shop", "0" * 64, "product", 8)))


WRITERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "JSON": (lambda folder: write_json(folder / "metrics.json", {"accuracy": 0.5}), "metrics.json"),
    "weights": (
        lambda folder: save_tensors(folder / "model.safetensors", {"weight": torch.zeros(9)}),
        "model.safetensors",
    ),
    "a preprocessor": (lambda folder: save_preprocessor(ImagePreprocessor(32), folder / "image"), "preprocess.json"),
    "golden outputs": (golden, "color.npy"),
    "a gallery": (gallery, "vectors-0.npy"),
    "progress": (
        lambda folder: WritingProgress(folder / "a.csv", {"bundle": "b"}).note(1, 0, []),
        ".a.csv.progress.json",
    ),
}


@pytest.mark.parametrize("what", WRITERS)
@pytest.mark.parametrize("room", [0, 1, 10])
def test_a_full_disk_names_the_file_and_leaves_none(tmp_path, what, room):
    write, name = WRITERS[what]
    with full_disk(room), pytest.raises(UnwritableFileError) as caught:
        write(tmp_path)
    assert f"{name} cannot be written (File too large)" in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("room", [0, 5])
def test_a_full_disk_leaves_the_file_that_was_there(tmp_path, room):
    write_json(tmp_path / "a.json", {"old": 1})
    with full_disk(room), pytest.raises(UnwritableFileError, match=r"a\.json cannot be written"):
        write_json(tmp_path / "a.json", {"new": 2})
    assert (tmp_path / "a.json").read_bytes() == b'{\n "old": 1\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_another_error_in_the_block_leaves_no_file_and_stays_what_it_is(tmp_path):
    with pytest.raises(ValueError, match="invalid literal"), replacing(tmp_path / "a.png") as partial:
        partial.write_bytes(bytes(int(number) for number in ("1", "half")))
    assert not list(tmp_path.iterdir())


def test_a_failure_is_named_once_by_the_innermost_file(tmp_path):
    with pytest.raises(UnwritableFileError) as caught, naming(tmp_path / "outer"), naming(tmp_path / "inner"):
        raise OSError("no number")
    assert str(caught.value) == (
        f"{tmp_path / 'inner'} cannot be written (no number); make room there, or name another folder"
    )


def test_half_a_surrogate_pair_becomes_the_escape_of_json(tmp_path):
    write_json(tmp_path / "a.json", {"label": "caf\udce9"})
    assert (tmp_path / "a.json").read_bytes() == b'{\n "label": "caf\\udce9"\n}\n'


WRITTEN_OTHERWISE = {
    "encoders/text/word_table.py": "a folder that takes its name when it is whole",
    "export/gallery/folder.py": "a lock without content",
    "multimodal/console.py": "nowhere",
    "multimodal/job/run_folder.py": "a lock without content",
}


def writes(path: Path) -> Iterator[int]:
    """Lines that write a file under the name that it keeps: not what ``replacing`` gives, which is called partial."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        owner = getattr(called.value, "id", "") if isinstance(called, ast.Attribute) else ""
        modes = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        opens = name == "open" and any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes)
        if owner not in ("partial", "beside") and (opens or name in ("write_text", "write_bytes", "save_file")):
            yield node.lineno


@pytest.mark.parametrize("package", ["encoders", "export", "fusion", "multimodal"])
def test_files_are_written_in_one_place(package):
    found = {path: list(writes(path)) for path in (ROOT / package).rglob("*.py")}
    names = {str(path.relative_to(ROOT)) for path, lines in found.items() if lines}
    assert names == {name for name in WRITTEN_OTHERWISE if name.startswith(f"{package}/")}


@pytest.mark.parametrize(
    "tried", [["/dev/null/x"], ["/nowhere/at/all"], ["/proc"], ["/dev/null", "/proc/1"], ["/x" * 3000]]
)
def test_without_a_folder_for_temporary_files_the_variable_is_named(monkeypatch, tried):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: tried)
    with pytest.raises(OSError, match=r"No usable temporary directory found in .*; set TMPDIR to a folder that can be"):
        require_temporary_folder()
