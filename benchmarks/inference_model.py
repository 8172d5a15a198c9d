"""The retail model at its production size, and records to ask it: what `benchmarks/inference.py` measures."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

import multimodal as mm
from encoders.preprocessing import Arrays, Preprocessor
from multimodal.records import InputReader, stack_inputs

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
        }


def train_retail(data: Path, out: Path, *, text_encoder: str, epochs: int) -> None:
    """ResNet-18 at 224 pixels and compact/audio from random weights, the text encoder frozen, attention fusion.

    Args:
        data: holds train.csv and val.csv, as the retail recipe takes them.
        text_encoder: "transformers/sentence-transformers/all-MiniLM-L6-v2", or "transformers/" and a folder.
    """
    job = mm.Job(
        name="retail",
        data=mm.Data(train=str(data / "train.csv"), valid=str(data / "val.csv")),
        inputs={
            "image": mm.Input(encoder="torchvision/resnet18", weights=None),
            "text": mm.Input(encoder=text_encoder, frozen=True),
            "audio": mm.Input(encoder="compact/audio", weights=None),
        },
        fusion=mm.Fusion(name="attention", dim=256),
        tasks={name: mm.Task() for name in ("product", "category", "quantity")},
        train=mm.Train(epochs=epochs, batch_size=16, learning_rate=1e-3),
    )
    mm.fit(job, out=out)


def prepared(preprocessors: Mapping[str, Preprocessor], records: list[dict[str, str]]) -> dict[str, Arrays]:
    """The arrays of some records, by input."""
    readers = {name: InputReader(name, name, preprocessor) for name, preprocessor in preprocessors.items()}
    return stack_inputs(readers, [{name: reader.read(row) for name, reader in readers.items()} for row in records])
