"""Bundles in several precisions: made, judged, chosen and verified."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bundle_faults import rewrite
from support.bundles import StubRun, fake_graph

from export import (
    Bundle,
    BundleError,
    ParityError,
    Predictor,
    export_bundle,
    gate,
    loading,
    verify_bundle,
)
from export.bundle_folder import read_bundle
from export.gate import LIMITS, _same_predictions, report_lines
from export.loading import choose_model_precision, int8_instructions
from export.quantize import RECIPES
from multimodal.decoding import Destandardize, Embedding, Sigmoid, Softmax
from multimodal.records import Records, read_records


@pytest.fixture(scope="module")
def several(run: StubRun, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The run in every precision; the graph in float32 is that of ``bundle``."""
    folder = tmp_path_factory.mktemp("several") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        fake_graph(bundle, patch)
        return export_bundle(run, folder, precision=["int8", "fp16"], embedding=True)


Table = list[dict[str, Any]]


def test_every_precision_is_listed_and_whole(several: Bundle) -> None:
    assert several.models == {"fp32": "model.onnx", "int8": "model.int8.onnx", "fp16": "model.fp16.onnx"}
    assert verify_bundle(several.folder) == []


def test_only_the_model_that_answers_is_hashed_while_loading(several: Bundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(several.folder, tmp_path / "copied"))
    content = bytearray((folder / "model.fp16.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.fp16.onnx").write_bytes(content)
    assert Predictor.load(folder, device="cpu", precision="fp32").precision == "fp32"
    damaged = r"model\.fp16\.onnx is damaged: its sha256 differs"
    with pytest.raises(BundleError, match=damaged):
        Predictor.load(folder, device="cpu", precision="fp16")
    with pytest.raises(BundleError, match=damaged):
        read_bundle(folder)


def test_the_report_says_which_rows_judged_and_how(several: Bundle, run: StubRun) -> None:
    reports = several.read_json("parity.json")["models"]
    for precision in ("fp16", "int8"):
        report = reports[several.models[precision]]
        assert report["passed"] is True
        assert report["precision"] == precision
        assert report["rows"] == {"source": "records", "count": 9, "unreadable": 0, "numbers": list(range(9))}
        assert set(report["agreement"]) == {"color", "linear", "price", "embedding"}
        assert {task: part["metric"] for task, part in report["metrics"].items()} == {
            "color": "accuracy",
            "linear": "accuracy",
            "price": "r2",
        }
        assert report["metrics"]["color"]["rows"] == sum(row["color"] is not None for row in run.records.rows)
        assert len(report["cases"]) == 14
        lines = list(report_lines(report))
        assert lines[0] == f"{precision}: compared with fp32 on 9 records of records"
        assert (
            lines[1] == f"{precision}: fewer than 500 records show little; give more with known values by --data FILE"
        )
        assert any("on 8 known values: passed" in line for line in lines)
    assert reports["model.int8.onnx"]["calibration"] == {"source": "records", "count": 9}
    assert "calibration" not in reports["model.fp16.onnx"]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_answers_in_a_smaller_precision_are_nearly_those_of_float32(
    several: Bundle, table: list[dict[str, Any]], media: Path, precision: str
) -> None:
    records = read_records(table, root=media)
    small = Predictor.load(several.folder, device="cpu", precision=precision)
    assert small.precision == precision
    full = Predictor.load(several.folder, device="cpu", precision="fp32")
    assert full.precision == "fp32"
    for answer, expected in zip(small.predict(records), full.predict(records), strict=True):
        assert answer["color"].label == expected["color"].label
        assert abs(answer["price"].value - expected["price"].value) < 0.2


def test_auto_takes_what_suits_the_device(several: Bundle, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, on_cpu in (((), "fp32"), (("avx_vnni",), "int8")):
        monkeypatch.setattr(loading, "int8_instructions", lambda flags=flags: flags)
        assert choose_model_precision(several, "auto", "cuda") == "fp16"
        assert choose_model_precision(several, "auto", "cpu") == on_cpu
        assert choose_model_precision(bundle, "auto", "cuda") == choose_model_precision(bundle, "auto", "cpu") == "fp32"
        assert Predictor.load(several.folder, device="cpu").precision == on_cpu


def test_auto_answers_on_the_cpu_in_its_precision_where_cuda_fails_after_all(
    several: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "int8_instructions", lambda: ())
    monkeypatch.setattr(loading, "planned_device", lambda device: "cuda")
    assert Predictor.load(several.folder, device="cpu").precision == "fp32"


def test_instructions_are_those_that_linux_names(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("model name: X\nflags\t: fpu avx2 avx_vnni avx512_vnni\n")
    assert int8_instructions(tmp_path / "cpuinfo") == ("avx512_vnni", "avx_vnni")
    (tmp_path / "arm").write_text("Features\t: fp asimd asimddp\n")
    assert int8_instructions(tmp_path / "arm") == ("asimddp",)
    assert int8_instructions(tmp_path / "none") == ()


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_smaller_model_that_answers_otherwise_is_a_problem(several: Bundle, tmp_path: Path, precision: str) -> None:
    copied = Path(shutil.copytree(several.folder, tmp_path / "bundle"))
    name = f"golden/{precision}/price.npy"
    rewrite(copied, name, np.load(copied / name) + np.float32(5))
    (problem,) = verify_bundle(copied)
    assert f"price ({precision}) of the golden records differs by 5" in problem
    for path in (copied / "golden" / precision).glob("*.npy"):
        rewrite(copied, path.relative_to(copied).as_posix(), None)
    assert f"has no golden outputs in {precision}" in verify_bundle(copied)[-1]


def test_what_loses_too_much_is_refused_with_its_report(
    bundle: Bundle, run: StubRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_graph(bundle, monkeypatch)
    strict = replace(LIMITS["int8"], value=0.0, cosine=2.0)
    monkeypatch.setitem(LIMITS, "int8", strict)
    with pytest.raises(ParityError, match="loses too much, so nothing was written") as error:
        export_bundle(run, tmp_path / "new", precision="int8", embedding=True)
    assert "int8: embedding: 9 of 9 predictions differ, 1 may: rejected" in str(error.value)
    attempts = error.value.report["attempts"]
    assert [attempt["passed"] for attempt in attempts] == [False] * len(attempts)
    assert {attempt["recipe"] for attempt in attempts} <= {recipe.name for recipe in RECIPES}
    json.dumps(attempts)
    assert list(tmp_path.iterdir()) == []


def test_a_lost_metric_is_refused(several: Bundle, run: StubRun, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = gate.PrecisionGate(several.path("model.onnx"), run_rows(run), run.decodings, run.targets)
    outputs = {name: values.copy() for name, values in judge.expected.items()}
    outputs["color"] = -outputs["color"]
    monkeypatch.setattr(gate, "run_rows", lambda session, rows: (list(judge.places), outputs))
    report = judge.report("int8", several.path("model.int8.onnx"))
    assert report["passed"] is False
    assert report["agreement"]["color"]["passed"] is False
    assert report["agreement"]["price"]["passed"] is True
    outputs["color"][0] = np.nan
    report = judge.report("int8", several.path("model.int8.onnx"))
    assert report["metrics"]["color"] == {"rows": 8, "reason": "an output is not finite", "passed": False}


def run_rows(run: StubRun) -> Any:
    from export.rows import spread_rows

    return spread_rows(run.readers, run.records, 1000)


@pytest.mark.parametrize(
    ("precision", "records", "points", "rows"), [("fp16", 3000, 0.001, 1), ("int8", 3000, 0.005, 2)]
)
def test_the_gate_is_as_written_down(precision: str, records: int, points: float, rows: int) -> None:
    limits = LIMITS[precision]
    assert (limits.points, limits.rows) == (points, rows)
    assert int(limits.disagreeing * records) == {"fp16": 3, "int8": 60}[precision]


def test_answers_are_alike_as_their_kind_has_it() -> None:
    limits = LIMITS["fp16"]
    expected, actual = np.array([[2.0, 0.0], [0.1, 0.0]]), np.array([[1.0, 0.0], [0.0, 0.1]])
    assert _same_predictions(Softmax(("a", "b")), actual, expected, limits).tolist() == [True, False]
    assert _same_predictions(Sigmoid(("a", "b"), (0.5, 0.5)), actual - 0.05, expected - 0.05, limits).tolist() == [
        True,
        False,
    ]
    number = Destandardize(0.0, 1.0)
    assert _same_predictions(number, np.array([[1.005], [1.02]]), np.ones((2, 1)), limits).tolist() == [True, False]
    unit = np.array([[1.0, 0.0], [0.0, 1.0]])
    for decoding in (None, Embedding()):
        near = np.array([[1.0, 0.0], [0.1, 0.995]])  # the largest number is the same, the direction is not
        assert _same_predictions(decoding, near, unit, limits).tolist() == [True, False]
    assert _same_predictions(Softmax(("a", "b")), np.full((1, 2), np.nan), unit[:1], limits).tolist() == [False]


def test_without_records_there_is_nothing_to_judge_on(
    bundle: Bundle, run: StubRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_graph(bundle, monkeypatch)
    with pytest.raises(ValueError, match=r"give records with known values \(records=, --data FILE\), or export fp32"):
        export_bundle(replace(run, records=None), tmp_path / "new", precision="fp16", embedding=True)


def test_records_without_known_answers_do_not_pass(
    bundle: Bundle, run: StubRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_graph(bundle, monkeypatch)
    with pytest.raises(ParityError, match="fp16: color: no record has a known value: rejected"):
        export_bundle(run, tmp_path / "new", precision="fp16", records=[{"text": "red"}, {"text": "blue"}],
                      embedding=True)  # fmt: skip


class FromMemory(StubRun):
    """A run of tables that were never files."""

    def training_records(self) -> Records | None:
        return None

    def validation_records(self) -> Records | None:
        return None


def test_int8_without_training_records_is_refused(
    bundle: Bundle, run: StubRun, table: Table, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_graph(bundle, monkeypatch)
    evaluation_records = read_records(table, root=media)
    with pytest.raises(ValueError, match=r"from training records.* give ordinary records \(calibration=, --"):
        export_bundle(
            FromMemory(**vars(run)), tmp_path / "new", precision="int8", records=evaluation_records, embedding=True
        )


def test_a_run_of_tables_in_memory_becomes_int8_with_the_records_that_are_given(
    bundle: Bundle, run: StubRun, table: Table, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_graph(bundle, monkeypatch)
    unreadable = [{**row, "image": "no.png"} for row in table]
    made = export_bundle(
        FromMemory(**vars(run)),
        tmp_path / "new",
        precision="int8",
        records=read_records([*table, *unreadable], root=media),
        calibration=read_records([*unreadable, *table[:5]], root=media),
        embedding=True,
    )
    assert verify_bundle(made.folder) == []
    report = made.read_json("parity.json")["models"]["model.int8.onnx"]
    assert report["calibration"] == {"source": "records", "count": 5}
    assert report["rows"] == {"source": "records", "count": 9, "unreadable": 9, "numbers": list(range(9))}
    assert next(iter(report_lines(report))).endswith("on 9 records of records (9 could not be read)")
    assert made.read_json("golden/answers.json")["source"] == "given"


def test_calibration_records_that_cannot_be_read_are_refused(
    bundle: Bundle, run: StubRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_graph(bundle, monkeypatch)
    columns = r"photo \(column image\), text \(column text\), sound \(column sound\)"
    with pytest.raises(
        ValueError, match=rf"none of the calibration records \(records\) can be read as .*{columns}; give"
    ):
        export_bundle(run, tmp_path / "new", precision="int8", calibration=[{"image": "no.png"}], embedding=True)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_calibration_records_without_int8_are_refused(run: StubRun, tmp_path: Path, precision: str) -> None:
    with pytest.raises(ValueError, match=r"only int8 takes any, not fp32.*; ask for the precision int8, or leave"):
        export_bundle(run, tmp_path / "new", precision=precision, calibration=[{"text": "red"}])


def test_a_precision_is_part_of_what_is_hashed(several: Bundle) -> None:
    read = read_bundle(several.folder)
    report = read.read_json("parity.json")["models"]["model.int8.onnx"]
    assert report["sha256"] == read.files["model.int8.onnx"].sha256


def test_a_pickle_in_the_place_of_a_precisions_answers_is_not_opened(several: Bundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(several.folder, tmp_path / "bundle"))
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    rewrite(folder, "golden/int8/price.npy", (tmp_path / "pickle.npy").read_bytes())
    (problem,) = verify_bundle(folder)
    assert "price.npy is no array that can be read (object [1] is not what the file holds)" in problem
