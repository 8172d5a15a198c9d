"""Data of the demo: a source task of drawn things, and a small shop of sixteen products. Never imports torch.

``benchmarks/demo_data/make.py`` made them; they are this project's own work, Apache-2.0.
"""

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from multimodal.runtime.files import naming, replacing, write_atomically

ARCHIVE = Path(__file__).parent / "data.zip"
SOURCE_COLUMNS = ("image", "object", "pattern")
SHOP_COLUMNS = ("image", "text", "audio", "product", "category", "quantity")
SPLITS = {"source": SOURCE_COLUMNS, "source_valid": SOURCE_COLUMNS} | dict.fromkeys(
    ("train", "valid", "test"), SHOP_COLUMNS
)
IMAGE_SIZE = 64
"""Pixels along each side."""
SHEET_COLUMNS = 40
"""Images side by side in a sheet of the archive."""


@dataclass(frozen=True)
class DemoData:
    """Paths of the manifests, with the columns ``SOURCE_COLUMNS`` and ``SHOP_COLUMNS``."""

    folder: Path
    source: Path
    source_valid: Path
    train: Path
    valid: Path
    test: Path
    overview: Path
    """One image of each look and of things of the source task."""


def unpack_demo_data(folder: str | Path) -> DemoData:
    """Unpacks the manifests, ``images/`` and ``audio/`` into ``folder``."""
    folder = Path(folder)
    for name in ("images", "audio"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    overview = folder / "overview.jpg"
    with zipfile.ZipFile(ARCHIVE) as archive:
        manifests = {name: _unpack_split(archive, name, columns, folder) for name, columns in SPLITS.items()}
        write_atomically(overview, archive.read(overview.name))
    return DemoData(folder, **manifests, overview=overview)


def _unpack_split(archive: zipfile.ZipFile, name: str, columns: Sequence[str], folder: Path) -> Path:
    rows = list(csv.DictReader(io.StringIO(archive.read(f"{name}.csv").decode(), newline="")))
    _unpack_images(archive, name, rows, folder)
    if "audio" in columns:
        _unpack_clips(archive, name, rows, folder)
    path = folder / f"{name}.csv"
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _unpack_images(archive: zipfile.ZipFile, name: str, rows: list[dict[str, str]], folder: Path) -> None:
    """Cuts the split's sheet, row by row."""
    with Image.open(io.BytesIO(archive.read(f"{name}.avif"))) as sheet:
        for index, row in enumerate(rows):
            top, left = (IMAGE_SIZE * place for place in divmod(index, SHEET_COLUMNS))
            row["image"] = f"images/{name}_{index:04d}.jpg"
            with naming(folder / row["image"]):
                sheet.crop((left, top, left + IMAGE_SIZE, top + IMAGE_SIZE)).save(folder / row["image"], quality=90)


def _unpack_clips(archive: zipfile.ZipFile, name: str, rows: list[dict[str, str]], folder: Path) -> None:
    """Cuts the split's recording at the numbers of samples that the archive's rows name."""
    waveform, sample_rate = soundfile.read(io.BytesIO(archive.read(f"{name}.ogg")), dtype="float32")
    ends = np.cumsum([int(row["samples"]) for row in rows])
    for index, (row, clip) in enumerate(zip(rows, np.split(waveform, ends[:-1]), strict=True)):
        row["audio"] = f"audio/{name}_{index:04d}.wav"
        with naming(folder / row["audio"]):
            soundfile.write(folder / row["audio"], clip, sample_rate, subtype="PCM_16")
