import os
from pathlib import Path

import pytest

from encoders.preprocessing import UnreadableValueError
from multimodal.records.media import media_path, quote


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.jpg").write_bytes(b"inside")
    (tmp_path / "secret.jpg").write_bytes(b"outside")
    return folder


def test_a_path_starts_from_the_manifests_folder(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert media_path("images/a.jpg", root).read_bytes() == b"inside"
    assert media_path(Path("images") / "a.jpg", Path("data")).read_bytes() == b"inside"


def test_without_a_root_a_path_starts_from_the_working_directory_and_may_be_any(root, monkeypatch):
    monkeypatch.chdir(root)
    assert media_path("../secret.jpg", None).read_bytes() == b"outside"
    assert media_path(str(root.parent / "secret.jpg"), None).read_bytes() == b"outside"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("../secret.jpg", "has '..' in it; media must lie inside the manifest's folder, or allow others"),
        ("images/../images/a.jpg", "has '..' in it"),
        ("images\\..\\..\\secret.jpg", "has '..' in it"),
        ("/etc/passwd", "is an absolute path; write it relative to the manifest's folder"),
        ("C:\\data\\a.jpg", "is an absolute path"),
        ("\\\\server\\share\\a.jpg", "is an absolute path"),
        ("a\0.jpg", "holds a NUL character"),
        ("https://example.org/a.jpg", "is a web address; download the file"),
        ("images/b.jpg", "does not exist, seen from the manifest's folder"),
        ("images/a.jpg/b.jpg", "does not exist"),
        ("images", "is a folder; give the path of a file"),
        (".", "is a folder"),
        ("pipe", "is not an ordinary file"),
        ("a" * 5000, r"\(5000 characters\) cannot be opened \(File name too long\)"),
        ("\ud800.jpg", "is not a file name"),
    ],
    ids=range(15),
)
def test_a_path_that_cannot_be_used_is_refused_and_quoted(root, value, message):
    os.mkfifo(root / "pipe")
    with pytest.raises(UnreadableValueError, match=message) as error:
        media_path(value, root)
    assert str(error.value).startswith(quote(value))
    assert str(root) not in str(error.value)


@pytest.mark.skipif(os.sep == "\\", reason="Windows reads such paths")
def test_a_relative_windows_path_says_what_to_write(root):
    with pytest.raises(UnreadableValueError, match=r"does not exist.*; write it with / instead of \\"):
        media_path("images\\a.jpg", root)


def test_links_may_not_lead_out(root):
    (root / "out.jpg").symlink_to(root.parent / "secret.jpg")
    (root / "folder").symlink_to(root.parent)
    (root / "in.jpg").symlink_to(root / "images" / "a.jpg")
    for value in ("out.jpg", "folder/secret.jpg"):
        with pytest.raises(UnreadableValueError, match="leads through a link to a file outside the manifest's folder"):
            media_path(value, root)
        assert media_path(value, root, allow_outside=True).read_bytes() == b"outside"
    assert media_path("in.jpg", root).read_bytes() == b"inside"


def test_a_manifests_folder_that_is_a_link_itself_is_fine(root):
    (root.parent / "link").symlink_to(root)
    assert media_path("images/a.jpg", root.parent / "link").read_bytes() == b"inside"


def test_links_that_lead_in_a_circle_are_refused(root):
    (root / "a").symlink_to(root / "b")
    (root / "b").symlink_to(root / "a")
    with pytest.raises(UnreadableValueError, match="'a' cannot be opened"):
        media_path("a", root)


def test_allow_outside_allows_all_files(root):
    assert media_path("../secret.jpg", root, allow_outside=True).read_bytes() == b"outside"
    assert media_path(str(root.parent / "secret.jpg"), root, allow_outside=True).read_bytes() == b"outside"


def test_a_value_is_quoted_as_it_was_written():
    assert quote("ü\\a.jpg") == "'ü\\a.jpg'"
    assert quote("a\n\0") == r"'a\n\x00'"
    assert quote("x" * 1000) == f"{'x' * 200!r}... (1000 characters)"
