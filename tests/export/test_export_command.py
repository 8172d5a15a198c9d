"""`multimodal export` on the command line."""

from pathlib import Path

import pandas as pd
import pytest
from support.tiny_models import make_rows
from typer.testing import CliRunner

import multimodal as mm
from multimodal.cli import app


@pytest.mark.slow
def test_records_on_the_command_line_judge_and_calibrate_a_run_of_tables_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = make_rows(tmp_path, 60)
    task = mm.Job.model_validate(
        {
            "inputs": {"image": {"encoder": "compact/image"}},
            "tasks": {"color": {}},
            "data": {"workers": 0},
            "train": {"epochs": 3, "batch_size": 10},
        }
    )
    mm.fit(task, train=pd.DataFrame(rows[:40]), valid=pd.DataFrame(rows[40:]), out="run")
    pd.DataFrame(rows[40:]).to_csv("valid.csv", index=False)
    pd.DataFrame(rows[:40]).to_csv("ordinary.csv", index=False)

    def export(*options: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["export", "run", "--out", "bundle", "--precision", "int8", *options])
        return done.exit_code, done.output + str(done.exception or "")

    code, said = export()
    assert code == 1
    assert "give records with known values (records=, --data FILE)" in said
    code, said = export("--data", "valid.csv")
    assert code == 1
    assert "--calibration FILE" in said
    code, said = export("--data", "valid.csv", "--calibration", "ordinary.csv")
    assert code == 0, said
    assert "int8: compared with fp32 on 20 records of valid.csv" in said
    assert mm.verify_bundle("bundle") == []


def test_the_precision_of_a_triton_repository_is_one_that_the_bundle_is_to_hold(tmp_path: Path) -> None:
    options = ["--out", str(tmp_path / "bundle"), "--triton", str(tmp_path / "models"), "--triton-precision", "fp16"]
    done = CliRunner().invoke(app, ["export", str(tmp_path), *options])
    assert done.exit_code == 2
    said = " ".join(done.output.replace("│", " ").split())
    assert "the bundle is to hold fp32; give one of these, or also --precision fp16" in said
