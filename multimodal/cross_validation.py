"""Cross-validation of a whole job: a run for each fold, scored on records that neither trained nor chose it."""

import csv
import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from multimodal.builders.runtime import build_runtime
from multimodal.config import ConfigError, Job, errors_of
from multimodal.config.setting import setting_of
from multimodal.console import progress_shown
from multimodal.data.dataset import RecordDataset
from multimodal.evaluation import answer
from multimodal.job.job_files import job_files
from multimodal.job.run_folder import (
    LOCK_FILE,
    Destination,
    is_finished,
    is_free,
    is_run,
    refuse_other_data,
    refuse_overwriting_inputs,
    remove_run,
)
from multimodal.records import Records, class_label, is_missing
from multimodal.run import Run, RunError
from multimodal.runtime.distributed import processes
from multimodal.runtime.files import open_cache, refuse_overwriting, write_atomically, write_json
from multimodal.runtime.torch_state import isolated_torch_state
from multimodal.splits.groups import record_groups
from multimodal.splits.held_out import hold_out
from multimodal.splits.tables import Tables, open_job, read_whole_tables
from multimodal.task_types import Metric
from multimodal.task_types.decoding import cell_text
from multimodal.training import fit_tables
from multimodal.transfer.folds import repeated_folds
from multimodal.transfer.guard.arms import estimate
from multimodal.transfer.guard.gaps import Gaps
from multimodal.transfer.guard.verdict import corrected_t_interval

logger = logging.getLogger(__name__)

FOLDS_FILE, ANSWERS_FILE = "folds.json", "out_of_fold.csv"
FOLD = re.compile(r"fold-[1-9]\d*")
"""Folder of a fold's run."""
OF_EVERY_CLASS = ("auc", "average_precision")
"""Metrics that are means over all classes."""


@isolated_torch_state()
@progress_shown()
def cross_validate(
    job: Job | str | Path,
    folds: int,
    *,
    train: Any = None,
    out: str | Path | None = None,
    root: str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    cache: bool = True,
) -> dict[str, Any]:
    """Trains a run for each fold of the training table, and returns their scores on the folds held out, as JSON.

    Folds keep the shares of the classes of the first classification task, and groups whole (``data.group``). Of the
    rest of the table a tenth chooses the checkpoint, so that no held-out record chooses anything. The validation and
    test tables are not read. The interval is Nadeau and Bengio's.

    When not to use: with little time (K trainings), or to choose among many settings: the best of many flatters.

    Args:
        job, train, root, overrides, cache: as ``fit`` takes them.
        folds: at least 2.
        out: takes ``fold-1`` to ``fold-K``, ordinary runs, ``folds.json`` and ``out_of_fold.csv``; left out:
            ``runs/NAME-folds``.
        resume: keeps the folds that are finished and trains the others.
        overwrite: replaces the folds in ``out``.

    Raises:
        ConfigError: if the table allows no so many folds.
        RunError: if ``out`` holds something else.
        OverwriteError: if a table or weights lie where the folds are written.
    """
    job, base = open_job(job, overrides, {"train": train})
    job = job.model_copy(update={"data": job.data.model_copy(update={"valid": None, "test": None})})
    folder = Path(out) if out is not None else Path("runs") / f"{job.name}-folds"
    if resume and overwrite:
        raise ValueError("resume continues folds and overwrite replaces them; give one of them")
    _refuse_overwriting(folder, folds, job, base)
    if not resume:
        _refuse_taken(folder, overwrite=overwrite)
    tables, hashes = read_whole_tables(job, {"train": train}, root=root)
    if "train" not in tables:
        raise ConfigError(f"--folds {folds}: folds are held out of target labels, and data.train names no table")
    whole = tables["train"]
    parts, stratified_by = split_folds(job, whole, folds)
    runs = []
    with processes() as group:
        group.wait()  # nobody removes before everybody has looked at the folder
        if group.is_main and not resume:
            _remove_other_folds(folder, folds)
        kept = open_cache() if cache else None
        for number in range(folds):
            place = folder / f"fold-{number + 1}"
            logger.info(f"fold {number + 1} of {folds}: {int((parts == number).sum())} records held out")
            tables_of_fold = fold_tables(job, tables, hashes, parts == number)
            destination = Destination(place, resume=not overwrite, overwrite=overwrite)
            if is_finished(destination, job):
                refuse_other_data(place, tables_of_fold.hashes, tables_of_fold.left_out)
                logger.info(f"{place} is finished; kept")
            else:
                fit_tables(job, tables_of_fold, base, destination, build_runtime(job, group, kept))
            runs.append((Run(place), tables_of_fold))
        result = {
            **_summary(runs),
            "folds": folds,
            "records": len(whole),
            "seed": job.train.seed,
            "stratified_by": stratified_by,
            "group": job.data.group,
        }
        if group.is_main:
            write_json(folder / FOLDS_FILE, result)
            write_atomically(folder / ANSWERS_FILE, _answers_csv(job, parts, runs))
            logger.info(f"{folder / FOLDS_FILE}: scores; {folder / ANSWERS_FILE}: answers to every record, out of fold")
    return result


