"""Places of caches, and what is done where nothing can be kept there."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.assertions import full_disk
from support.logs import shown

from multimodal.runtime.files import cache_folder, open_cache


def test_the_cache_lies_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("MULTIMODAL_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("MULTIMODAL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "multimodal"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "multimodal"


def test_a_cache_is_made_and_nobody_is_warned(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("MULTIMODAL_CACHE", str(tmp_path / "new" / "cache"))
    assert open_cache("tokens", "a") == tmp_path / "new" / "cache" / "tokens" / "a"
    assert (tmp_path / "new" / "cache" / "tokens" / "a").is_dir()
    assert not list((tmp_path / "new" / "cache" / "tokens" / "a").iterdir())
    assert caplog.messages == []


def _file(folder: Path) -> Path:
    (folder / "cache").write_text("a file")
    return folder / "cache"


def _dangling(folder: Path) -> Path:
    (folder / "cache").symlink_to(folder / "nowhere")
    return folder / "cache"


def _loop(folder: Path) -> Path:
    (folder / "cache").symlink_to(folder / "cache")
    return folder / "cache"


UNWRITABLE: dict[str, tuple[Callable[[Path], Path], int]] = {
    "it is a file": (_file, errno.EEXIST),
    "it lies below a file": (lambda folder: _file(folder) / "below", errno.ENOTDIR),
    "it is a link to nothing": (_dangling, errno.EEXIST),
    "it is a link to itself": (_loop, errno.EEXIST),
    "its name is too long": (lambda folder: folder / ("x" * 300), errno.ENAMETOOLONG),
}


@pytest.mark.parametrize("why", UNWRITABLE)
@pytest.mark.parametrize("variable", ["MULTIMODAL_CACHE", "XDG_CACHE_HOME"])
def test_a_cache_that_cannot_be_made_is_one_warning(monkeypatch, tmp_path, caplog, why, variable):
    make, reason = UNWRITABLE[why]
    monkeypatch.delenv("MULTIMODAL_CACHE")
    monkeypatch.setenv(variable, str(make(tmp_path)))
    assert open_cache() is None
    assert len(caplog.messages) == 1
    assert shown(caplog)[0].startswith(f"warning: {cache_folder()} cannot be written (")
    if variable == "MULTIMODAL_CACHE":
        assert os.strerror(reason) in caplog.messages[0]


def test_a_user_without_a_home_is_one_warning(monkeypatch, caplog):
    for variable in ("MULTIMODAL_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 2)  # who has no entry in /etc/passwd
    assert open_cache() is None
    assert len(caplog.messages) == 1
    assert "set MULTIMODAL_CACHE or XDG_CACHE_HOME to a folder that can be" in caplog.messages[0]


@pytest.mark.parametrize("holds_something", [True, False])
def test_a_cache_that_is_full_is_read_where_it_holds_something(monkeypatch, tmp_path, caplog, holds_something):
    monkeypatch.setenv("MULTIMODAL_CACHE", str(tmp_path))
    if holds_something:
        (tmp_path / "tokens").mkdir()
    with full_disk():
        assert open_cache() == (tmp_path if holds_something else None)
    assert len(caplog.messages) == 1
