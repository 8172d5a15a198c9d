"""The folder: what is in it, and that anything else is refused."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.assertions import full_disk

from export import Bundle, BundleError, Predictor, verify_bundle
from export.bundle_folder import new_bundle, read_bundle, seal_bundle
from multimodal.runtime.files import UnwritableFileError


def test_a_bundle_holds_what_it_should(bundle: Bundle) -> None:
    assert set(bundle.files) >= {
        "model.onnx",
        "inputs/photo/preprocess.json",
        "inputs/text/preprocess.json",
        "inputs/text/tokenizer.json",
        "inputs/sound/preprocess.json",
        "tasks/color.json",
        "tasks/linear.json",
        "tasks/price.json",
        "metrics.json",
        "parity.json",
        "provenance.json",
        "README.md",
        "golden/answers.json",
        "golden/inputs/sound.waveform.npy",
        "golden/outputs/embedding.npy",
    }
    suffixes = {Path(name).suffix for name in bundle.files}
    assert suffixes == {".onnx", ".json", ".npy", ".md"}  # no pickle, no code


def test_reading_gives_what_was_written(bundle: Bundle) -> None:
    assert read_bundle(bundle.folder) == bundle
    assert bundle.sha256 == hashlib.sha256((bundle.folder / "bundle.json").read_bytes()).hexdigest()


def test_sizes_hashes_and_sums_are_those_of_the_files(bundle: Bundle) -> None:
    for name, entry in bundle.files.items():
        content = (bundle.folder / name).read_bytes()
        assert (entry.size, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    on_disk = {path.relative_to(bundle.folder).as_posix() for path in bundle.folder.rglob("*") if path.is_file()}
    assert on_disk == {*bundle.files, "bundle.json", "SHA256SUMS"}
    lines = (bundle.folder / "SHA256SUMS").read_text().splitlines()
    assert {line.split("  ")[1] for line in lines} == on_disk - {"SHA256SUMS"}


def test_the_sums_are_those_that_sha256sum_checks(bundle: Bundle) -> None:
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    try:
        subprocess.run(command, cwd=bundle.folder, check=True)
    except FileNotFoundError:
        pytest.skip("there is no sha256sum here")


def test_a_link_to_the_whole_folder_is_followed(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(bundle.folder)
    assert read_bundle(tmp_path / "current").files == bundle.files


def edit(folder: Path, **changes: Any) -> None:
    """Changes keys of bundle.json and hashes anew, as somebody would who edits by hand."""
    content = json.loads((folder / "bundle.json").read_text())
    content.update(changes)
    (folder / "bundle.json").write_text(json.dumps(content))
    names = [*content["files"], "bundle.json"] if isinstance(content.get("files"), dict) else []
    found = [(name, folder / name) for name in sorted(names) if (folder / name).is_file()]
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n" for name, path in found]
    (folder / "SHA256SUMS").write_text("".join(sums))


def test_a_folder_without_bundle_json_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is not a bundle: it has no bundle\.json.*export it again"):
        read_bundle(tmp_path)


def test_what_lies_in_the_place_of_a_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="absent is no folder; give that of a bundle"):
        read_bundle(tmp_path / "absent")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(BundleError, match=r"is a run; make a bundle of it with `multimodal export .* --out BUNDLE`"):
        read_bundle(tmp_path)


def test_a_damaged_file_is_refused(copied: Path) -> None:
    content = bytearray((copied / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copied / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx is damaged: its sha256 differs"):
        Predictor.load(copied)


def test_a_truncated_file_is_refused(copied: Path) -> None:
    (copied / "metrics.json").write_text("{")
    with pytest.raises(BundleError, match=r"metrics\.json has 1 bytes, and \d+ were written"):
        Predictor.load(copied)


def test_a_missing_file_is_refused(copied: Path) -> None:
    (copied / "parity.json").unlink()
    with pytest.raises(BundleError, match=r"parity\.json is missing; copy the bundle again"):
        read_bundle(copied)


def test_missing_sums_are_refused(copied: Path) -> None:
    (copied / "SHA256SUMS").unlink()
    with pytest.raises(BundleError, match="SHA256SUMS is missing"):
        read_bundle(copied)


def test_changed_sums_are_refused(copied: Path) -> None:
    (copied / "SHA256SUMS").write_text("")
    with pytest.raises(BundleError, match=r"SHA256SUMS and bundle\.json do not agree"):
        read_bundle(copied)


def test_a_file_that_is_not_listed_is_refused(copied: Path) -> None:
    (copied / "inputs" / "text" / "extra.json").write_text("{}")
    with pytest.raises(BundleError, match=r"inputs/text/extra\.json is not listed in bundle\.json; remove it"):
        read_bundle(copied)


@pytest.mark.parametrize(
    "name", [".DS_Store", "Thumbs.db", "desktop.ini", "inputs/._text", "inputs/text/.DS_Store", "._model.onnx"]
)
def test_what_file_managers_leave_in_a_folder_is_ignored(copied: Path, name: str) -> None:
    (copied / name).write_bytes(b"\0\1Bud1")
    assert name not in read_bundle(copied).files
    assert verify_bundle(copied) == []
    Predictor.load(copied)
    (copied / name).unlink()
    (copied / name).symlink_to("/etc/hosts")
    with pytest.raises(BundleError, match="is a link"):
        read_bundle(copied)


@pytest.mark.parametrize("name", ["metrics.json", "bundle.json", "inputs/text"])
def test_a_link_inside_is_refused(copied: Path, tmp_path: Path, name: str) -> None:
    (copied / name).rename(tmp_path / "elsewhere")
    (copied / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=f"{name} is a link; copy the bundle with what its links point to"):
        read_bundle(copied)


def test_what_is_neither_file_nor_folder_is_refused(copied: Path) -> None:
    os.mkfifo(copied / "pipe")
    with pytest.raises(BundleError, match="pipe is neither a file nor a folder"):
        read_bundle(copied)


@pytest.mark.parametrize(
    "name",
    ["../outside.json", "/etc/hostname", "a/../../b", "C:/x", "a\\b", "", ".", "a//b", "./metrics.json"],
)
def test_a_name_that_is_absolute_or_leaves_the_folder_is_refused(copied: Path, name: str) -> None:
    files = json.loads((copied / "bundle.json").read_text())["files"]
    (copied.parent / "outside.json").write_text("{}")
    edit(copied, files={**files, name: {"size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}})
    with pytest.raises(BundleError, match=r"is absolute, has '..', or is not plain"):
        read_bundle(copied)


def test_an_input_whose_name_is_a_path_is_refused(copied: Path) -> None:
    inputs = json.loads((copied / "bundle.json").read_text())["inputs"]
    edit(copied, inputs={"../photo": inputs["photo"]})
    with pytest.raises(BundleError, match=r"'\.\./photo' is not a name of an input or a task"):
        read_bundle(copied)


@pytest.mark.parametrize("schema", [2, None, "1"])
def test_another_schema_is_refused(copied: Path, schema: Any) -> None:
    edit(copied, schema=schema)
    with pytest.raises(BundleError, match=f"has bundle schema {schema!r}, and this version reads 1; install the"):
        read_bundle(copied)


@pytest.mark.parametrize("changes", [{"surprise": 1}, {"inputs": 3}, {"files": []}, {"inputs": {"photo": {}}}])
def test_unusable_content_is_refused(copied: Path, changes: dict[str, Any]) -> None:
    edit(copied, **changes)
    with pytest.raises(BundleError, match=r"bundle\.json cannot be used"):
        read_bundle(copied)


def test_what_is_not_json_is_refused(copied: Path) -> None:
    (copied / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match=r"bundle\.json is not JSON"):
        read_bundle(copied)


def test_an_endless_bundle_json_is_not_read(copied: Path) -> None:
    (copied / "bundle.json").write_bytes(b" " * 16_000_001)
    with pytest.raises(BundleError, match="has more than 16 MB, which no export writes"):
        read_bundle(copied)


def test_a_file_that_the_bundle_does_not_list_cannot_be_asked_for(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"lists no secret\.json"):
        bundle.path("secret.json")


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with new_bundle(tmp_path / "new") as staging:
        (staging / "file").write_text("x")
        assert not any((tmp_path / "new").iterdir())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_nothing_is_left_of_an_export_that_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with new_bundle(tmp_path / "deep" / "new") as staging:
            (staging / "file").write_text("x")
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert list((tmp_path / "deep").iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from export.bundle_folder import new_bundle
with new_bundle(Path(sys.argv[1])) as staging:
    {moment}
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    "moment",
    [
        "pass",
        "(staging / 'model.onnx').write_bytes(b'half')",
        "(staging / 'inputs' / 'text').mkdir(parents=True)",
        "(staging / 'link').symlink_to('/')",
        "(staging / 'bundle.json').write_text('{}'); staging.chmod(0o500)",
    ],
)
def test_the_next_export_removes_what_a_killed_one_left_and_nothing_else(moment: str, tmp_path: Path) -> None:
    others = [tmp_path / name for name in (".new.notes.partial", ".new2.0123abcd.partial", ".renew.0123abcd.partial")]
    for other in others:
        other.mkdir()
    done = subprocess.run([sys.executable, "-c", KILLED.format(moment=moment), str(tmp_path / "new")], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = set(tmp_path.iterdir()) - {*others}
    with new_bundle(tmp_path / "new"):
        assert not left.exists()
    assert set(tmp_path.iterdir()) == {*others, tmp_path / "new"}


def test_an_export_that_still_runs_keeps_its_folder(tmp_path: Path) -> None:
    def fail(first: Path) -> None:
        with new_bundle(tmp_path / "new"):
            assert first.is_dir()
            raise RuntimeError("on purpose")

    with new_bundle(tmp_path / "new") as staging:
        with pytest.raises(RuntimeError, match="on purpose"):
            fail(staging)
        (staging / "file").write_text("x")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


@pytest.mark.parametrize("room", [0, 100])
def test_a_bundle_that_cannot_be_sealed_names_the_file(copied: Path, room: int) -> None:
    bundle = read_bundle(copied)
    for name in ("bundle.json", "SHA256SUMS"):
        (copied / name).unlink()
    with full_disk(room), pytest.raises(UnwritableFileError, match=r"SHA256SUMS cannot be written"):
        seal_bundle(bundle)
    with pytest.raises(BundleError, match=r"is not a bundle: it has no bundle\.json, which an export writes last"):
        read_bundle(copied)


def test_a_place_where_no_bundle_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UnwritableFileError, match=r"file/new cannot be written \("), new_bundle(tmp_path / "file/new"):
        pass


def test_a_folder_that_is_not_empty_is_refused(bundle: Bundle) -> None:
    with (
        pytest.raises(BundleError, match="exists and is not an empty folder; name another one"),
        new_bundle(bundle.folder),
    ):
        pass
