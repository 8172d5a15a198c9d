"""Jobs whose config, tables, folders or media are symbolic links: the path that was written counts, not its target."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from encoders.preprocessing import UnreadableValueError
from encoders.preprocessing.image import ImagePreprocessor
from multimodal.builders.encoders import build_encoder
from multimodal.check.job import check_job
from multimodal.cli import app
from multimodal.config import Input, load_job
from multimodal.job.run_folder import Destination, is_finished
from multimodal.records import InputReader, Records, read_records
from multimodal.run import Run
from multimodal.splits.tables import open_job, read_tables
from multimodal.training import fit

JOB = """
data: {train: train.csv, workers: 0}
inputs: {image: {encoder: compact/image, options: {image_size: 32}}}
tasks: {label: {}}
transfer: {guard: "off"}
train: {epochs: 1}
"""


def write(folder: Path) -> Path:
    """A job with its table and images in one folder, without a link."""
    (folder / "images").mkdir(parents=True)
    for number in range(6):
        image = Image.fromarray(np.full((16, 16, 3), 20 + 30 * number, np.uint8))
        image.save(folder / "images" / f"{number}.png")
    rows = [f"images/{number}.png,{'ab'[number % 2]}" for number in range(6)]
    (folder / "train.csv").write_text("\n".join(["image,label", *rows, ""]))
    (folder / "job.yaml").write_text(JOB)
    return folder


def keep(path: Path, store: Path) -> None:
    """Moves a file or folder to the store, and leaves a relative link."""
    store.parent.mkdir(parents=True, exist_ok=True)
    path.rename(store)
    path.symlink_to(os.path.relpath(store, path.parent))


def hub_cache(folder: Path) -> Path:
    """snapshots/REV/NAME -> blobs/HASH, as huggingface_hub lays it out."""
    snapshot = write(folder / "hub" / "snapshots" / "rev")
    for number, path in enumerate(sorted(path for path in snapshot.rglob("*") if path.is_file())):
        keep(path, folder / "hub" / "blobs" / f"{number:040x}")
    return snapshot / "job.yaml"


def dvc(folder: Path) -> Path:
    """Table and image folder in DVC's cache, under digests."""
    data = write(folder / "data")
    keep(data / "train.csv", folder / ".dvc" / "cache" / "files" / "md5" / "0c" / "a175b9")
    keep(data / "images", folder / ".dvc" / "cache" / "files" / "md5" / "d8" / "e8fca2.dir")
    return data / "job.yaml"


def annex(folder: Path) -> Path:
    """Every file under a key in git-annex's object folder, the suffix in the middle of nowhere."""
    data = write(folder / "data")
    for number, path in enumerate([data / "train.csv", *sorted((data / "images").iterdir())]):
        keep(path, folder / ".git" / "annex" / "objects" / f"{number:02}" / f"SHA256-s{number}")
    return data / "job.yaml"


def config_map(folder: Path) -> Path:
    """NAME -> ..data/NAME, ..data -> ..2024_01_01, as Kubernetes mounts a ConfigMap."""
    data = write(folder / "..2024_01_01").rename(folder / "mounted")
    inner = data / "..2024_01_01"
    inner.mkdir()
    for name in ("job.yaml", "train.csv", "images"):
        (data / name).rename(inner / name)
        (data / name).symlink_to(Path("..data") / name)
    (data / "..data").symlink_to("..2024_01_01")
    return data / "job.yaml"


def other_disk(folder: Path) -> Path:
    """Images on another disk, by an absolute link."""
    data = write(folder / "data")
    (data / "images").rename(folder / "disk")
    (data / "images").symlink_to(folder / "disk")
    return data / "job.yaml"


def linked_config(folder: Path) -> Path:
    """A config that is a link, beside its table."""
    data = write(folder / "data")
    keep(data / "job.yaml", folder / "configs" / "deadbeef")
    return data / "job.yaml"


def linked_folder(folder: Path) -> Path:
    """A folder that is reached through a chain of links."""
    write(folder / "releases" / "12")
    (folder / "current").symlink_to("releases/12")
    (folder / "data").symlink_to("current")
    return folder / "data" / "job.yaml"


Layout = Callable[[Path], Path]
LAYOUTS: list[Layout] = [hub_cache, dvc, annex, config_map, other_disk, linked_config, linked_folder]
OUTWARD = [hub_cache, dvc, annex, other_disk]
"""Those with a link from an image out of its table's folder."""


