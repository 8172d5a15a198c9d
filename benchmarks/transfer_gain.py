"""Figures of benchmarks/transfer_gain.md: what the compact encoders' own weights are worth.

python benchmarks/transfer_gain.py ARM --data FOLDER --out RUNS [--seeds 0 1 2]

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
from multimodal.console import say, show_table
from multimodal.records import Records, read_records

PRETRAINED, RANDOM = "pretrained", None


def few(records: Records, column: str, count: int, seed: int) -> Records:
    """``count`` records of each class, drawn with the seed."""
    labels = np.array([row[column] for row in records.rows])
    rng = np.random.default_rng(seed)
    rows = [row for label in np.unique(labels) for row in rng.permutation(np.flatnonzero(labels == label))[:count]]
    return records.subset(sorted(rows))


def image_task(weights: str | None, seed: int, *, epochs: int, frozen: bool, batch_size: int = 16) -> mm.Task:
    """Product from the photo alone."""
    image = mm.Input(
        encoder="compact/image",
        weights=weights,
        frozen=frozen,
        augment=mm.Augment(crop=0.5),
        learning_rate_scale=None if frozen else 1.0,
    )
    return mm.Task(
        name="image",
        inputs={"image": image},
        fusion=mm.Fusion(name="concat", dropout=0.2),
        tasks={"product": mm.Target(label_smoothing=0.1)},
        train=mm.Train(epochs=epochs, batch_size=batch_size, learning_rate=2e-3, weight_decay=0.05, seed=seed),
    )


def probe(weights: str | None, seed: int, data: Path) -> tuple[mm.Task, Any, str]:
    """A linear head on the frozen encoder, all training photos."""
    return image_task(weights, seed, epochs=40, frozen=True), data / "train.csv", "product"


def probe_5(weights: str | None, seed: int, data: Path) -> tuple[mm.Task, Any, str]:
    """A linear head on the frozen encoder, 5 photos a class."""
    train = few(read_records(data / "train.csv"), "product", 5, seed)
    return image_task(weights, seed, epochs=100, frozen=True), train, "product"


def finetune_5(weights: str | None, seed: int, data: Path) -> tuple[mm.Task, Any, str]:
    """Everything trained, 5 photos a class, 60 epochs."""
    train = few(read_records(data / "train.csv"), "product", 5, seed)
    return image_task(weights, seed, epochs=60, frozen=False), train, "product"


def finetune(weights: str | None, seed: int, data: Path) -> tuple[mm.Task, Any, str]:
    """Everything trained, all training photos, 12 epochs."""
    return image_task(weights, seed, epochs=12, frozen=False), data / "train.csv", "product"


def audio_10(weights: str | None, seed: int, data: Path) -> tuple[mm.Task, Any, str]:
    """Quantity from 10 clips a class of the training speakers, everything trained, 60 epochs."""
    train = few(read_records(data / "train.csv"), "quantity", 10, seed)
    audio = mm.Input(encoder="compact/audio", weights=weights, learning_rate_scale=1.0)
    task = mm.Task(
        name="audio",
        inputs={"audio": audio},
        fusion=mm.Fusion(name="concat", dropout=0.2),
        tasks={"quantity": mm.Target(label_smoothing=0.1)},
        train=mm.Train(epochs=60, batch_size=16, learning_rate=1e-3, weight_decay=0.05, seed=seed),
    )
    return task, train, "quantity"


ARMS: dict[str, Callable[[str | None, int, Path], tuple[mm.Task, Any, str]]] = {
    arm.__name__: arm for arm in (probe, probe_5, finetune_5, finetune, audio_10)
}


def accuracy(arm: str, weights: str | None, seed: int, data: Path, out: Path) -> float:
    """On test; a finished run is not trained again."""
    folder = out / f"{arm}-{weights or 'random'}-{seed}"
    task, train, target = ARMS[arm](weights, seed, data)
    run = mm.fit(task, train=train, valid=data / "val.csv", test=data / "test.csv", out=folder, resume=True, say=say)
    return float(run.metrics["tasks"][target]["accuracy"]["value"])


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
    given = parser.parse_args()
    found = {
        weights: [accuracy(given.arm, weights, seed, given.data.resolve(), given.out) for seed in given.seeds]
        for weights in (RANDOM, PRETRAINED)
    }
    gains = [after - before for before, after in zip(found[RANDOM], found[PRETRAINED], strict=True)]
    rows = [(weights or "random", interval(values), json.dumps(values)) for weights, values in found.items()]
    show_table((given.arm, "accuracy", "seeds"), [*rows, ("gain", interval(gains), json.dumps(gains))])


if __name__ == "__main__":
    main()