def _refuse_overwriting(folder: Path, folds: int, job: Job, base: Path) -> None:
    """Refuses a folder in which folds would replace what the job reads, or remove it with older ones."""
    for path in (folder, folder / FOLDS_FILE, folder / ANSWERS_FILE):
        refuse_overwriting("--out", path, job_files(job, job, base))
    for place in {*folder.glob("fold-*"), *(folder / f"fold-{number + 1}" for number in range(folds))}:
        refuse_overwriting_inputs(place, job, base)


def _refuse_taken(folder: Path, *, overwrite: bool) -> None:
    """Refuses a folder that holds folds with a checkpoint or a result, or anything else."""
    found = {path.name: path for path in folder.iterdir()} if folder.exists() else {}
    folds = {name: path for name, path in found.items() if FOLD.fullmatch(name)}
    others = found.keys() - folds.keys() - {FOLDS_FILE, ANSWERS_FILE}
    if others or not all(is_free(path) or is_run(path) for path in folds.values()):
        raise RunError(f"{folder} is not empty and holds more than folds; name another folder")
    if not overwrite and (found.keys() - folds.keys() or not all(map(is_free, folds.values()))):
        raise RunError(
            f"{folder} is not empty; add --resume to continue the folds in it, --overwrite to replace them, or name "
            "another folder"
        )


def _remove_other_folds(folder: Path, folds: int) -> None:
    """Removes what is of earlier folds and no fold will replace."""
    for name in (FOLDS_FILE, ANSWERS_FILE):
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("fold-*"):
        if int(path.name.removeprefix("fold-")) > folds:
            remove_run(path)
            (path / LOCK_FILE).unlink(missing_ok=True)
            if not any(path.iterdir()):
                path.rmdir()


def split_folds(job: Job, records: Records, folds: int) -> tuple[np.ndarray, str | None]:
    """The fold of each record, int [n], and the task whose classes are spread evenly; None where there is none.

    Raises:
        ConfigError: if the records allow no so many folds.
    """
    by = next((name for name, task in job.tasks.items() if task.kind.is_classification), None)
    column = None if by is None else job.label_columns()[by]
    records.require([] if column is None else [column])
    cells = [None if column is None else record.get(column) for record in records.rows]
    classes = ["" if is_missing(cell) else class_label(cell) for cell in cells]
    labels = np.unique(classes, return_inverse=True)[1]
    groups = record_groups(records, job.data.group)
    with errors_of(f"--folds {folds}: "):
        return repeated_folds(labels, folds=folds, groups=groups, seed=job.train.seed)[0], by


