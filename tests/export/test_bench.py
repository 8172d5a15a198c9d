"""Measuring: that every figure is there and is of what it says."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from export import Bundle, Predictor
from export.bench import bench_rows, repeat, resident_mb, stages, synthetic_record
from multimodal.cli import app


@pytest.fixture(scope="module")
def predictor(bundle: Bundle) -> Predictor:
    return Predictor.load(bundle.folder, device="cpu")


def test_a_synthetic_record_has_every_input(predictor: Predictor, tmp_path: Path) -> None:
    (answer,) = predictor.predict([synthetic_record(predictor, tmp_path)])
    assert answer["color"].missing == ()


def test_stages_are_named_after_their_inputs(predictor: Predictor, tmp_path: Path) -> None:
    found = stages(predictor, synthetic_record(predictor, tmp_path), 0.0)
    expected = {"decode photo", "preprocess photo", "preprocess text", "decode sound", "preprocess sound", "run"}
    assert set(found) == expected | {"decode answers"}
    assert all(value > 0 for value in found.values())


def test_calls_before_the_measurement_do_not_count() -> None:
    calls: list[int] = []
    assert len(repeat(lambda: calls.append(1), 0.0)) == 3
    assert len(calls) == 5


def test_resident_memory_is_that_of_this_process() -> None:
    found = resident_mb()
    assert found is None or 20 < found < 100_000


def test_the_command_prints_a_table_and_writes_json(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "new" / "bench.json"
    arguments = ["bench", str(bundle.folder), "--device", "cpu", "--seconds", "0", "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    assert (result["precision"], result["device"]) == ("fp32", "cpu")
    assert set(result["latency_ms"]) == {"p50", "p95", "p99"}
    assert set(result["records_per_second"]) == {"8", "32", "128"}
    cold = result["cold_start"]
    assert 0 < cold["import"] + cold["load"] + cold["first answer"] < cold["process"]
    assert [line.split("\t")[0] for line in done.stdout.splitlines()[1:4]] == [
        "measured", "latency p50, batch 1", "latency p95, batch 1",
    ]  # fmt: skip
    assert len(bench_rows(result)) == len(done.stdout.splitlines()) - 2


def test_inputs_of_unknown_modalities_are_rejected(tmp_path: Path) -> None:
    class Odd:
        modalities = {"scan": "lidar"}  # noqa: RUF012

    with pytest.raises(ValueError, match=r"are of other modalities \(lidar\) than image, text and audio"):
        synthetic_record(Odd(), tmp_path)  # type: ignore[arg-type]
