"""Results that a training leaves beside its weights: temperatures, metrics, and reliability diagrams."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.evaluation import evaluate, expert_weights_of
from multimodal.explain.reliability_diagram import draw_reliability
from multimodal.job import TrainingSetup
from multimodal.run import METRICS_FILE, RELIABILITY_FOLDER, write_decodings
from multimodal.runtime.files import write_json
from multimodal.selection.unlabelled_selection import describe_selection, unlabelled_selection

logger = logging.getLogger(__name__)


def write_results(setup: TrainingSetup, folder: Path, summary: Mapping[str, Any]) -> None:
    """Fits the temperatures, scores the test table (without one, the validation table), and writes what came out.

    ``metrics.json`` is written last: its presence means that the run is finished.

    Args:
        summary: of the training, JSON, with ``skipped_rows``.
    """
    tables, datasets = setup.tables, setup.datasets
    decodings, fitted = setup.validator.calibrate()
    write_decodings(folder, decodings)
    split, scored = ("valid", tables.valid) if tables.test is None else ("test", tables.test)
    data, on_error = datasets.evaluation(scored), setup.job.data.on_error
    metrics = evaluate(setup.model, data, decodings, workers=datasets.workers, on_error=on_error)
    metrics |= {"split": split, "calibration_fit": fitted, "training": summary, "setting": tables.setting}
    metrics |= {"source": setup.source_choice} if setup.source_choice else {}
    if tables.setting == "transductive":
        metrics["selection"] = unlabelled_selection(setup)
        chosen = metrics["selection"]
        logger.warning(f"{chosen['warning']}; the checkpoint was chosen by {chosen['chosen_by']}")
        for line in describe_selection(chosen):
            logger.info(line)
    for task, decoding in decodings.items():
        if setup.job.tasks[task].threshold == "auto":
            logger.info(f"{task}: {', '.join(decoding.rules())} (fitted to {len(tables.valid)} validation records)")
    expert_weights = expert_weights_of(setup.model)
    for task, by_input in expert_weights.items():
        shown = ", ".join(f"{name} {weight:.2f}" for name, weight in by_input.items())
        logger.info(f"{task}: expert weights {shown}")
    for task, measured in metrics["calibration"].items():
        logger.info(f"{task}: {_describe(measured)}")
        draw_reliability(measured, f"{task}, {split} records", folder / RELIABILITY_FOLDER / f"{task}.png")
    write_json(folder / METRICS_FILE, metrics | ({"trusts": expert_weights} if expert_weights else {}))
    skipped = {"train": len(summary["skipped_rows"]), split: len(metrics["skipped_rows"])}
    if any(skipped.values()):
        counts = ", ".join(f"{number} in {name}" for name, number in skipped.items())
        logger.warning(f"records that could not be read were skipped ({counts}); {METRICS_FILE} lists them")


def _describe(measured: Mapping[str, Any]) -> str:
    before, after = measured["before"]["error"], measured["after"]["error"]
    temperature = f"temperature {measured['temperature']:.2f}"
    return temperature if before is None else f"{temperature}, calibration error {before:.3f} -> {after:.3f}"
