"""A gallery of plain vectors: enrolling, removing, finding, refusing, and what its folder withstands."""

import hashlib
import json
import multiprocessing
import sys
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from support.assertions import assert_close

from export.gallery import Gallery, GalleryError
from export.gallery import contents as contents_module
from export.gallery.contents import SAME, Contents, holds, with_new
from export.gallery.folder import locked, read_contents, write_contents
from export.gallery.index import ExactIndex, FaissIndex
from export.gallery.refusal import choose_refusal
from export.gallery.source import VectorSource

WIDTH = 8
DAMAGED = r"gallery\.json is damaged: its sha256 differs; copy it again"
SOURCE = VectorSource("shop", "0" * 64, "product", WIDTH)


def unit(n: int, seed: int = 0, width: int = WIDTH) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def names(n: int, per: int = 3) -> list[str]:
    return [f"p{index // per}" for index in range(n)]


@pytest.fixture
def gallery(tmp_path) -> Gallery:
    """Ten products of three vectors each."""
    opened = Gallery(tmp_path / "gallery", Contents.empty(SOURCE))
    opened.add_vectors(names(30), unit(30))
    return opened


def one_by_one(own: np.ndarray, more: np.ndarray) -> np.ndarray:
    kept = list(own)
    for vector in more:
        if not any(np.abs(part - vector).max() <= SAME for part in kept):
            kept.append(vector)
    return np.array(kept)


def near(n: int, factor: float) -> np.ndarray:
    """Vectors, and some of them again, with one number that differs by a multiple of ``SAME``."""
    vectors = unit(n, seed=3)
    again = vectors[::2].copy()
    again[np.arange(len(again)), np.arange(len(again)) % WIDTH] += np.float32(factor * SAME)
    return np.concatenate([vectors, again])


@pytest.mark.parametrize(
    "more",
    [
        *(near(40, factor) for factor in (0.0, 0.5, -0.9, 1.1, -2.0, 3.0)),
        np.repeat(unit(3), 20, axis=0),
        np.eye(WIDTH, dtype=np.float32)[np.arange(40) % WIDTH],
        unit(1),
        unit(0),
    ],
)
def test_vectors_are_compared_with_those_in_reach_as_if_with_all(more):
    for own in (unit(0), unit(10, seed=3)):
        if len(own) + len(more):
            np.testing.assert_array_equal(with_new(own, more), one_by_one(own, more).reshape(-1, WIDTH))


def test_comparisons_grow_with_the_records_of_one_product_and_not_with_their_square(monkeypatch):
    compared = []
    monkeypatch.setattr(
        contents_module, "holds", lambda near, vector: compared.append(len(near)) or holds(near, vector)
    )
    assert len(with_new(unit(0), unit(4000))) == 4000
    assert sum(compared) < 4000