def fold_tables(job: Job, tables: Mapping[str, Records], hashes: Mapping[str, str], held_out: np.ndarray) -> Tables:
    """The tables of one fold: what is held out is the test table, and a tenth of the rest validates.

    Args:
        tables: "train", of which the fold is a part, and those of other domains, which are the same in every fold.
        held_out: of each record, bool [n].
    """
    whole = tables["train"]
    rest, fold = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    inside = whole.subset(rest)
    chosen = np.array(hold_out(inside, job, [tables["source"]] if "source" in tables else []))
    return Tables(
        inside.subset(np.setdiff1d(np.arange(len(rest)), chosen)),
        inside.subset(chosen),
        whole.subset(fold),
        held_out=tuple(rest[chosen].tolist()),
        hashes=dict(hashes),
        left_out=tuple(fold.tolist()),
        setting=setting_of(job, tables),
        source=tables.get("source"),
        unlabelled=tables.get("unlabelled"),
    )


def _summary(runs: Sequence[tuple[Run, Tables]]) -> dict[str, Any]:
    """Task -> metric -> mean, interval and the value of each fold; and the classes of which a fold has no record."""
    share = float(np.mean([len(tables.test or ()) / len(tables.train) for _, tables in runs]))
    records = sum(len(tables.test or ()) for _, tables in runs)
    found: dict[str, dict[str, Any]] = {}
    absent: dict[str, dict[str, list[str]]] = {}
    for task in runs[0][0].metrics["tasks"]:
        metrics = [run.metrics["tasks"][task] for run, _ in runs]
        names = [name for name, value in metrics[0].items() if isinstance(value, Mapping) and "low" in value]
        absent[task] = {str(n): one["absent"] for n, one in enumerate(metrics, 1) if one.get("absent")}
        known, plain = runs[0][0].job.tasks[task].kind.metrics, Metric()
        found[task] = {
            name: _mean(known.get(name, plain), [_fold_value(name, one) for one in metrics], share, records)
            for name in names
        }
    return {"tasks": found, "absent": {task: folds for task, folds in absent.items() if folds}}


def _fold_value(name: str, metrics: Mapping[str, Any]) -> float | None:
    """A metric of one fold; a mean over classes is that of all of them or of none."""
    return None if name in OF_EVERY_CLASS and metrics.get("absent") else metrics[name]["value"]


def _mean(metric: Metric, values: Sequence[float | None], share: float, records: int) -> dict[str, Any]:
    defined = np.array([value for value in values if value is not None])
    if len(defined) < 2:
        return {"value": float(defined[0]) if len(defined) else None, "low": None, "high": None, "folds": [*values]}
    low, high = corrected_t_interval(Gaps(defined, np.zeros(records), share))
    if metric.is_share:
        low, high = max(0.0, low), min(1.0, high)
    return {**estimate(float(defined.mean()), (low, high)), "folds": [*values]}


def _answers_csv(job: Job, parts: np.ndarray, runs: Sequence[tuple[Run, Tables]]) -> bytes:
    """One line a record of the training table: its fold, the answer and the probability of each task."""
    cells: list[list[str]] = [[str(row + 1), str(int(part) + 1)] for row, part in enumerate(parts)]
    for number, (run, tables) in enumerate(runs):
        assert tables.test is not None
        rows = np.flatnonzero(parts == number)
        answered = dict(_predictions(run, run.dataset(tables.test)))
        for place, row in enumerate(rows.tolist()):
            cells[row] += answered.get(place, [])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [name + suffix for name, task in job.tasks.items() for suffix in task.kind.decoding.columns]
    writer.writerow(["row", "fold", *columns])
    writer.writerows([*line, *[""] * (2 + len(columns) - len(line))] for line in cells)
    return text.getvalue().encode()


def _predictions(run: Run, data: RecordDataset) -> Iterator[tuple[int, list[str]]]:
    """Row -> cells of every task's prediction, of every record that can be read."""
    shown = run.model.input_names
    found = answer(run.model, data, subsets=[shown])
    decodings = {name: decoding for name, decoding in run.decodings.items() if decoding.columns}
    decoded = {name: decoding.predictions(found.outputs[shown][name]) for name, decoding in decodings.items()}
    for place, row in enumerate(found.rows.tolist()):
        yield (
            row,
            [cell_text(cell) for name, decoding in decodings.items() for cell in decoding.cells(decoded[name][place])],
        )
