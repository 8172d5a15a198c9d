import os
import re
import unicodedata
from pathlib import Path

import pytest

from encoders.preprocessing import UnreadableValueError
from multimodal.records.media import media_path, quote, respelling


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


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("name", "written", "note"),
    [
        ("b.jpg", "b.jpg ", "'b.jpg ' is read as 'b.jpg', without the spaces around it"),
        ("b.jpg", "\u00a0b.jpg\t", "is read as 'b.jpg', without the spaces around it"),
        ("a b.jpg", "a%20b.jpg", "'a%20b.jpg' is read as 'a b.jpg'"),
        ("größe.jpg", "gr%C3%B6%C3%9Fe.jpg", "is read as 'größe.jpg'"),
        (
            nfd("größe.jpg"),
            "größe.jpg",
            r"'gr\\xf6\\xdfe.jpg' is read as 'gro\\u0308\\xdfe.jpg', another form of Unicode",
        ),
        ("größe.jpg", nfd("größe.jpg"), "another form of Unicode"),
        (nfd("é é.jpg"), " é%20é.jpg ", "is read as"),
        ("100%.jpg", "100%25.jpg", "is read as '100%.jpg'"),
    ],
)
def test_a_path_that_names_one_file_in_another_spelling_is_read_and_noted(root, name, written, note):
    (root / name).write_bytes(b"meant")
    path = media_path(written, root)
    assert path.read_bytes() == b"meant"
    assert re.search(note, respelling(written, path, root))


@pytest.mark.parametrize("name", [" b.jpg", "b.jpg ", "a%20b.jpg", nfd("é.jpg"), "é.jpg"])
def test_a_file_that_is_called_as_written_goes_before_one_of_another_spelling(root, name):
    for other in (name, name.strip(), name.replace("%20", " "), unicodedata.normalize("NFC", name), nfd(name)):
        (root / other).write_bytes(other.encode())
    path = media_path(name, root)
    assert (path.read_bytes(), respelling(name, path, root)) == (name.encode(), None)


@pytest.mark.parametrize("form", ["file://{}", "FILE://{}", "file://{} ", " {}", "{}%20"])
def test_a_file_address_is_the_path_in_it(root, form):
    (root / "a b.jpg").write_bytes(b"meant")
    address = form.format(str(root / "a b.jpg").replace(" ", "%20"))
    assert media_path(address, root, allow_outside=True).read_bytes() == b"meant"
    assert media_path(address, None).read_bytes() == b"meant"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("file:///etc/passwd", "is an absolute path"),
        ("file:///%2e%2e/secret.jpg", "is an absolute path"),
        ("%2e%2e/secret.jpg", "has '..' in it"),
        ("images/%2E%2E%2F..%2fsecret.jpg", "has '..' in it"),
        ("%2Fetc%2Fpasswd", "is an absolute path"),
        (" ../secret.jpg", "has '..' in it"),
        (" /etc/passwd", "is an absolute path"),
        ("a%00.jpg", "does not exist"),
        ("file:///a%00.jpg", "holds a NUL character"),
        ("file://server/a.jpg", "is no path; leave file: out"),
        ("file:a.jpg", "is no path; leave file: out"),
    ],
)
def test_no_other_spelling_of_a_path_leads_out_of_its_folder(root, written, message):
    with pytest.raises(UnreadableValueError, match=message):
        media_path(written, root)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("IMG_1.JPG", "img_1.jpg"),
        ("photo.jpeg", "photo.jpg"),
        ("red_apple.png", "red apple.png"),
        ("images/Crate-7.png", "images/crate 7.png"),
        ("Größe.png", "größe.jpg"),
        ("scan.png", "scan"),
    ],
)
def test_a_file_that_is_not_there_names_the_one_that_was_probably_meant(root, name, written):
    (root / name).write_bytes(b"meant")
    with pytest.raises(UnreadableValueError, match=f"does not exist.*; did you mean {re.escape(quote(name))}"):
        media_path(written, root)
    other = (root / name).with_suffix(".webp")
    other.write_bytes(b"another")  # two might be meant
    with pytest.raises(UnreadableValueError, match=r"does not exist, seen from the manifest's folder$"):
        media_path(written, root)
