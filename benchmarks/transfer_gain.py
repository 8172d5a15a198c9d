"""Figures of benchmarks/transfer_gain.md: what the compact encoders' own weights are worth.

python benchmarks/transfer_gain.py ARM --data FOLDER --out RUNS [--seeds 0 1 2] [--weights random pretrained]

Every arm trains from the shipped and from random weights with the same budget, and prints accuracy on test: each
seed, the mean, and a 95 % interval over the seeds (Student's t).
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import multimodal as mm
from multimodal.console import print_line, show_table
from multimodal.recipes.retail import retail
from multimodal.records import Records, read_records

PRETRAINED, RANDOM = "pretrained", None


Arm = tuple[mm.Job, Any]
"""A job, and its training table."""


def few(records: Records, column: str, count: int, seed: int) -> Records:
    """``count`` records of each class, drawn with the seed."""
    labels = np.array([row[column] for row in records.rows])
    rng = np.random.default_rng(seed)
    rows = [row for label in np.unique(labels) for row in rng.permutation(np.flatnonzero(labels == label))[:count]]
    return records.subset(sorted(rows))


def image_job(weights: str | None, seed: int, *, epochs: int, frozen: bool, batch_size: int = 16) -> mm.Job:
    """Product from the photo alone."""
    image = mm.Input(
        encoder="compact/image",
        weights=weights,
        frozen=frozen,
        augment=mm.Augment() if frozen else mm.Augment(crop=0.5),  # a frozen encoder reads each photo once
        learning_rate_scale=None if frozen else 1.0,
    )
    return mm.Job(
        name="image",
        inputs={"image": image},
        fusion=mm.Fusion(name="concat", dropout=0.2),
        tasks={"product": mm.Task(label_smoothing=0.1)},
        transfer=mm.Transfer(strategy="finetune"),
        train=mm.Train(epochs=epochs, batch_size=batch_size, learning_rate=2e-3, weight_decay=0.05, seed=seed),
    )


def probe(weights: str | None, seed: int, data: Path) -> Arm:
    """A linear head on the frozen encoder, all training photos."""
    return image_job(weights, seed, epochs=40, frozen=True), data / "train.csv"


def probe_5(weights: str | None, seed: int, data: Path) -> Arm:
    """A linear head on the frozen encoder, 5 photos a class."""
    train = few(read_records(data / "train.csv"), "product", 5, seed)
    return image_job(weights, seed, epochs=100, frozen=True), train


def finetune_5(weights: str | None, seed: int, data: Path) -> Arm:
    """Everything trained, 5 photos a class, 60 epochs."""
    train = few(read_records(data / "train.csv"), "product", 5, seed)
    return image_job(weights, seed, epochs=60, frozen=False), train


def finetune(weights: str | None, seed: int, data: Path) -> Arm:
    """Everything trained, all training photos, 12 epochs."""
    return image_job(weights, seed, epochs=12, frozen=False), data / "train.csv"


def audio_job(weights: str | None, seed: int, data: Path, *, epochs: int, frozen: bool) -> Arm:
    """Quantity from 10 clips a class of the training speakers."""
    audio = mm.Input(
        encoder="compact/audio", weights=weights, frozen=frozen, learning_rate_scale=None if frozen else 1.0
    )
    job = mm.Job(
        name="audio",
        inputs={"audio": audio},
        fusion=mm.Fusion(name="concat", dropout=0.2),
        tasks={"quantity": mm.Task(label_smoothing=0.1)},
        transfer=mm.Transfer(strategy="finetune"),
        train=mm.Train(epochs=epochs, batch_size=16, learning_rate=1e-3, weight_decay=0.05, seed=seed),
    )
    return job, few(read_records(data / "train.csv"), "quantity", 10, seed)


def audio_10(weights: str | None, seed: int, data: Path) -> Arm:
    """Everything trained, 60 epochs."""
    return audio_job(weights, seed, data, epochs=60, frozen=False)


def audio_10_brief(weights: str | None, seed: int, data: Path) -> Arm:
    """Everything trained, 15 epochs."""
    return audio_job(weights, seed, data, epochs=15, frozen=False)


def audio_10_probe(weights: str | None, seed: int, data: Path) -> Arm:
    """A linear head on the frozen encoder, 100 epochs."""
    return audio_job(weights, seed, data, epochs=100, frozen=True)


def hard(weights: str | None, seed: int, data: Path) -> Arm:
    """The retail recipe on `hard`, with all three compact encoders trained, 16 epochs."""
    job = retail(data, "hard")
    compact = {"weights": weights, "learning_rate_scale": 0.4}
    inputs = {name: entry.model_copy(update=compact) for name, entry in job.inputs.items()}
    inputs["text"] = mm.Input(encoder="compact/text", **compact)
    train = job.train.model_copy(update={"seed": seed, "epochs": 16})
    return job.model_copy(update={"inputs": inputs, "train": train}), data / "train_hard.csv"


ARMS: dict[str, Callable[[str | None, int, Path], Arm]] = {
    arm.__name__: arm for arm in (probe, probe_5, finetune_5, finetune, audio_10, audio_10_brief, audio_10_probe, hard)
}


def accuracies(arm: str, weights: str | None, seed: int, data: Path, out: Path) -> dict[str, float]:
    """Task -> accuracy on test; a finished run is not trained again."""
    folder = out / f"{arm}-{weights or 'random'}-{seed}"
    job, train = ARMS[arm](weights, seed, data)
    suffix = "_hard" if arm == "hard" else ""
    tables = {"valid": data / f"val{suffix}.csv", "test": data / f"test{suffix}.csv"}
    run = mm.fit(job, train=train, **tables, out=folder, resume=True)
    seconds = run.metrics["training"]["seconds"]
    print_line(f"{folder.name}: {seconds:.0f} s")
    return {name: float(run.metrics["tasks"][name]["accuracy"]["value"]) for name in job.tasks}


def interval(values: Sequence[float]) -> str:
    """Mean and the half width of its 95 % interval, in points."""
    if len(values) < 2:
        return f"{100 * values[0]:.1f}"
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{100 * np.mean(values):.1f} +- {100 * half:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arm", choices=[*ARMS])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="RUNS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--weights", nargs="+", choices=["random", "pretrained"], default=["random", "pretrained"])
    given = parser.parse_args()
    chosen = {"random": RANDOM, "pretrained": PRETRAINED}
    found = {
        name: [accuracies(given.arm, chosen[name], seed, given.data.resolve(), given.out) for seed in given.seeds]
        for name in given.weights
    }
    for target in found[given.weights[0]][0]:
        values = {name: [each[target] for each in runs] for name, runs in found.items()}
        if len(values) == 2:
            values["gain"] = [after - before for before, after in zip(*values.values(), strict=True)]
        rows = [(name, interval(scores), json.dumps(scores)) for name, scores in values.items()]
        show_table((f"{given.arm}: {target}", "accuracy", "seeds"), rows)


if __name__ == "__main__":
    main()
