"""Recipes: the script and the YAML are one job, and the command runs it."""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from support.tiny_models import make_rows

from encoders import create_encoder
from multimodal.config import Job, load_job
from multimodal.recipes import distil_text
from multimodal.recipes.command import run_recipe
from multimodal.run import Run
from multimodal.runtime.files import OverwriteError

RECIPES = Path(__file__).resolve().parents[3] / "multimodal/recipes"
NAMES = ("retail", "spoken_quantity", "product_text")


def build(name: str, folder: Path, **chosen: str) -> Job:
    return getattr(importlib.import_module(f"multimodal.recipes.{name}"), name)(folder, **chosen)


@pytest.mark.parametrize("name", NAMES)
def test_the_yaml_is_the_same_job_as_the_script(name):
    job = build(name, Path("data"))
    relative = {key: Path(getattr(job.data, key)).name for key in ("train", "valid", "test")}
    assert load_job(RECIPES / f"{name}.yaml") == job.model_copy(update={"data": job.data.model_copy(update=relative)})


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_short(name):
    assert len((RECIPES / f"{name}.py").read_text().splitlines()) <= 80


def test_retail_takes_its_manifests_by_name():
    assert build("retail", Path("data"), manifest="hard").data.test == str(Path("data/test_hard.csv"))


@pytest.mark.parametrize("name", ["pretrain_image", "pretrain_audio"])
def test_a_source_task_with_labels_is_the_default(name):
    assert build(name, Path("data")) == build(name, Path("data"), method="supervised")
    assert build(name, Path("data")).tasks["label"].type == "classification"
    assert len((RECIPES / f"{name}.py").read_text().splitlines()) <= 80


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_a_source_task_without_labels_takes_a_step(tmp_path, modality):
    rows = make_rows(tmp_path, 8)
    if modality == "audio":
        rows = [{"audio": f"{number}.wav"} for number in range(8)]
        for number, row in enumerate(rows):
            noise = np.random.default_rng(number).normal(scale=0.1, size=4000).astype(np.float32)
            soundfile.write(tmp_path / row["audio"], noise, 8000)
    for split in ("train", "val"):
        pd.DataFrame(rows)[[modality]].to_csv(tmp_path / f"{split}.csv", index=False)
    recipe = importlib.import_module(f"multimodal.recipes.pretrain_{modality}")
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "run"), "--method", "contrastive"]
    changes = ["--set", "train.epochs=1", "--set", "data.workers=0"]
    task = getattr(recipe, f"pretrain_{modality}")
    run_recipe(task, choices={"method": recipe.METHODS}, arguments=[*arguments, *changes])
    run = Run(tmp_path / "run")
    assert run.metrics["tasks"]["match"]["n"] == 8
    assert create_encoder(f"compact/{modality}", weights=str(run.folder)).provenance.weights != "random"


def shop(data: Path, manifest: str = "main") -> Job:
    """A tiny job."""
    return Job.model_validate(
        {
            "name": "shop",
            "data": {"train": str(data / f"{manifest}.csv"), "workers": 0},
            "inputs": {"text": {"encoder": "compact/text"}},
            "tasks": {"color": {}},
            "train": {"epochs": 3, "batch_size": 8},
        }
    )


def test_the_command_trains_with_changes_and_resumes(tmp_path, capsys):
    pd.DataFrame(make_rows(tmp_path, 20)).to_csv(tmp_path / "other.csv", index=False)
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "run"), "--set", "train.epochs=1"]
    arguments += ["--manifest", "other"]
    run_recipe(shop, choices={"manifest": ("main", "other")}, arguments=arguments)
    assert "color\taccuracy\t" in capsys.readouterr().out
    run_recipe(shop, choices={"manifest": ("main", "other")}, arguments=[*arguments, "--resume"])
    assert "nothing to do" in capsys.readouterr().out


def test_an_error_of_a_recipe_is_a_message(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run_recipe(shop, arguments=["--data", str(tmp_path), "--out", str(tmp_path / "run")])
    assert stop.value.code == 1
    assert "main.csv" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["teacher/model.safetensors", "teacher/new.safetensors", "teacher", "hard", "link"])
def test_a_student_is_not_written_over_its_teacher(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "teacher").mkdir()
    weights = tmp_path / "teacher" / "model.safetensors"
    weights.write_bytes(b"weights")
    (tmp_path / "hard").hardlink_to(weights)
    (tmp_path / "link").symlink_to(weights)
    arguments = ["distil_text", "--teacher", "transformers/teacher", "--out", out]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(OverwriteError, match=f"--out {out} .* the teacher"):
        distil_text.main()
    assert weights.read_bytes() == b"weights"
