"""The example of batch inference on an engine for it, on two workers of this machine."""

import csv
import importlib.util
import sys
from pathlib import Path

import pytest
from exported import CONFIG, StubRun, make_table, make_three_input_model

from export import Predictor, export_bundle
from multimodal.config import Task
from multimodal.records import read_records

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "ray_predict.py"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray's own, of its workers and of what it will change
def test_two_workers_answer_as_one_predictor_and_name_what_they_cannot_read(tmp_path):
    ray = pytest.importorskip("ray")
    import pyarrow.parquet as parquet

    spec = importlib.util.spec_from_file_location("ray_predict", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    sys.modules["ray_predict"] = example
    spec.loader.exec_module(example)
    rows = make_table(tmp_path, 24)
    rows[5]["image"] = "missing.png"
    with (tmp_path / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["number", "image", "text", "sound"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**row, "number": number} for number, row in enumerate(rows))
    export_bundle(StubRun(make_three_input_model(), Task.model_validate(CONFIG)), tmp_path / "bundle")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        example.answer_table(tmp_path / "bundle", tmp_path / "table.csv", tmp_path / "answers", workers=2, batch_size=5)
    finally:
        ray.shutdown()
    found = sorted(parquet.read_table(tmp_path / "answers").to_pylist(), key=lambda row: row["number"])
    table = read_records(tmp_path / "table.csv")
    expected = Predictor.load(tmp_path / "bundle").predict(table, on_error="return")
    assert len(found) == len(expected) == 24
    for row, answer in zip(found, expected, strict=True):
        if row["number"] == 5:
            assert "missing.png" in row["answer_error"]
            continue
        assert row["answer_error"] == ""
        assert row["answer_color"] == answer["color"].label
        assert float(row["answer_color_probability"]) == pytest.approx(answer["color"].probability, abs=1e-4)
