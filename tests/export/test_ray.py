"""The example of batch inference on an engine for it, on two workers of this machine."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from support.assertions import near
from support.bundles import CONFIG, StubRun, make_table, make_three_input_model

from export import Predictor, export_bundle
from multimodal.config import Job
from multimodal.records import read_records

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "ray_predict.py"


@pytest.mark.slow
def test_two_workers_answer_as_one_predictor_and_name_what_they_cannot_read(tmp_path):
    pytest.importorskip("ray")
    import pyarrow.parquet as parquet

    rows = make_table(tmp_path, 24)
    rows[5]["image"] = "missing.png"
    with (tmp_path / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["number", "image", "text", "sound"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**row, "number": number} for number, row in enumerate(rows))
    export_bundle(StubRun(make_three_input_model(), Job.model_validate(CONFIG)), tmp_path / "bundle")
    command = [sys.executable, str(EXAMPLE), "bundle", "--data", "table.csv", "--out", "answers"]
    command += ["--batch-size", "5", "--workers", "2", "--cpus", "4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = sorted(parquet.read_table(tmp_path / "answers").to_pylist(), key=lambda row: row["number"])
    expected = Predictor.load(tmp_path / "bundle").predict(read_records(tmp_path / "table.csv"), on_error="return")
    assert len(found) == len(expected) == 24
    for row, answer in zip(found, expected, strict=True):
        if row["number"] == 5:
            assert "missing.png" in row["answer_error"]
            continue
        assert row["answer_error"] == ""
        assert row["answer_color"] == answer["color"].label
        assert float(row["answer_color_probability"]) == near(answer["color"].probability, "onnx")
