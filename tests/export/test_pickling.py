"""Copies for other people's process pools: a Predictor and a Gallery are loaded again where they are unpickled."""

import copy
import multiprocessing
import pickle
import shutil
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import Bundle, BundleError, Predictor
from export.bundle_folder import read_bundle
from export.gallery import Gallery
from export.gallery.contents import Contents
from export.gallery.source import VectorSource

RECORDS: list[dict[str, Any]] = [{"text": "red round thing"}, {"text": "blue"}, {"text": "a green square"}]


def labels(predictor: Predictor) -> list[tuple[str | None, float | None]]:
    return [(answer["color"].label, answer["color"].probability) for answer in predictor.predict(RECORDS)]


OPTIONS: dict[str, Mapping[str, Any]] = {
    "defaults": {},
    "the CPU": {"device": "cpu"},
    "a precision": {"precision": "fp32"},
    "threads": {"threads": 1},
    "plug-ins": {"allow_plugins": ["satellite/v1"]},
    "strict": {"strict": True, "device": "cpu"},
}


@pytest.mark.parametrize("what", OPTIONS)
def test_a_predictor_comes_back_as_it_was_loaded(bundle: Bundle, what: str) -> None:
    predictor = Predictor.load(bundle.folder, **OPTIONS[what])
    found = pickle.loads(pickle.dumps(predictor))
    assert (found.precision, found.device, found.bundle.files) == ("fp32", predictor.device, bundle.files)
    assert found.session is not predictor.session
    assert found.session.get_session_options().intra_op_num_threads == (
        predictor.session.get_session_options().intra_op_num_threads
    )
    assert labels(found) == labels(predictor)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_predictor_is_small_in_every_protocol(bundle: Bundle, protocol: int) -> None:
    content = pickle.dumps(Predictor.load(bundle.folder, device="cpu"), protocol)
    assert len(content) < 10_000
    assert labels(pickle.loads(content)) == labels(Predictor.load(bundle.folder, device="cpu"))


def test_a_copy_of_a_copy_answers_the_same(bundle: Bundle) -> None:
    predictor = Predictor.load(bundle.folder, device="cpu")
    assert labels(copy.deepcopy(pickle.loads(pickle.dumps(copy.copy(predictor))))) == labels(predictor)


@pytest.mark.parametrize("folder", ["bundle", "./bundle", "link", "deeper/../bundle"])
def test_a_relative_folder_is_found_from_another_working_directory(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / "link").symlink_to(copied)
    monkeypatch.chdir(copied.parent)
    predictor = Predictor.load(folder, device="cpu")
    content = pickle.dumps(predictor)
    monkeypatch.chdir(tmp_path / "deeper")
    assert labels(pickle.loads(content)) == labels(predictor)


def test_a_spawned_process_answers(bundle: Bundle) -> None:
    predictor = Predictor.load(bundle.folder, device="cpu")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        answers = pool.submit(methodcaller("predict", RECORDS), predictor).result(timeout=240)
    assert [answer["color"].label for answer in answers] == [label for label, _ in labels(predictor)]


def test_where_the_bundle_is_gone_or_another_one_a_copy_is_refused(copied: Path, bundle: Bundle) -> None:
    content = pickle.dumps(Predictor.load(copied, device="cpu"))
    different = Predictor.load(bundle.folder, device="cpu")
    different.bundle.files["model.onnx"] = bundle.files["parity.json"]
    try:
        with pytest.raises(BundleError, match="holds another bundle than the one of this Predictor; put that"):
            copy.deepcopy(different)
    finally:
        different.bundle.files["model.onnx"] = read_bundle(bundle.folder).files["model.onnx"]
    shutil.rmtree(copied)
    with pytest.raises(BundleError, match="is no folder; give that of a bundle"):
        pickle.loads(content)


def test_a_predictor_around_a_session_says_how_to_be_shared(bundle: Bundle) -> None:
    loaded = Predictor.load(bundle.folder, device="cpu")
    predictor = Predictor(loaded.bundle, loaded.session, loaded.preprocessors)
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"make it with Predictor\.load, or load it in every process"):
            copied(predictor)


def test_a_bundle_comes_back_as_it_is(bundle: Bundle) -> None:
    assert pickle.loads(pickle.dumps(bundle)) == copy.deepcopy(bundle) == bundle


def unit(n: int) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("is_searched", [True, False])
@pytest.mark.parametrize("index", ["exact", "faiss"])
def test_a_gallery_comes_back_with_the_state_that_it_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_searched: bool, index: Any
) -> None:
    if index == "faiss":
        pytest.importorskip("faiss")
    monkeypatch.chdir(tmp_path)
    gallery = Gallery(Path("gallery"), Contents.empty(VectorSource("shop", "0" * 64, "product", 8)), index=index)
    gallery.add_vectors([f"p{number % 3}" for number in range(9)], unit(9))
    if is_searched:
        gallery.search_vectors(unit(9), k=2)
    content = pickle.dumps(gallery)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = pickle.loads(content)
    assert found.products == gallery.products
    assert found.search_vectors(unit(9), k=2) == gallery.search_vectors(unit(9), k=2)
    found.add_vectors(["new"], unit(10)[9:])
    assert set(Gallery.open(tmp_path / "gallery").products) == {"p0", "p1", "p2", "new"}


def test_a_gallery_brings_its_predictor(bundle: Bundle, tmp_path: Path) -> None:
    predictor = Predictor.load(bundle.folder, device="cpu")
    found = copy.deepcopy(Gallery.open(tmp_path / "gallery", predictor))
    assert found.predictor is not None
    assert labels(found.predictor) == labels(predictor)
