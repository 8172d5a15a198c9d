"""What a bundle's commands write is never what they read: refused before anything is written."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.assertions import unchanged_files
from support.bundles import make_table
from typer.testing import CliRunner

from export import Bundle, Gallery, Predictor, write_predictions
from export.triton import write_triton_repository
from multimodal.cli import app
from multimodal.runtime.files import OverwriteError


@pytest.fixture(scope="module")
def shop(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with its media, a copy of the bundle, a gallery, and other names of some of their files."""
    folder = tmp_path_factory.mktemp("shop")
    rows = make_table(folder, 3)
    lines = [f"{row['image'] or ''},{row['text'] or ''},{row['sound'] or ''},{row['color']}" for row in rows]
    (folder / "table.csv").write_text("\n".join(["image,text,sound,color", *lines, ""]))
    shutil.copytree(bundle.folder, folder / "bundle")
    Gallery.open(folder / "gallery", folder / "bundle", task="embedding").add(folder / "table.csv", "color")
    (folder / "link.csv").symlink_to("table.csv")
    (folder / "hard.csv").hardlink_to(folder / "table.csv")
    (folder / "here").symlink_to(".")
    (folder / "photo.npy").symlink_to(next(row["image"] for row in rows if row["image"]))
    (folder / "graph.npy").hardlink_to(folder / "bundle" / "model.onnx")
    (folder / "earlier.csv").write_text("")
    return folder


@pytest.fixture
def unchanged(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The shop as working directory; nothing in it may be another afterwards."""
    monkeypatch.chdir(shop)
    with unchanged_files(shop):
        yield shop


@pytest.fixture(scope="module")
def predictor(shop: Path) -> Predictor:
    return Predictor.load(shop / "bundle", device="cpu")


@pytest.mark.parametrize(
    ("out", "embeddings", "message"),
    [
        ("hard.csv", None, "--out hard.csv is the same file as the table table.csv, which would be lost"),
        ("link.csv", None, "--out link.csv is the same file as the table"),
        ("here/table.csv", None, "--out here/table.csv is the same file as the table"),
        ("gallery/../table.csv", None, "is the same file as the table"),
        ("bundle/preds.csv", None, "--out bundle/preds.csv lies in the bundle .*bundle, which must stay as it is"),
        ("here/bundle/new/preds.jsonl", None, "lies in the bundle"),
        ("new.csv", "table.csv", "--embeddings table.csv is the same file as the table"),
        ("new.csv", "photo.npy", "--embeddings photo.npy is the same file as .*png, which a record names"),
        ("earlier.csv", "photo.npy", "--embeddings photo.npy is the same file as .*png, which a record names"),
        ("new.csv", "graph.npy", "--embeddings graph.npy lies in the bundle"),
        ("new.csv", "here/new.csv", "--embeddings here/new.csv is the same file as --out new.csv"),
    ],
)
def test_answers_over_what_is_read_are_refused(
    predictor: Predictor, unchanged: Path, out: str, embeddings: str | None, message: str
) -> None:
    with pytest.raises(OverwriteError, match=message):
        write_predictions(predictor, "table.csv", out, embeddings=embeddings, task="embedding")


@pytest.mark.parametrize(
    "arguments",
    [
        "predict bundle --data link.csv --out table.csv",
        "predict bundle --data table.csv --out bundle/tasks/color.csv",
        "explain bundle --data table.csv --out bundle/why",
        "bench bundle --seconds 0 --out bundle/metrics.json",
        "bench bundle --seconds 0 --out here/bundle/new.json",
        "gallery search bundle --gallery gallery --data table.csv --out hard.csv",
        "gallery search bundle --gallery gallery --data table.csv --out gallery/gallery.json",
        "gallery search bundle --gallery gallery --data table.csv --out here/gallery/vectors-1.npy",
        "gallery search bundle --gallery gallery --data table.csv --out bundle/found.csv",
        "gallery search bundle --gallery gallery --data table.csv --out photo.npy",
        "gallery add bundle --gallery bundle/gallery --data table.csv --label color --task embedding",
    ],
)
def test_a_command_whose_output_is_an_input_is_refused(unchanged: Path, arguments: str) -> None:
    done = CliRunner().invoke(app, arguments.split())
    assert done.exit_code == 1
    assert isinstance(done.exception, OverwriteError), done.exception


@pytest.mark.parametrize("folder", ["bundle", "bundle/triton", "here/bundle/inputs/triton", "bundle/../bundle/new"])
def test_a_triton_repository_in_the_bundle_is_refused(unchanged: Path, folder: str) -> None:
    with pytest.raises(OverwriteError, match=r"--triton .* the bundle bundle, which"):
        write_triton_repository("bundle", folder)


def test_export_refuses_a_triton_repository_in_its_bundle_before_it_reads_the_run(unchanged: Path) -> None:
    arguments = ["export", "bundle", "--out", "new", "--triton", "here/new/triton"]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, OverwriteError), done.exception


def test_answers_beside_the_table_are_written_and_written_again(predictor: Predictor, shop: Path) -> None:
    first: Any = None
    for _ in range(2):
        write_predictions(predictor, shop / "table.csv", shop / "answers.csv", embeddings=shop / "vectors.npy")
        first = first or (shop / "answers.csv").read_bytes()
        assert (shop / "answers.csv").read_bytes() == first
    for name in ("answers.csv", "vectors.npy"):
        (shop / name).unlink()
