"""Figures of benchmarks/retail.md that the commands themselves do not print.

python benchmarks/retail.py single --data FOLDER --input image --manifest hard --out RUN
python benchmarks/retail.py agreement --run RUN --data FOLDER/test.csv --predictions preds.csv
python benchmarks/retail.py without --run RUN --data FOLDER/test_missing.csv --input text [--other RUN]
"""

import argparse
import csv
from pathlib import Path

import numpy as np

import multimodal as mm
from multimodal.console import print_line, show_metrics
from multimodal.data.dataset import RecordDataset
from multimodal.evaluation import answer
from multimodal.recipes.retail import retail
from multimodal.records import Records, is_missing, read_records
from multimodal.records.targets import read_truth
from multimodal.run import Run


def single(given: argparse.Namespace) -> None:
    """The retail job with one of its inputs, and the tasks that use it: same encoder, epochs and selection."""
    job = retail(given.data.resolve(), given.manifest)
    tasks = {
        name: task.model_copy(update={"inputs": [given.input]})
        for name, task in job.tasks.items()
        if given.input in job.task_inputs(name)
    }
    job = job.model_copy(update={"inputs": {given.input: job.inputs[given.input]}, "tasks": tasks})
    show_metrics(mm.fit(job, out=given.out, resume=True).metrics)


def scores_of(run: Run, records: Records) -> dict[str, np.ndarray]:
    """Task -> probabilities [n c] of the run's own torch model, in the records' order."""
    dataset = RecordDataset(records, run.readers, run.targets)
    everything = run.model.input_names
    outputs = answer(run.model, dataset, subsets=[everything], workers=1).outputs[everything]
    return {task: run.decodings[task].scores(values) for task, values in outputs.items()}


def agreement(given: argparse.Namespace) -> None:
    """How many answers of ``multimodal predict`` are the classes that torch gives, ties within 1e-4 left out."""
    run = Run(given.run)
    scores = scores_of(run, read_records(given.data))
    with given.predictions.open(encoding="utf-8", newline="") as file:
        predictions = list(csv.DictReader(file))
    for task, probabilities in scores.items():
        labels = run.decodings[task].to_config()["labels"]
        best = np.sort(probabilities, axis=1)
        clear = best[:, -1] - best[:, -2] > 1e-4
        same = np.array(
            [row[task] == labels[index] for row, index in zip(predictions, probabilities.argmax(axis=1), strict=True)]
        )
        print_line(
            f"{task}: {int((same & clear).sum())} of {int(clear.sum())} clear answers agree; {int((~clear).sum())} ties"
        )


def without(given: argparse.Namespace) -> None:
    """Accuracy on the records without an input, of one run and of another on the same records."""
    records = read_records(given.data)
    without = records.subset([row for row in range(len(records)) if is_missing(records[row].get(given.input))])
    for folder in filter(None, (given.run, given.other)):
        run = Run(folder)
        scores = scores_of(run, without)
        for task in ("product", "category"):
            truth = read_truth(run.targets[task], without, range(len(without)))
            right = scores[task].argmax(axis=1) == truth.targets
            print_line(f"{folder}: {task} {right.mean():.4f} on {len(without)} records without {given.input}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for command, paths in (
        (single, ("data", "out")),
        (agreement, ("run", "data", "predictions")),
        (without, ("run", "data")),
    ):
        added = commands.add_parser(command.__name__, help=command.__doc__)
        added.set_defaults(command=command)
        for path in paths:
            added.add_argument(f"--{path}", type=Path, required=True)
        added.add_argument("--input", default="text")
        added.add_argument("--manifest", default="main")
        added.add_argument("--other", type=Path)
    given = parser.parse_args()
    given.command(given)


if __name__ == "__main__":
    main()
