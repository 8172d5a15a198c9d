"""Figures of benchmarks/rank.md: how long a ranking takes, and whether its order is that of more labels.

python -m benchmarks.rank --data GROCERY --source CALTECH [--rows 500] [--out FOLDER]

GROCERY holds train.csv with the columns image and category, CALTECH with image and label. Six candidates read a photo:
compact/image with its own weights, with those of one epoch over 600 photos of CALTECH (an earlier run), and random; and
three architectures of torchvision with random weights. The second ranking finds every token kept; the third takes
other records.
"""

import argparse
import csv
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

import multimodal as mm
from multimodal.console import print_line, show_ranking

SMALL = ("squeezenet1_1", "mobilenet_v3_small", "resnet18")
IMAGE_SIZE = 96
"""Pixels a side, of torchvision's."""


def main() -> None:
    """Trains the source run, ranks twice, and ranks by other records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("rank"))
    arguments = parser.parse_args()
    os.environ["MULTIMODAL_CACHE"] = str(arguments.out / "cache")
    source = _source_run(arguments.source, arguments.out / "caltech")
    rows = _rows(arguments.data, 2 * arguments.rows)
    found = {}
    for name, some in (
        ("first", rows[: arguments.rows]),
        ("again", rows[: arguments.rows]),
        ("others", rows[arguments.rows :]),
    ):
        began, busy = time.perf_counter(), time.process_time()
        found[name] = mm.rank(_job(source), train=some, valid=some[:1], root=arguments.data)
        took, cpu = time.perf_counter() - began, time.process_time() - busy
        print_line(f"\n{name}: {len(some)} records, {took:.1f} s, {cpu:.1f} s of processor")
        show_ranking(found[name])
    scores = [
        {one["encoder"]: one["score"]["value"] for one in found[name]["candidates"]} for name in ("first", "others")
    ]
    tau = kendalltau(list(scores[0].values()), [scores[1][name] for name in scores[0]]).statistic
    print_line(f"\nKendall's tau between the two sets of records: {tau:.2f}")


def _rows(folder: Path, count: int) -> list[dict[str, Any]]:
    with (folder / "train.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [rows[index] for index in np.random.default_rng(0).permutation(len(rows))[:count]]


def _source_run(folder: Path, out: Path) -> Path:
    job = mm.Job(
        inputs={"image": mm.Input(encoder="compact/image", weights=None)},
        fusion=mm.Fusion(name="concat"),
        tasks={"category": mm.Task(column="label")},
        train=mm.Train(epochs=1),
    )
    return mm.fit(
        job, train=_rows(folder, 600), valid=_rows(folder, 660)[600:], root=folder, out=out, resume=True
    ).folder


def _job(source: Path) -> mm.Job:
    candidates: list[Any] = ["compact/image", "compact/image@random", f"compact/image@{source.resolve()}"]
    candidates += [
        {"encoder": f"torchvision/{name}", "weights": None, "options": {"image_size": IMAGE_SIZE}} for name in SMALL
    ]
    inputs = {"image": {"encoder": "compact/image", "candidates": candidates}}
    return mm.Job.model_validate({"inputs": inputs, "tasks": {"category": {}}})


if __name__ == "__main__":
    main()