def directions() -> np.ndarray:
    means = unit(30).reshape(10, 3, WIDTH).mean(axis=1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def test_a_product_is_as_near_as_the_mean_direction_of_its_vectors(gallery):
    queries = unit(20, seed=1)
    expected = queries @ directions().T
    for found, row in zip(gallery.search_vectors(queries, k=4), expected, strict=True):
        order = np.argsort(-row)[:4]
        assert [match.label for match in found.matches] == [f"p{place}" for place in order]
        assert_close(np.array([match.similarity for match in found.matches]), row[order])
        assert found.is_known
        assert found.label == f"p{order[0]}"


def test_all_products_are_given_where_fewer_are_enrolled_than_asked_for(gallery):
    assert len(gallery.search_vectors(unit(1, seed=1), k=99)[0].matches) == 10
    assert gallery.search_vectors(np.zeros((0, WIDTH))) == []


def test_enrolling_again_changes_nothing(gallery):
    before, file = gallery.contents, gallery.folder / "gallery.json"
    written = file.read_bytes()
    done = gallery.add_vectors(names(30), unit(30))
    assert (done.added, done.repeated, done.products) == (0, 30, ())
    assert file.read_bytes() == written
    assert gallery.contents.revision == before.revision
    done = gallery.add_vectors(["p0", "q"], unit(1).repeat(2, axis=0))  # the same vector for another product is new
    assert (done.added, done.repeated, done.products) == (1, 1, ("q",))


def test_two_photos_that_look_alike_are_two_but_rounding_makes_none(gallery):
    near = unit(1)[0] + np.array([2e-4, *[0] * (WIDTH - 1)], np.float32)
    rounded = (unit(1)[0] * np.float32(1 + 1e-6)).astype(np.float32)
    assert 1 - float(near @ unit(1)[0] / np.linalg.norm(near)) < 1e-6  # cosines hardly tell them apart
    done = gallery.add_vectors(["p0", "p0"], np.stack([near, rounded]))
    assert (done.added, done.repeated) == (1, 1)


def test_removing_again_changes_nothing(gallery):
    assert "p0" in {match.label for match in gallery.search_vectors(unit(1), k=10)[0].matches}
    assert gallery.remove("p0") == 1
    assert "p0" not in {match.label for match in gallery.search_vectors(unit(1), k=10)[0].matches}
    assert gallery.remove(["p0", "nobody"]) == 0
    assert "p0" not in Gallery.open(gallery.folder).products
    assert len(gallery.contents.vectors) == 27


def test_what_is_read_again_is_what_was_written(gallery):
    gallery.calibrate()
    again = Gallery.open(gallery.folder)
    assert again.products == gallery.products == {f"p{index}": 3 for index in range(10)}
    assert again.refusal == gallery.refusal
    assert np.array_equal(again.contents.vectors, unit(30))
    assert sorted(path.name for path in gallery.folder.iterdir()) == [".lock", "gallery.json", "vectors-2.npy"]


def test_a_record_below_the_threshold_is_refused_but_its_neighbours_are_told(gallery):
    refusal = gallery.calibrate().refusal
    found = gallery.search_vectors(unit(200, seed=5))
    for answer in found:
        assert answer.is_known == (answer.matches[0].similarity >= refusal.threshold)
        assert (answer.label is None) != answer.is_known
    assert 0 < sum(answer.is_known for answer in found) < 200


def test_the_threshold_accepts_the_share_and_the_auroc_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(0.7, 0.1, 400), rng.normal(0.5, 0.1, 300)
    refusal = choose_refusal(known, unknown, accept=0.95, unknowns="records")
    assert refusal.accepted == 0.95
    assert refusal.threshold == np.sort(known)[20]
    assert refusal.false_accepted == (unknown >= refusal.threshold).mean()
    scores = np.concatenate([known, unknown])
    assert_close(refusal.auroc, roc_auc_score(np.arange(700) < 400, scores), "float64")
    assert choose_refusal(known, unknown, accept=1.0, unknowns="records").threshold == known.min()


@pytest.mark.parametrize("accept", [0.0, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(accept):
    with pytest.raises(ValueError, match="give a share above 0 and at most 1"):
        choose_refusal(np.ones(3), np.zeros(3), accept=accept, unknowns="records")


def test_a_threshold_needs_records_of_both_kinds(gallery):
    with pytest.raises(ValueError, match="there are no known records to set a threshold by"):
        choose_refusal(np.zeros(0), np.zeros(3), accept=0.95, unknowns="records")
    gallery.remove([f"p{place}" for place in range(1, 10)])
    with pytest.raises(GalleryError, match="holds 1 products, and 2 are needed to set a threshold by"):
        gallery.calibrate()


def test_calibrating_by_the_gallery_itself_leaves_each_vector_and_then_its_product_out(gallery):
    vectors, owners = unit(30), np.arange(30) // 3
    near = vectors @ directions().T
    unknown = np.where(owners[:, None] == np.arange(10), -2, near).max(axis=1)
    others = (vectors.reshape(10, 3, WIDTH).sum(axis=1)[owners] - vectors).astype(np.float64)
    own = (others * vectors).sum(axis=1) / np.linalg.norm(others, axis=1)
    known = np.maximum(own, unknown)
    refusal = gallery.calibrate().refusal
    expected = choose_refusal(known, unknown, accept=0.95, unknowns="products left out")
    assert (refusal.known, refusal.unknown, refusal.unknowns) == (30, 30, "products left out")
    assert_close(np.array([refusal.threshold, refusal.auroc]), np.array([expected.threshold, expected.auroc]))


def test_an_empty_gallery_is_not_searched(tmp_path):
    empty = Gallery(tmp_path, Contents.empty(SOURCE))
    with pytest.raises(GalleryError, match="holds 0 products, and 1 are needed to search"):
        empty.search_vectors(unit(1))


@pytest.mark.parametrize(
    ("labels", "vectors", "message"),
    [
        (["a"], unit(2), "there are 1 labels for 2 vectors"),
        (["a"], unit(1, width=5), r"vectors are \[1, 5\], and this gallery's are \[n, 8\]"),
        (["a"], 2 * unit(1), "vector 0 has length 2, not 1"),
        (["a"], np.full((1, WIDTH), np.nan), "vector 0 has length nan"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(gallery, labels, vectors, message):
    with pytest.raises(ValueError, match=message):
        gallery.add_vectors(labels, vectors)


def test_wrong_arguments_say_what_to_give(gallery):
    with pytest.raises(ValueError, match="k is 0; give at least 1"):
        gallery.search_vectors(unit(1), k=0)
    with pytest.raises(ValueError, match="index is 'tree'; give 'exact', or 'faiss'"):
        Gallery.open(gallery.folder, index="tree").search_vectors(unit(1))
    with pytest.raises(GalleryError, match="was opened without a bundle; give one"):
        gallery.add([{"image": "a.png", "product": "a"}], "product")


# --- the folder ---


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("vectors-1.npy", lambda content: content[:-1] + b"\x01", "is damaged: the sha256 of its vectors differs"),
        ("vectors-1.npy", lambda content: None, "is damaged: vectors-1.npy is missing"),
        ("gallery.json", lambda content: content[:50], "is not JSON"),
        ("gallery.json", lambda content: None, "is no gallery: it has no gallery.json"),
        ("gallery.json", lambda content: content.replace(b'"format": 1', b'"format": 9'), "has gallery format 9"),
        ("gallery.json", lambda content: content.replace(b'"p3": 3', b'"p3": 4'), DAMAGED),
        ("gallery.json", lambda content: content.replace(b'"p3": 3', b'"q3": 3'), DAMAGED),
        ("gallery.json", lambda content: content.replace(b'"p3"', b'"p"').replace(b'"p4"', b'"p3"'), DAMAGED),
        ("gallery.json", lambda content: content.replace(b'"output": "product"', b'"output": "other"'), DAMAGED),
        ("gallery.json", lambda content: content.replace(b'"revision": 1', b'"revision": 2'), DAMAGED),
        ("gallery.json", lambda content: content.replace(b'"refusal": null', b'"refusal": {"threshold": 1}'), DAMAGED),
        ("gallery.json", lambda content: content.replace(b'"format": 1,', b'"format": 1, "more": 2,'), DAMAGED),
        ("gallery.json", lambda content: content.replace(b'"sha256": "', b'"sha256": "0'), DAMAGED),
    ],
)
def test_a_damaged_gallery_is_refused(gallery, file, change, message):
    path = gallery.folder / file
    content = change(path.read_bytes())
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(GalleryError, match=message):
        Gallery.open(gallery.folder)


def forge(folder, change):
    """Changes ``gallery.json`` and leaves its digest out, as galleries of before have none."""
    description = json.loads((folder / "gallery.json").read_text())
    del description["sha256"]
    change(description)
    (folder / "gallery.json").write_text(json.dumps(description))


def test_a_gallery_without_a_digest_is_read_and_gets_one_with_the_next_change(gallery):
    forge(gallery.folder, lambda description: None)
    assert Gallery.open(gallery.folder).products == gallery.products
    gallery.remove("p3")
    assert "sha256" in json.loads((gallery.folder / "gallery.json").read_text())
    assert "p3" not in Gallery.open(gallery.folder).products


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("vectors", "file", "../../etc-1.npy", "is no name of vectors"),
        ("products", "p3", 4, "there are 30 vectors for 31 that"),
        ("products", "p3", "x", "gallery.json cannot be used"),
        ("source", "width", 9, "gallery.json cannot be used"),
        ("source", "more", 9, "gallery.json cannot be used"),
    ],
)
def test_a_description_that_cannot_be_used_is_refused(gallery, part, key, value, message):
    forge(gallery.folder, lambda description: description[part].update({key: value}))
    with pytest.raises(GalleryError, match=message):
        Gallery.open(gallery.folder)


def test_pickles_are_never_read(gallery):
    objects = np.array([{"a": 1}], dtype=object)
    np.save(gallery.folder / "vectors-1.npy", objects, allow_pickle=True)
    digest = hashlib.sha256((gallery.folder / "vectors-1.npy").read_bytes()).hexdigest()
    forge(gallery.folder, lambda description: description["vectors"].update(sha256=digest))
    with pytest.raises(GalleryError, match="allow_pickle=False"):
        Gallery.open(gallery.folder)


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(GalleryError, match=r"is not empty and holds no gallery.json; name another folder"):
        Gallery(tmp_path, Contents.empty(SOURCE)).add_vectors(["a"], unit(1))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_without_file_locks_nothing_is_changed(gallery, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(GalleryError, match="this system has no file locks"):
        gallery.remove("p0")


def test_a_crash_before_the_description_leaves_the_old_state(gallery, monkeypatch):
    import export.gallery.folder as folder

    real = folder.write_atomically

    def crash(path: Path, content: bytes) -> None:
        if path.name == "gallery.json":
            raise OSError("the power fails")
        real(path, content)

    monkeypatch.setattr(folder, "write_atomically", crash)
    with pytest.raises(OSError, match="the power fails"):
        gallery.remove("p0")
    monkeypatch.undo()
    assert "p0" in Gallery.open(gallery.folder).products
    assert gallery.remove("p1") == 1
    assert len(list(gallery.folder.glob("vectors-*.npy"))) == 1


def test_a_reader_sees_the_state_that_it_opened_until_it_refreshes(gallery):
    reader = Gallery.open(gallery.folder)
    gallery.remove("p0")
    assert len(reader.search_vectors(unit(1), k=99)[0].matches) == 10
    reader.refresh()
    assert len(reader.search_vectors(unit(1), k=99)[0].matches) == 9


def test_a_change_is_made_to_the_newest_state(gallery):
    other = Gallery.open(gallery.folder)
    gallery.add_vectors(["new"], unit(1, seed=9))
    other.remove("p0")
    assert {"new", "p1"} <= set(other.products)
    assert "p0" not in Gallery.open(gallery.folder).products


def test_a_gallery_whose_owner_changed_meanwhile_is_refused(gallery):
    stranger = Gallery(gallery.folder, Contents.empty(VectorSource("cafe", "1" * 64, "product", WIDTH)))
    with pytest.raises(GalleryError, match=r"vectors of another bundle \(shop, sha256 000000000000; this one is cafe"):
        stranger.add_vectors(["a"], unit(1))
    with pytest.raises(GalleryError, match="another bundle"):
        stranger.refresh()


def enrol(folder: Path, number: int) -> None:
    gallery = Gallery(folder, Contents.empty(SOURCE))
    for index in range(5):
        gallery.add_vectors([f"w{number}-{index}"], unit(1, seed=100 * number + index))


def test_processes_that_enrol_at_the_same_time_lose_nothing(tmp_path):
    folder, context = tmp_path / "gallery", multiprocessing.get_context("fork")
    writers = [context.Process(target=enrol, args=(folder, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        if (folder / "gallery.json").is_file():  # always whole
            seen = max(seen, len(Gallery.open(folder).products))
        wait([writer.sentinel for writer in writers if writer.is_alive()], timeout=0.002)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(Gallery.open(folder).products) == 20 >= seen


def test_the_lock_keeps_a_second_one_out(gallery):
    import fcntl

    with locked(gallery.folder), (gallery.folder / ".lock").open("ab") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (gallery.folder / ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    ("enrolled", "again"),
    [
        ("café", "cafe\u0301"),
        ("cafe\u0301", "café"),
        ("Mu\u0308sli", "Müsli"),
        ("한", "\u1112\u1161\u11ab"),
        ("Å", "\u212b"),
    ],
)
def test_a_product_is_one_in_either_form_of_unicode(enrolled, again):
    contents = Contents.empty(SOURCE).with_vectors([enrolled, "tea"], unit(2))
    more = contents.with_vectors([again, "fig"], unit(2, seed=1))
    assert more.products == {enrolled: 2, "tea": 1, "fig": 1}
    assert set(more.without([again]).products) == {"tea", "fig"}


def test_labels_of_any_script_come_back(tmp_path):
    contents = Contents.empty(SOURCE).with_vectors(["Äpfel 🍎", "\ud800"], unit(2))
    tmp_path.mkdir(exist_ok=True)
    write_contents(tmp_path, contents)
    assert list(read_contents(tmp_path).products) == ["Äpfel 🍎", "\ud800"]


# --- faiss ---


def test_faiss_finds_what_the_exact_index_finds():
    pytest.importorskip("faiss", reason="the extra faiss is not installed")
    contents = Contents.empty(SOURCE).with_vectors(names(600, per=1), unit(600))
    queries = unit(40, seed=3)
    similarities, places = ExactIndex(contents).nearest(queries, 5)
    found, where = FaissIndex(contents).nearest(queries, 5)
    assert (places == where).mean() > 0.98  # approximate
    assert_close(found[:, 0], similarities[:, 0])
    assert FaissIndex(contents).nearest(queries[:1], 200)[1].shape == (1, 200)
    few = Contents.empty(SOURCE).with_vectors(names(6), unit(6))
    assert FaissIndex(few).nearest(queries, 5)[1].shape == (40, 2)


def test_without_faiss_the_error_names_the_extra(gallery, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'multimodal-transfer\[faiss\]'"):
        Gallery.open(gallery.folder, index="faiss").search_vectors(unit(1))
