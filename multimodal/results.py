"""Results that a training leaves beside its weights: temperatures, metrics, and reliability diagrams."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.evaluation import expert_weights_of
from multimodal.explain.reliability_diagram import draw_reliability
from multimodal.job import TrainingSetup
from multimodal.run import METRICS_FILE, RELIABILITY_FOLDER, write_decodings
from multimodal.runtime.files import write_json
from multimodal.runtime.progress import Say
from multimodal.selection.unlabelled_selection import describe_selection, unlabelled_selection


def write_results(setup: TrainingSetup, folder: Path, summary: Mapping[str, Any], say: Say) -> None:
    """Fits the temperatures, scores the test table (without one, the validation table), and writes what came out.

    ``metrics.json`` is written last: its presence means that the run is finished.

    Args:
        summary: of the training, JSON, with ``skipped_rows``.
    """
    setup, fitted = setup.calibrated()
    write_decodings(folder, setup.decodings)
    tables = setup.tables
    split = "valid" if tables.test is None else "test"
    metrics = {**setup.evaluate(tables.valid if tables.test is None else tables.test), "split": split}
    metrics |= {"calibration_fit": fitted, "training": summary, "setting": tables.setting}
    metrics |= {"source": setup.source_choice} if setup.source_choice else {}
    if tables.setting == "transductive":
        metrics["selection"] = unlabelled_selection(setup)
        for line in describe_selection(metrics["selection"]):
            say(line)
    expert_weights = expert_weights_of(setup.model)
    for task, by_input in expert_weights.items():
        say(f"{task}: expert weights " + ", ".join(f"{name} {weight:.2f}" for name, weight in by_input.items()))
    for task, measured in metrics["calibration"].items():
        say(f"{task}: {_describe(measured)}")
        draw_reliability(measured, f"{task}, {split} records", folder / RELIABILITY_FOLDER / f"{task}.png")
    write_json(folder / METRICS_FILE, metrics | ({"trusts": expert_weights} if expert_weights else {}))
    skipped = {"train": len(summary["skipped_rows"]), split: len(metrics["skipped_rows"])}
    if any(skipped.values()):
        counts = ", ".join(f"{number} in {name}" for name, number in skipped.items())
        say(f"warning: records that could not be read were skipped ({counts}); {METRICS_FILE} lists them")


def _describe(measured: Mapping[str, Any]) -> str:
    before, after = measured["before"]["error"], measured["after"]["error"]
    temperature = f"temperature {measured['temperature']:.2f}"
    return temperature if before is None else f"{temperature}, calibration error {before:.3f} -> {after:.3f}"
