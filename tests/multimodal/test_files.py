import hashlib
import os
from collections.abc import Callable
from typing import Any

import pytest

from multimodal.files import sha256_of, write_atomically


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