def read_all(records: Records) -> int:
    reader = InputReader("image", "image", ImagePreprocessor(16))
    return sum(reader.read(row, records.root, records.allow_outside)[1] for row in records.rows)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_check_and_training_read_linked_tables_and_media_where_they_were_written(layout: Layout, tmp_path: Path):
    config = layout(tmp_path)
    assert check_job(load_job(config), config.parent) == []
    job, base = open_job(config, (), {})
    tables = read_tables(job)
    assert (base, job.data.train) == (config.parent, str(config.parent / "train.csv"))
    assert tables.train.source == "train.csv"
    assert tables.train.root == config.parent
    assert read_all(tables.train) + read_all(tables.valid) == 6


@pytest.mark.parametrize("layout", OUTWARD)
def test_a_bundle_follows_a_link_out_of_a_table_s_folder_only_where_that_is_allowed(layout: Layout, tmp_path: Path):
    table = layout(tmp_path).with_name("train.csv")
    with pytest.raises(UnreadableValueError, match="a bundle does not, since its table may come from a stranger"):
        read_all(read_records(table))
    assert read_all(read_records(table, allow_outside=True)) == 6


@pytest.mark.parametrize("cell", ["../secret.png", "images/../../secret.png", "{}/secret.png", "C:\\secret.png"])
def test_a_job_that_follows_links_refuses_cells_that_leave_the_folder(cell: str, tmp_path: Path):
    config = write(tmp_path / "data") / "job.yaml"
    shutil.copy(tmp_path / "data" / "images" / "0.png", tmp_path / "secret.png")
    table = config.with_name("train.csv")
    table.write_text(table.read_text() + f"{cell.format(tmp_path)},a\n")
    (problem,) = check_job(load_job(config), config.parent)
    assert "or allow others with allow_outside (in a job data.allow_outside" in problem.message


def test_a_link_that_leads_nowhere_says_so(tmp_path: Path):
    config = other_disk(tmp_path)
    shutil.move(tmp_path / "disk" / "0.png", tmp_path / "gone.png")
    (tmp_path / "disk" / "0.png").symlink_to("nowhere")
    (problem,) = check_job(load_job(config), config.parent)
    assert problem.message == (
        "'images/0.png' is a link to a file that is not there; fetch that file, or mount its disk"
    )


def test_a_job_of_links_trains_and_its_run_evaluates_and_is_resumed_by_the_target_s_name(tmp_path: Path):
    config = hub_cache(tmp_path)
    run = fit(config, out=tmp_path / "run")
    assert run.provenance["data"]["train"]
    assert run.evaluate(config.with_name("train.csv"))["tasks"]["label"]["n"] == 6
    records = Run(run.folder).training_records()
    assert records is not None
    assert read_all(records) == 4
    # as an earlier version wrote it: where the link leads
    (run.folder / "config.yaml").write_text(
        (run.folder / "config.yaml")
        .read_text()
        .replace(str(config.with_name("train.csv")), str(config.with_name("train.csv").resolve()))
    )
    job, _ = open_job(config, (), {})
    assert load_job(run.folder / "config.yaml") != job
    assert is_finished(Destination(run.folder, resume=True), job)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run, a source of weights."""
    folder = tmp_path_factory.mktemp("source")
    return fit(write(folder / "data") / "job.yaml", out=folder / "run", cache=False)


@pytest.mark.parametrize("name", ["hub.safetensors", "state.pt", "latest", "encoder", "chain"])
def test_weights_that_are_a_link_are_those_it_leads_to_in_the_format_its_name_says(name: str, run: Run, tmp_path: Path):
    state = {key: value.contiguous() for key, value in run.model.encoder("image").state_dict().items()}
    save_file(state, tmp_path / "5f2a")
    torch.save(state, tmp_path / "9c1b.safetensors")  # a target whose suffix is that of another format
    targets = {"hub.safetensors": tmp_path / "5f2a", "state.pt": tmp_path / "9c1b.safetensors", "latest": run.folder}
    targets |= {"encoder": run.folder / "inputs" / "image", "chain": tmp_path / "latest"}
    for link, target in targets.items():
        (tmp_path / link).symlink_to(target)
    encoder = build_encoder("image", Input(encoder="compact/image", weights=name, options={"image_size": 32}), tmp_path)
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())


def test_check_of_a_linked_config_starts_from_the_link_s_folder(tmp_path: Path):
    done = CliRunner().invoke(app, ["check", str(linked_config(tmp_path))])
    assert (done.exit_code, "0 errors, 0 warnings" in done.stdout) == (0, True)
