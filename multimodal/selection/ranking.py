"""Ranking of encoders for an input: a probe, cross-validated on the training table, before anything trains."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from multimodal.builders.heads import build_target_reader, head_arguments
from multimodal.builders.runtime import build_runtime
from multimodal.config import Candidate, ConfigError, Input, Job
from multimodal.console import progress_shown
from multimodal.job.job_files import encoder_files, job_files
from multimodal.records import Records
from multimodal.run import RANKING_FILE
from multimodal.runtime.files import open_cache, refuse_overwriting, write_json
from multimodal.runtime.runtime import Runtime
from multimodal.runtime.torch_state import isolated_torch_state
from multimodal.selection.candidate_scores import add_source_scores, candidate_json, measure
from multimodal.selection.candidates import find_candidates, with_candidate
from multimodal.selection.labelled import LabelledRecords, labelled_records
from multimodal.splits.tables import Tables, open_job, read_tables
from multimodal.transfer.folds import most_repeated_folds
from multimodal.transfer.guard.held_out import L2
from multimodal.transfer.selection.ranking import LabelledFolds, agreement, choose_candidate, score_candidate

logger = logging.getLogger(__name__)

MOST_ROWS = 1000
"""Training records of each task that candidates are ranked by."""
FOLDS, REPEATS = 5, 1


@isolated_torch_state()
@progress_shown()
def rank(
    job: Job | str | Path,
    *,
    encoders: Sequence[str] = (),
    input: str | None = None,
    train: Any = None,
    valid: Any = None,
    root: str | Path | None = None,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    cache: bool = True,
) -> dict[str, Any]:
    """Candidate encoders for an input, best score first, and the one to take, as JSON.

    The score is the held-out accuracy of a logistic probe on frozen mean tokens, mean over the classification tasks
    that may use the input; the same folds of the training table for all. The choice is the smallest encoder within one
    standard error of the best score. Records without the input take no part, nor do validation and test records.

    When not to use: with fewer than about ten labels per class; or to choose what is fine-tuned whole: the order of
    frozen features is not always that of fine-tuned ones.

    Args:
        job, train, valid, root, overrides, cache: as ``fit`` takes them.
        encoders: candidates in short form (see ``Candidate``); none: ``inputs.NAME.candidates``, or what is there.
        input: the input's name; left out: the only one, or the only one with candidates.
        out: takes the answer as JSON.

    Raises:
        ConfigError: if there is no such input, no classification task uses it, or a candidate cannot be built.
        RecordError: for a record that cannot be read, with ``data.on_error: raise``.
        OverwriteError: if ``out`` is a file of the job: its config, a table, weights.
    """
    given = job
    job, base = open_job(job, overrides, {"train": train, "valid": valid})
    name = _chosen_input(job.inputs, input)
    candidates = find_candidates(name, job.inputs[name], base, encoders)
    read = [*job_files(given, job, base), *encoder_files(candidates, Path.cwd())]
    job = job.model_copy(update={"data": job.data.model_copy(update={"test": None})})
    records = read_tables(job, train=train, valid=valid, root=root).train
    if out is not None:
        refuse_overwriting("--out", out, read, records.media([job.input_column(name)]))
    runtime = build_runtime(job, cache=open_cache() if cache else None)
    result = rank_candidates(job, name, candidates, records, base, runtime)
    if out is not None:
        write_json(Path(out), result)
    return result


def choose_encoders(job: Job, records: Records, base: Path, runtime: Runtime) -> dict[str, dict[str, Any]]:
    """Input -> its ranking, of every input that has candidates.

    Raises:
        ConfigError: if no input has candidates.
    """
    inputs = {name: entry for name, entry in job.inputs.items() if entry.candidates}
    if not inputs:
        raise ConfigError(
            "--encoder auto: no input has candidates to choose from; list them in inputs.NAME.candidates, for example "
            "[compact/image, torchvision/resnet18]"
        )
    rankings = {}
    for name, entry in inputs.items():
        candidates = find_candidates(name, entry, base)
        rankings[name] = rank_candidates(job, name, candidates, records, base, runtime)
        logger.info(f"{name}: --encoder auto takes {rankings[name]['best']}, of {len(candidates)} candidates")
    return rankings


def run_rankings(folder: Path | None, job: Job, tables: Tables, base: Path, runtime: Runtime) -> dict[str, Any]:
    """Of every input that has candidates: as the run in the folder has it, else by the main process for all."""
    if folder is not None and (folder / RANKING_FILE).is_file():
        return dict(json.loads((folder / RANKING_FILE).read_text(encoding="utf-8")))
    found = choose_encoders(job, tables.train, base, runtime) if runtime.processes.is_main else {}
    return dict(json.loads(runtime.processes.gather(json.dumps(found), runtime.device)[0]))


def with_choices(job: Job, base: Path, rankings: Mapping[str, Mapping[str, Any]]) -> Job:
    """The job with the best candidate of each ranking."""
    inputs = dict(job.inputs)
    for name, ranking in rankings.items():
        by_label = {candidate.label: candidate for candidate in find_candidates(name, inputs[name], base)}
        inputs[name] = with_candidate(inputs[name], by_label[ranking["best"]])
    return job.model_copy(update={"inputs": inputs})


def rank_candidates(
    job: Job,
    name: str,
    candidates: Sequence[Candidate],
    records: Records,
    base: Path,
    runtime: Runtime,
) -> dict[str, Any]:
    """Ranking of the candidates for one input, on records that are read already."""
    records.require([job.input_column(name)])
    tasks = {n: t for n, t in job.tasks.items() if t.kind.is_classification and name in job.task_inputs(n)}
    if not tasks:
        raise ConfigError(f"inputs.{name}: no classification task uses it, so that candidates cannot be ranked by one")
    targets = {n: build_target_reader(job, n, head_arguments(job, n, records)) for n in tasks}
    seed = job.train.seed
    known = labelled_records(tasks, targets, records, job.data)
    labelled = {n: some.sample(MOST_ROWS, seed) for n, some in known.items()}
    rows = np.unique(np.concatenate([some.rows for some in labelled.values()]))
    chosen = records.subset(rows)
    measured = [measure(job, name, candidate, chosen, base, runtime) for candidate in candidates]
    failed = {row: error for one in measured for row, error in one.failed.items()}
    if failed and job.data.on_error == "raise":
        raise failed[min(failed)]
    usable = (measured[0].features[:, -1] == 0) & ~np.isin(np.arange(len(rows)), list(failed))  # it has the input
    judged = _folds(labelled, rows, usable, seed, name)
    scores = {one.candidate.label: score_candidate(one.features[:, :-1], judged) for one in measured}
    for one in measured:
        add_source_scores(seed, one, chosen, judged, runtime)
    parts = next(iter(judged.values())).parts
    return {
        "candidates": [
            candidate_json(one, scores[one.candidate.label])
            for one in sorted(measured, key=lambda one: (-scores[one.candidate.label].value, one.candidate.label))
        ],
        "best": choose_candidate(scores, {one.candidate.label: one.parameters for one in measured}),
        "rule": "fewest parameters within one standard error of the highest score",
        "input": name,
        "tasks": {n: len(one.rows) for n, one in judged.items()},
        "folds": int(parts.max()) + 1,
        "repeats": REPEATS,
        "seed": seed,
        "l2": L2,
        "tau": agreement(scores),
        "skipped_rows": {str(rows[row]): error.reason for row, error in sorted(failed.items())},
    }


def _chosen_input(inputs: Mapping[str, Input], name: str | None) -> str:
    own = [n for n, entry in inputs.items() if entry.share is None]
    with_candidates = [n for n in own if inputs[n].candidates]
    if name is None:
        if len(own) == 1 or len(with_candidates) == 1:
            return (with_candidates or own)[0]
        raise ConfigError(f"there are several inputs to rank encoders for; name one: --input {' or '.join(own)}")
    if name not in own:
        raise ConfigError(f"--input {name!r}: there is no such input with an encoder of its own; there are {own}")
    return name


def _folds(
    labelled: Mapping[str, LabelledRecords], rows: np.ndarray, usable: np.ndarray, seed: int, name: str
) -> dict[str, LabelledFolds]:
    """The same number of folds for every task whose records allow two."""
    places = {task: np.searchsorted(rows, some.rows) for task, some in labelled.items()}
    kept = {task: some.take(usable[places[task]]) for task, some in labelled.items()}
    kept = {task: some for task, some in kept.items() if some.reason is None and len(np.unique(some.classes)) > 1}
    if not kept:
        raise ConfigError(
            f"inputs.{name}: no task has two records of a class that have this input and can be held out; label more"
        )
    classes = {task: np.unique(some.classes, return_inverse=True)[1] for task, some in kept.items()}
    folds = FOLDS
    while True:
        parts = {
            task: most_repeated_folds(classes[task], folds=folds, repeats=REPEATS, groups=some.groups, seed=seed)
            for task, some in kept.items()
        }
        fewest = min(int(part.max()) + 1 for part in parts.values())
        if all(int(part.max()) + 1 == fewest for part in parts.values()):
            break
        folds = fewest
    return {
        task: LabelledFolds(np.searchsorted(rows, some.rows), classes[task], parts[task]) for task, some in kept.items()
    }
