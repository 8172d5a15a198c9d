"""The whole way: train, export, enrol new products, find them, refuse unknown ones; by Python and by commands."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from support.assertions import assert_close
from support.commands import WITHOUT_TORCH
from support.synthetic_products import CONFIG, NEW, OLD, UNKNOWN, make_photos, write_table
from typer.testing import CliRunner

import multimodal as mm
from export.gallery import GalleryError
from export.gallery.source import check_source
from multimodal.cli import app
from multimodal.config import parse_job
from multimodal.records import RecordError, read_records
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


@pytest.fixture(scope="module")
def shop_bundle(shop, tmp_path_factory) -> Path:
    """Gives the vectors of its task, and the fused ones."""
    folder = tmp_path_factory.mktemp("shop")
    run = fit(parse_job(CONFIG), train=shop / "train.csv", out=folder / "run")
    run.export(folder / "bundle", embedding=True)
    return folder / "bundle"


@pytest.fixture
def gallery(shop_bundle, shop, tmp_path) -> mm.Gallery:
    opened = mm.Gallery.open(tmp_path / "gallery", shop_bundle)
    opened.add(shop / "enrol.csv", "product")
    return opened


def command(name: str, bundle: Path, folder: Path, *options: Any) -> Result:
    return CliRunner().invoke(app, ["gallery", name, str(bundle), "--gallery", str(folder), *map(str, options)])


def test_new_products_are_found_and_unknown_ones_refused_by_commands(shop_bundle, shop, tmp_path):
    folder, out = tmp_path / "gallery", tmp_path / "found.csv"
    done = command("add", shop_bundle, folder, "--data", shop / "enrol.csv", "--label", "product")
    assert done.exit_code == 0, done.output
    assert "20 vectors added, 0 were there already; 5 new products, 5 in all" in done.output
    assert "no threshold: every record gets an answer" in done.output
    done = command("calibrate", shop_bundle, folder, "--data", shop / "valid.csv", "--label", "product")
    assert done.exit_code == 0, done.output
    assert "accepts 96.0% (80.5% to 99.3%) of 25 known records" in done.output  # Wilson, as scipy has it
    assert "of 5 records of other products; AUROC" in done.output
    done = command("search", shop_bundle, folder, "--data", shop / "test.csv", "--out", out, "--top", 2)
    assert done.exit_code == 0, done.output
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["label", "label_1", "similarity_1", "label_2", "similarity_2", "error"]
    truth = [color for color in OLD + NEW + UNKNOWN for _ in range(4)]
    right = [row["label"] == ("" if color in UNKNOWN else color) for row, color in zip(rows, truth, strict=True)]
    assert np.mean(right) > 0.75
    assert np.mean(right[16:20]) > 0.5  # the new product
    done = command("search", shop_bundle, folder, "--image", shop / "yellow-1-0.png")
    assert "answer: yellow" in done.output
    done = command("remove", shop_bundle, folder, "--label", "yellow", "--label", "yelow")
    assert done.exit_code == 0, done.output
    assert "1 products removed, 4 in all" in done.output
    assert "'yelow' is not enrolled; did you mean 'yellow'?" in done.output
    done = command("info", shop_bundle, folder)
    assert "red\t4" in done.output
    assert "yellow" not in done.output
    assert "threshold: " in done.output


def test_a_table_is_enrolled_where_torch_cannot_be_imported(shop_bundle, shop, tmp_path):
    folder = tmp_path / "gallery"
    options = ["--gallery", str(folder), "--data", str(shop / "enrol.csv"), "--label", "product"]
    call = [sys.executable, "-c", WITHOUT_TORCH, "gallery", "add", str(shop_bundle), *options]
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


def test_records_that_cannot_be_used_are_listed_and_the_others_enrolled(gallery, shop_bundle, shop, tmp_path):
    (shop / "broken.png").write_bytes(b"no picture")
    good = make_photos(shop, ("black",), 2, seed=7)
    rows = [*good, {"image": "broken.png", "product": "black"}, {"image": good[0]["image"], "product": None}]
    table = write_table(shop / "some.csv", rows)
    done = command("add", shop_bundle, gallery.folder, "--data", table, "--label", "product")
    assert done.exit_code == 3
    assert "some.csv, row 3, column image: 'broken.png'" in done.output
    assert "some.csv, row 4: column 'product': names no product; fill it in" in done.output
    assert "2 vectors added" in done.output
    done = command("search", shop_bundle, gallery.folder, "--data", table, "--out", tmp_path / "found.csv")
    assert done.exit_code == 3
    assert "3 of 4 records answered" in done.output
    assert "broken.png" in (tmp_path / "found.csv").read_text().splitlines()[3]
    only_bad = write_table(shop / "bad.csv", rows[2:])
    assert command("add", shop_bundle, gallery.folder, "--data", only_bad, "--label", "product").exit_code == 1
    with pytest.raises(RecordError, match=r"'broken.png': is not a readable"):
        gallery.add(only_bad, "product")
    with pytest.raises(RecordError, match="names no product; fill it in"):
        gallery.add(write_table(shop / "nameless.csv", rows[3:]), "product")
    with pytest.raises(ValueError, match="on_error is 'skip'; give 'raise' or 'return'"):
        gallery.add(table, "product", on_error="skip")


def test_the_threshold_leaves_out_photos_that_are_enrolled_themselves(gallery, shop):
    both = [*read_records(shop / "enrol.csv").rows, *read_records(shop / "valid.csv").rows]
    done = gallery.calibrate(write_table(shop / "both.csv", both), "product")
    assert (done.left_out, done.refusal.known, done.refusal.unknown) == (20, 25, 5)
    assert done.refusal == gallery.calibrate(shop / "valid.csv", "product").refusal


def test_without_records_of_other_products_the_known_ones_stand_in_with_their_own_hidden(gallery, shop):
    rows = [row for row in read_records(shop / "valid.csv").rows if row["product"] not in UNKNOWN]
    refusal = gallery.calibrate(write_table(shop / "known.csv", rows), "product").refusal
    assert (refusal.known, refusal.unknown, refusal.unknowns) == (25, 25, "products left out")
    assert refusal.auroc > 0.8
    with pytest.raises(ValueError, match="without the column of their labels; give label="):
        gallery.calibrate(rows)


def test_a_bundle_without_an_embedding_task_lends_its_fused_vector(bundle, table, media, tmp_path):
    gallery = mm.Gallery.open(tmp_path / "gallery", bundle.folder)
    records = read_records(table, root=media)
    done = gallery.add(records, "color", on_error="return")
    assert gallery.contents.source.output == "embedding"
    assert done.added + done.repeated + len(done.errors) == len(table)
    assert gallery.search(records.subset([0]), k=1)[0].missing == ()


def test_another_precisions_gallery_is_refused(gallery):
    own = gallery.contents.source
    assert own.precision == "fp32"
    with pytest.raises(GalleryError, match="holds vectors in fp32, and the bundle runs in int8"):
        check_source(gallery.folder, own, replace(own, precision="int8"))


def test_another_bundles_gallery_is_refused(gallery, bundle):
    with pytest.raises(GalleryError, match="holds vectors of another bundle"):
        mm.Gallery.open(gallery.folder, bundle.folder)
    done = command("info", bundle.folder, gallery.folder)
    assert done.exit_code == 1
    assert "which are not comparable" in str(done.exception)


def test_the_gallery_remembers_whose_vectors_it_holds(shop_bundle, shop, tmp_path):
    folder, predictor = tmp_path / "gallery", mm.Predictor.load(shop_bundle)
    done = command(
        "add", shop_bundle, folder, "--data", shop / "enrol.csv", "--label", "product", "--task", "embedding"
    )
    assert done.exit_code == 0, done.output
    assert mm.Gallery.open(folder, predictor).contents.source.output == "embedding"
    with pytest.raises(GalleryError, match="holds vectors of 'embedding', not of 'product'"):
        mm.Gallery.open(folder, predictor, task="product")


def test_vectors_are_those_of_the_only_embedding_task_else_the_fused_ones(bundle):
    def output(tasks: dict[str, str], *, embedding: bool, task: str | None = None) -> str:
        return replace(bundle, tasks=tasks, embedding=embedding).vector_output(task)

    one, two = {"color": "classification", "one": "embedding"}, {"one": "embedding", "two": "embedding"}
    assert output(one, embedding=True) == output(one, embedding=False) == "one"
    assert output({"color": "classification"}, embedding=True) == "embedding"
    assert output(two, embedding=False, task="two") == "two"
    with pytest.raises(ValueError, match="has several embedding tasks; name one of one, two with --task"):
        output(two, embedding=False)
    with pytest.raises(ValueError, match=r"gives no vectors: .* `multimodal export RUN --out BUNDLE --embedding`"):
        output({"color": "classification"}, embedding=False)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("search", [], "give either --data FILE, or one record"),
        ("search", ["--data", "a.csv"], "name the file for the predictions"),
        ("search", ["--image", "a.png", "--out", "a.csv"], "--out of one record would be ignored"),
        ("calibrate", ["--data", "a.csv"], "give --data and --label together, or neither"),
        ("search", ["--image", "a.png", "--device", "tpu"], "tpu"),
    ],
)
def test_wrong_usage_exits_with_2(shop_bundle, tmp_path, name, options, message):
    done = command(name, shop_bundle, tmp_path, *options)
    assert done.exit_code == 2
    assert message in done.output


def test_searching_where_there_is_no_gallery_is_an_error(shop_bundle, tmp_path):
    done = command("search", shop_bundle, tmp_path / "typo", "--image", "a.png")
    assert done.exit_code == 1
    assert "typo is no gallery: it has no gallery.json; make one with" in str(done.exception)
    assert not (tmp_path / "typo").exists()


def test_the_description_on_disk_holds_no_path_of_this_machine(gallery, shop):
    text = (gallery.folder / "gallery.json").read_text()
    assert str(shop) not in text
    assert json.loads(text)["source"]["bundle"] == "shop"
