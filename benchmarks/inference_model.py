"""The retail model at its production size, and records to ask it: what `benchmarks/inference.py` measures."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

import multimodal as mm

PRODUCTS, CATEGORIES, QUANTITIES = 81, 43, 10
"""Classes of each task, as in the grocery data."""
PICTURE_SIDE, SAMPLE_RATE = 160, 16_000
_WORDS = ["ripe", "red", "sweet", "crisp", "milk", "juice", "apple", "pear", "carton", "of", "one", "from", "north"]


def write_records(folder: Path, n: int = 48, seed: int = 0) -> Path:
    """A manifest of ``n`` records: a JPEG of 160 pixels, about 32 words and one second of sound each."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(_rows(folder, n, np.random.default_rng(seed)))
    with (folder / "records.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "records.csv"


def _rows(folder: Path, n: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for index in range(n):
        blocks = rng.integers(0, 256, (10, 10, 3), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
        Image.fromarray(blocks).save(folder / f"{index}.jpg", quality=90)
        soundfile.write(folder / f"{index}.wav", rng.normal(0, 0.1, SAMPLE_RATE), SAMPLE_RATE)
        yield {
            "image": f"{index}.jpg",
            "text": " ".join(rng.choice(_WORDS, 30)),
            "audio": f"{index}.wav",
            "product": f"product {index % PRODUCTS}",
            "category": f"category {index % CATEGORIES}",
            "quantity": str(index % QUANTITIES),
        }


def train_retail(records: Path, out: Path, text_encoder: str, image_encoder: str = "torchvision/resnet18") -> None:
    """One short epoch: what the model answers does not matter here, only that it answers.

    Args:
        text_encoder: "transformers/sentence-transformers/all-MiniLM-L6-v2", or "transformers/" and a folder.
        image_encoder: its weights are random.
    """
    task = mm.Task(
        name="retail",
        data=mm.Data(train=str(records), valid=str(records)),
        inputs={
            "image": mm.Input(encoder=image_encoder, weights=None),
            "text": mm.Input(encoder=text_encoder),
            "audio": mm.Input(encoder="compact/audio", weights=None),
        },
        fusion=mm.Fusion(name="attention", dim=256),
        tasks={name: mm.Target() for name in ("product", "category", "quantity")},
        train=mm.Train(epochs=1, batch_size=16),
    )
    mm.fit(task, out=out)
