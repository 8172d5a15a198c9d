"""The whole way: train, export, enrol new products, find them, refuse unknown ones; by Python and by commands."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from helpers import WITHOUT_TORCH, assert_close, changed
from products import CONFIG, NEW, OLD, UNKNOWN, make_photos, write_table
from typer.testing import CliRunner

import multimodal as mm
from export.gallery import GalleryError
from export.vectors import vector_output
from multimodal.cli import app
from multimodal.config import parse_task
from multimodal.records import RecordError
from multimodal.training import fit


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """``enrol.csv`` has the old and the new products; ``valid.csv`` and ``test.csv`` unknown ones, too."""
    folder = tmp_path_factory.mktemp("shop")
    write_table(folder / "train.csv", make_photos(folder, OLD, 12, seed=0))
    write_table(folder / "enrol.csv", make_photos(folder, OLD + NEW, 4, seed=1))
    write_table(folder / "valid.csv", make_photos(folder, OLD + NEW + UNKNOWN, 5, seed=2))
    write_table(folder / "test.csv", make_photos(folder, OLD + NEW + UNKNOWN, 4, seed=3))
    return folder


def train(shop: Path, folder: Path, *, embedding: bool = False, **changes: Any) -> Path:
    run = fit(parse_task(changed(CONFIG, changes)), train=shop / "train.csv", out=folder / "run")
    run.export(folder / "bundle", embedding=embedding)
    return folder / "bundle"


@pytest.fixture(scope="module")
def bundle(shop, tmp_path_factory) -> Path:
    return train(shop, tmp_path_factory.mktemp("embedding"))


@pytest.fixture(scope="module")
def classifier(shop, tmp_path_factory) -> Path:
    """Has no embedding task, but gives the fused vector."""
    return train(
        shop, tmp_path_factory.mktemp("classifier"), embedding=True, tasks={"product": {}}, train={"epochs": 1}
    )


@pytest.fixture
def gallery(bundle, shop, tmp_path) -> mm.Gallery:
    opened = mm.Gallery.open(tmp_path / "gallery", bundle)
    opened.add(shop / "enrol.csv", "product")
    return opened


def command(name: str, bundle: Path, folder: Path, *options: Any) -> Result:
    return CliRunner().invoke(app, ["gallery", name, str(bundle), "--gallery", str(folder), *map(str, options)])


def test_new_products_are_found_and_unknown_ones_refused_by_commands(bundle, shop, tmp_path):
    folder, out = tmp_path / "gallery", tmp_path / "found.csv"
    done = command("add", bundle, folder, "--data", shop / "enrol.csv", "--label", "product")
    assert done.exit_code == 0, done.output
    assert "20 vectors added, 0 were there already; 5 new products, 5 in all" in done.output
    assert "no threshold: every record gets an answer" in done.output
    done = command("calibrate", bundle, folder, "--data", shop / "valid.csv", "--label", "product")
    assert done.exit_code == 0, done.output
    assert "accepts 96.0% of 25 known records" in done.output
    assert "of 5 records of other products; AUROC" in done.output
    done = command("search", bundle, folder, "--data", shop / "test.csv", "--out", out, "--top", 2)
    assert done.exit_code == 0, done.output
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["label", "label_1", "similarity_1", "label_2", "similarity_2", "error"]
    truth = [color for color in OLD + NEW + UNKNOWN for _ in range(4)]
    right = [row["label"] == ("" if color in UNKNOWN else color) for row, color in zip(rows, truth, strict=True)]
    assert np.mean(right) > 0.75
    assert np.mean(right[16:20]) > 0.5  # the new product
    done = command("search", bundle, folder, "--image", shop / "yellow-1-0.png")
    assert "answer: yellow" in done.output
    done = command("remove", bundle, folder, "--label", "yellow", "--label", "yelow")
    assert done.exit_code == 0, done.output
    assert "1 products removed, 4 in all" in done.output
    assert "'yelow' is not enrolled; did you mean 'yellow'?" in done.output
    done = command("info", bundle, folder)
    assert "red\t4" in done.output
    assert "yellow" not in done.output
    assert "threshold: " in done.output


def test_a_table_is_enrolled_where_torch_cannot_be_imported(bundle, shop, tmp_path):
    folder = tmp_path / "gallery"
    options = ["--gallery", str(folder), "--data", str(shop / "enrol.csv"), "--label", "product"]
    call = [sys.executable, "-c", WITHOUT_TORCH, "gallery", "add", str(bundle), *options]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(mm.Gallery.open(folder).products) == 5


def test_enrolling_the_same_photos_again_changes_nothing(gallery, shop):
    done = gallery.add(shop / "enrol.csv", "product", batch_size=3)
    assert (done.added, done.repeated) == (0, 20)


def test_the_answer_is_the_nearest_product_of_the_records_vector(gallery, shop):
    found = gallery.search([{"image": str(shop / "blue-1-0.png")}], k=1)[0]
    vector = gallery.predictor.predict([{"image": str(shop / "blue-1-0.png")}])[0]["product"].embedding
    mean = gallery.contents.by_product["blue"].mean(axis=0)
    assert found.label == "blue"
    assert_close(found.matches[0].similarity, vector @ mean / np.linalg.norm(mean))
    assert found.missing == ()


def test_records_that_cannot_be_used_are_listed_and_the_others_enrolled(gallery, bundle, shop, tmp_path):
    (shop / "broken.png").write_bytes(b"no picture")
    good = make_photos(shop, ("black",), 2, seed=7)
    rows = [*good, {"image": "broken.png", "product": "black"}, {"image": good[0]["image"], "product": None}]
    table = write_table(shop / "some.csv", rows)
    done = command("add", bundle, gallery.folder, "--data", table, "--label", "product")
    assert done.exit_code == 3
    assert "some.csv, row 3, column image: 'broken.png'" in done.output
    assert "some.csv, row 4: column 'product': names no product; fill it in" in done.output
    assert "2 vectors added" in done.output
    done = command("search", bundle, gallery.folder, "--data", table, "--out", tmp_path / "found.csv")
    assert done.exit_code == 3
    assert "3 of 4 records answered" in done.output
    assert "broken.png" in (tmp_path / "found.csv").read_text().splitlines()[3]
    only_bad = write_table(shop / "bad.csv", rows[2:])
    assert command("add", bundle, gallery.folder, "--data", only_bad, "--label", "product").exit_code == 1
    with pytest.raises(RecordError, match="names no product"):
        gallery.add(only_bad, "product")
    with pytest.raises(ValueError, match="on_error is 'skip'; give 'raise' or 'return'"):
        gallery.add(table, "product", on_error="skip")


def test_the_threshold_leaves_out_photos_that_are_enrolled_themselves(gallery, shop):
    both = [*csv.DictReader((shop / "enrol.csv").open()), *csv.DictReader((shop / "valid.csv").open())]
    done = gallery.calibrate(write_table(shop / "both.csv", both), "product")
    assert (done.left_out, done.refusal.known, done.refusal.unknown) == (20, 25, 5)
    assert done.refusal == gallery.calibrate(shop / "valid.csv", "product").refusal


def test_without_records_of_other_products_the_known_ones_stand_in_with_their_own_hidden(gallery, shop):
    rows = [row for row in csv.DictReader((shop / "valid.csv").open()) if row["product"] not in UNKNOWN]
    refusal = gallery.calibrate(write_table(shop / "known.csv", rows), "product").refusal
    assert (refusal.known, refusal.unknown, refusal.unknowns) == (25, 25, "products left out")
    assert refusal.auroc > 0.8
    with pytest.raises(ValueError, match="without the column of their labels; give label="):
        gallery.calibrate(rows)


def test_a_classifier_lends_its_fused_vector(classifier, shop, tmp_path):
    gallery = mm.Gallery.open(tmp_path / "gallery", classifier)
    gallery.add(shop / "enrol.csv", "product")
    assert gallery.contents.source.output == "embedding"
    assert gallery.search([{"image": str(shop / "red-1-0.png")}])[0].label == "red"


def test_another_bundles_gallery_is_refused(gallery, classifier):
    with pytest.raises(GalleryError, match="holds vectors of another bundle"):
        mm.Gallery.open(gallery.folder, classifier)
    done = command("info", classifier, gallery.folder)
    assert done.exit_code == 1
    assert "which do not compare" in str(done.exception)


def test_a_bundle_without_vectors_says_how_to_get_them(shop, tmp_path):
    bundle = train(shop, tmp_path, tasks={"product": {}}, train={"epochs": 1})
    with pytest.raises(ValueError, match=r"gives no vectors: .* `multimodal export RUN --out BUNDLE --embedding`"):
        mm.Gallery.open(tmp_path / "gallery", bundle)


def test_with_two_embedding_tasks_one_is_named_once(shop, tmp_path):
    embedding = {"type": "embedding", "width": 4, "column": "product"}
    bundle = train(shop, tmp_path, tasks={"one": embedding, "two": embedding}, train={"epochs": 1})
    predictor = mm.Predictor.load(bundle)
    with pytest.raises(ValueError, match="has several embedding tasks; name one of one, two with --task"):
        vector_output(predictor.bundle)
    folder = tmp_path / "gallery"
    done = command("add", bundle, folder, "--data", shop / "enrol.csv", "--label", "product", "--task", "two")
    assert done.exit_code == 0, done.output
    assert mm.Gallery.open(folder, predictor).contents.source.output == "two"  # the gallery remembers
    with pytest.raises(GalleryError, match="holds vectors of 'two', not of 'one'"):
        mm.Gallery.open(folder, predictor, task="one")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("search", [], "give either --data FILE, or one record"),
        ("search", ["--data", "a.csv"], "name the file for the answers"),
        ("calibrate", ["--data", "a.csv"], "give --data and --label together, or neither"),
        ("search", ["--image", "a.png", "--device", "tpu"], "tpu"),
    ],
)
def test_wrong_usage_exits_with_2(bundle, tmp_path, name, options, message):
    done = command(name, bundle, tmp_path, *options)
    assert done.exit_code == 2
    assert message in done.output


def test_searching_where_there_is_no_gallery_is_an_error(bundle, tmp_path):
    done = command("search", bundle, tmp_path / "typo", "--image", "a.png")
    assert done.exit_code == 1
    assert "typo is no gallery: it has no gallery.json; make one with" in str(done.exception)
    assert not (tmp_path / "typo").exists()


def test_the_description_on_disk_holds_no_path_of_this_machine(gallery, shop):
    text = (gallery.folder / "gallery.json").read_text()
    assert str(shop) not in text
    assert json.loads(text)["source"]["bundle"] == "shop"
