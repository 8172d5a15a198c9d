"""Verification of a bundle as it lies on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.bundle_faults import rewrite
from support.bundles import StubRun

from export import Bundle, BundleError, verify_bundle
from export.golden import read_golden


def test_a_whole_bundle_has_no_problem(bundle: Bundle) -> None:
    assert verify_bundle(bundle.folder) == []


def test_a_damaged_file_is_a_problem(copied: Path) -> None:
    (copied / "README.md").write_text("changed")
    (problem,) = verify_bundle(copied)
    assert "README.md has 7 bytes" in problem


def test_golden_records_that_are_answered_otherwise_are_a_problem(copied: Path) -> None:
    price = np.load(copied / "golden" / "outputs" / "price.npy")
    rewrite(copied, "golden/outputs/price.npy", price + np.float32(0.001))
    problems = verify_bundle(copied)
    assert "price of the golden records differs by 0.001, and 0.0001 is allowed" in problems[0]
    assert "price of the golden records is decoded differently" in problems[1]


def test_another_decoding_is_a_problem(copied: Path) -> None:
    task = json.loads((copied / "tasks" / "color.json").read_text())
    task["decoding"]["labels"] = ["green", "blue", "red"]
    rewrite(copied, "tasks/color.json", task)
    (problem,) = verify_bundle(copied)
    assert "color of the golden records is decoded differently" in problem


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"passed": False}, "does not say that model.onnx passed"),
        (None, "does not say that model.onnx passed"),
        ({"passed": True, "sha256": "0"}, "is about another model.onnx"),
    ],
)
def test_a_parity_report_that_does_not_speak_for_the_model_is_a_problem(
    copied: Path, report: dict | None, message: str
) -> None:
    rewrite(copied, "parity.json", {"models": {} if report is None else {"model.onnx": report}})
    (problem,) = verify_bundle(copied)
    assert message in problem


def test_a_bundle_without_parity_report_or_golden_records_has_problems(copied: Path) -> None:
    rewrite(copied, "parity.json", None)
    (problem,) = verify_bundle(copied)
    assert "parity.json is missing, so nothing shows that it agrees with torch" in problem
    for path in (copied / "golden").rglob("*.npy"):
        rewrite(copied, path.relative_to(copied).as_posix(), None)
    assert "has no golden records, so nothing shows that it works" in verify_bundle(copied)[-1]


def test_golden_records_are_four_real_ones(bundle: Bundle, run: StubRun) -> None:
    answers = json.loads((bundle.folder / "golden" / "answers.json").read_text())
    assert (answers["source"], len(answers["rows"])) == ("validation", 4)
    feed, _, _ = read_golden(bundle)
    missing = [run.records[row]["image"] is None for row in answers["rows"]]
    assert (~feed["photo.present"]).tolist() == missing


def test_no_golden_records_are_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="has no golden records"):
        read_golden(Bundle(**{**vars(bundle), "files": {}}))
