"""Figures of benchmarks/task_weighting.md: ways to weigh the three tasks of the grocery data, over one shared layer.

python benchmarks/task_weighting.py --data FOLDER --out RUNS [--seeds 0 1 2] [--arms fixed pcgrad]

Frozen compact encoders, so that what is shared is the fusion's layer; every arm has the same budget. Prints accuracy
on test: the mean over the seeds, and a 95 % interval (Student's t).
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import multimodal as mm
from multimodal.console import print_line, show_table

TASKS = ("product", "category", "quantity")
ARMS: dict[str, dict[str, Any]] = {
    "fixed": {},
    "uncertainty": {"weighting": "uncertainty"},
    "pcgrad": {"weighting": "pcgrad"},
    "towers": {"tower": [128]},
    "a job each": {"alone": True},
}


def make_job(tasks: tuple[str, ...], seed: int, *, weighting: str = "fixed", tower: list[int] | None = None) -> mm.Job:
    """These tasks over one layer of 128."""
    encoders = {"image": "compact/image", "text": "compact/text", "audio": "compact/audio"}
    return mm.Job(
        name="weighting",
        inputs={name: mm.Input(encoder=encoder, frozen=True) for name, encoder in encoders.items()},
        fusion=mm.Fusion(name="concat", dim=128),
        tasks={name: mm.Task(tower=tower or []) for name in tasks},
        train=mm.Train(epochs=20, learning_rate=2e-3, weight_decay=0.05, seed=seed, task_weighting=weighting),
    )


def run(arm: str, seed: int, data: Path, out: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracy of each task, and mean cosine of each two tasks' gradients."""
    options = dict(ARMS[arm])
    groups = [(name,) for name in TASKS] if options.pop("alone", False) else [TASKS]
    found: dict[str, float] = {}
    cosines: dict[str, float] = {}
    for group in groups:
        folder = out / f"{arm.replace(' ', '-')}-{'-'.join(group)}-{seed}"
        tables = {name: data / f"{name}_hard.csv" for name in ("train", "test")} | {"valid": data / "val_hard.csv"}
        trained = mm.fit(make_job(group, seed, **options), **tables, out=folder, resume=True)
        found |= {name: trained.metrics["tasks"][name]["accuracy"]["value"] for name in group}
        measured = trained.metrics["training"].get("gradient_cosine", {})
        cosines |= {pair: values["mean"] for pair, values in measured.items()}
    return found, cosines


def interval(values: list[float]) -> str:
    """Mean and half-width."""
    count = len(values)
    half = stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count) if count > 1 else 0.0
    return f"{np.mean(values):.3f} +- {half:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    given = parser.parse_args()
    rows = []
    for arm in given.arms:
        runs = [run(arm, seed, given.data, given.out) for seed in given.seeds]
        pairs = {pair: float(np.mean([cosines[pair] for _, cosines in runs])) for pair in runs[0][1]}
        print_line(f"{arm}: mean gradient cosines { ({pair: round(mean, 3) for pair, mean in pairs.items()}) }")
        rows.append([arm, *(interval([scores[name] for scores, _ in runs]) for name in TASKS)])
    show_table(["arm", *TASKS], rows)


if __name__ == "__main__":
    main()
