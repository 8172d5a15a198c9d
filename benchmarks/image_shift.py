"""Figures of benchmarks/image_shift.md: labels of plain photos; photos of the target look otherwise and have none.

python -m benchmarks.image_shift --data FOLDER --out RUNS [--shifts ...] [--methods ...] [--seeds 0 1 2]

FOLDER is the grocery data set. Of the twelve most frequent categories, half of the training photos are the source as
they are, and the other half, shifted, the target's inputs; the test photos are shifted, too. Every row is a job of
`mm.fit`; a run that is already in RUNS is not trained again.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps

import multimodal as mm
from benchmarks.transfer_gain import interval
from multimodal.console import print_line, show_table

CLASSES, MOST, SIDE = 12, 40, 96
"""Categories, photos of each and table, and pixels of a side."""

SHIFTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "recoloured": lambda photo: Image.merge("RGB", photo.split()[::-1]),
    "blurred": lambda photo: photo.filter(ImageFilter.GaussianBlur(3)),
    "turned": lambda photo: photo.transpose(Image.Transpose.ROTATE_90),
    "edges": lambda photo: ImageOps.autocontrast(photo.convert("L").filter(ImageFilter.FIND_EDGES)).convert("RGB"),
}
METHODS: dict[str, dict[str, Any] | None] = {  # weights as they were first written down; no target label chose any
    "source only": None,
    "deep_coral": {"method": "deep_coral", "weight": 100.0},
    "mmd": {"method": "mmd"},
    "dann": {"method": "dann"},
    "dann, no hidden layer": {"method": "dann", "hidden_dim": 0},
    "cdan": {"method": "cdan"},
    "mcc": {"method": "mcc"},
    "pseudo_labels": {"method": "pseudo_labels"},
    "oracle": None,
}
Rows = list[dict[str, str]]


@cache
def make_tables(data: Path, folder: Path, shift: str, seed: int) -> dict[str, Rows]:
    """Source, target and test rows, their photos written into ``folder`` at ``SIDE`` pixels."""
    train, test = (mm.read_records(data / f"{name}.csv") for name in ("train", "test"))
    counts = Counter(row["category"] for row in train.rows)
    classes = sorted(name for name, _ in counts.most_common(CLASSES))
    rng, tables = np.random.default_rng(seed), {"source": [], "target": [], "test": []}
    for label in classes:
        photos = rng.permutation([row["image"] for row in train.rows if row["category"] == label])
        half = min(MOST, len(photos) // 2)
        chosen = {"source": photos[:half], "target": photos[half : 2 * half]}
        chosen["test"] = rng.permutation([row["image"] for row in test.rows if row["category"] == label])[:MOST]
        for table, names in chosen.items():
            change = (lambda photo: photo) if table == "source" else SHIFTS[shift]
            for name in names:
                rows = tables[table]
                rows.append({"image": _write(data / name, folder / f"{table}{len(rows)}.png", change), "label": label})
    return tables


def _write(photo: Path, path: Path, change: Callable[[Image.Image], Image.Image]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(photo) as opened:
        change(ImageOps.fit(opened.convert("RGB"), (SIDE, SIDE))).save(path)
    return path.name


def make_job(method: str, seed: int) -> mm.Job:
    """The same network and epochs in every row: a layer and a head over the frozen encoder's mean tokens."""
    adapt = METHODS[method]
    return mm.Job(
        name="shift",
        data=mm.Data(workers=0),
        inputs={"image": mm.Input(encoder="compact/image", frozen=True)},
        fusion=mm.Fusion(name="concat", dim=128),
        tasks={"label": mm.Task()},
        transfer=mm.Transfer.model_validate({} if adapt is None else {"adapt": adapt}),
        train=mm.Train(epochs=40, batch_size=48, learning_rate=2e-3, weight_decay=0.05, seed=seed),
    )


def accuracy(data: Path, out: Path, shift: str, method: str, seed: int) -> float:
    """On shifted test photos; the checkpoint is chosen by a tenth of the labelled table."""
    folder = out / shift / f"{method.replace(',', '').replace(' ', '-')}-{seed}"
    metrics = folder / "metrics.json"
    if not metrics.is_file():
        media = out / shift / f"photos-{seed}"
        tables = make_tables(data, media, shift, seed)
        if METHODS[method] is not None:
            given: dict[str, Any] = {"source": tables["source"], "unlabelled": tables["target"]}
        else:
            given = {"train": tables["target" if method == "oracle" else "source"]}
        mm.fit(make_job(method, seed), **given, test=tables["test"], root=media, out=folder, resume=True)
    value = json.loads(metrics.read_text())["tasks"]["label"]["accuracy"]["value"]
    print_line(f"{shift}, {method}, seed {seed}: {value:.3f}")
    return float(value)


def gains(scores: Sequence[float], plain: Sequence[float]) -> str:
    """Mean and interval of the difference to source only, seed by seed."""
    return interval([score - other for score, other in zip(scores, plain, strict=True)])


def main() -> None:
    """Trains what is missing, and shows a table a shift."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="RUNS")
    parser.add_argument("--shifts", nargs="+", choices=[*SHIFTS], default=[*SHIFTS])
    parser.add_argument("--methods", nargs="+", choices=[*METHODS], default=[*METHODS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    for shift in given.shifts:
        found = {
            method: [accuracy(given.data.resolve(), given.out, shift, method, seed) for seed in given.seeds]
            for method in dict.fromkeys(["source only", *given.methods])
        }
        plain = found["source only"]
        rows = [(method, interval(scores), gains(scores, plain)) for method, scores in found.items()]
        show_table((shift, "accuracy", "gain on source only"), rows)


if __name__ == "__main__":
    main()
