"""Makes the data of ``multimodal demo``: a source task of drawn things, and a small shop of sixteen products.

    python -m benchmarks.demo_data.make [--out multimodal/demo/data.zip]

Each product has one of eight looks and one of four flavours. Two products share each look and four share each
flavour, so that an image or a catalogue line alone cannot tell the product, and both together can; the same
holds for the category. The quantity is spoken, by voices that are different in training, validation and test.

The archive has one CSV, one AVIF sheet of all images and one Opus recording of all clips per split. The same versions
of Pillow, libsndfile and zlib give the same bytes, but for the serial number that libsndfile draws for each recording.
All of it is this project's own work (Apache-2.0).
"""

import argparse
import csv
import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
from PIL import Image

from benchmarks.demo_data.images import DRAWN_SIZE, PATTERNS, draw_image
from benchmarks.demo_data.objects import THINGS
from benchmarks.demo_data.speech import SAMPLE_RATE, Voice, say_digit
from benchmarks.demo_data.texts import write_line
from multimodal.demo.data import ARCHIVE, IMAGE_SIZE, SHEET_COLUMNS

IMAGE_QUALITY = 40  # of AVIF: 29 dB, some 250 bytes per image
CLIP_COMPRESSION = 0.97  # of libsndfile's Opus: some 14 kbit/s


@dataclass(frozen=True)
class Product:
    """Something that the shop sells."""

    name: str
    category: str
    package: str
    """Key of ``objects.PACKAGES``."""
    pattern: str
    """Key of ``images.PATTERNS``."""
    flavor: str
    """One of ``texts.FLAVORS``."""


PRODUCTS = (
    Product("chocolate milk", "dairy", "carton", "striped", "chocolate"),
    Product("oat drink", "drinks", "carton", "striped", "oat"),
    Product("orange juice", "drinks", "carton", "dotted", "orange"),
    Product("strawberry milk", "dairy", "carton", "dotted", "strawberry"),
    Product("orange lemonade", "drinks", "bottle", "zigzag", "orange"),
    Product("strawberry kefir", "dairy", "bottle", "zigzag", "strawberry"),
    Product("orange marmalade", "breakfast", "jar", "checked", "orange"),
    Product("chocolate spread", "sweets", "jar", "checked", "chocolate"),
    Product("strawberry jam", "breakfast", "jar", "zigzag", "strawberry"),
    Product("oat pudding", "sweets", "jar", "zigzag", "oat"),
    Product("strawberry yoghurt", "dairy", "tub", "dotted", "strawberry"),
    Product("chocolate mousse", "sweets", "tub", "dotted", "chocolate"),
    Product("oat flakes", "breakfast", "box", "checked", "oat"),
    Product("chocolate biscuits", "sweets", "box", "checked", "chocolate"),
    Product("orange tea", "drinks", "tin", "striped", "orange"),
    Product("oat biscuits", "sweets", "tin", "striped", "oat"),
)


@dataclass(frozen=True)
class Split:
    """Size of a manifest."""

    name: str
    number: int
    """Keys the random numbers, so that splits do not depend on each other."""
    records: int
    voices: int = 0


SOURCE = (Split("source", 0, 2000), Split("source_valid", 1, 200))
SHOP = (Split("train", 2, 240, 12), Split("valid", 3, 96, 3), Split("test", 4, 240, 4))

Row = tuple[Image.Image, np.ndarray | None, dict[str, object]]
"""Image, waveform and the other cells of a record."""


def make_archive(path: Path) -> None:
    """Writes all splits and the overview into one zip file."""
    with zipfile.ZipFile(path, "w") as archive:
        for split in SOURCE + SHOP:
            write = _writer(archive, split.name)
            rows = list(_source_rows(split) if split in SOURCE else _shop_rows(split))
            _write_media(write, rows)
            lengths = [{} if clip is None else {"samples": len(clip)} for _, clip, _ in rows]
            cells = [cells | length for (_, _, cells), length in zip(rows, lengths, strict=True)]
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, list(cells[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(cells)
            write("csv", text.getvalue().encode())
        overview = io.BytesIO()
        _overview().save(overview, "JPEG", quality=85)
        _writer(archive, "overview")("jpg", overview.getvalue())


def _writer(archive: zipfile.ZipFile, name: str) -> Callable[[str, bytes], None]:
    def write(suffix: str, content: bytes) -> None:
        entry = zipfile.ZipInfo(f"{name}.{suffix}", (1980, 1, 1, 0, 0, 0))
        archive.writestr(entry, content, zipfile.ZIP_DEFLATED if suffix == "csv" else zipfile.ZIP_STORED)

    return write


def _write_media(write: Callable[[str, bytes], None], rows: Sequence[Row]) -> None:
    sheet = Image.new("RGB", (SHEET_COLUMNS * IMAGE_SIZE, -(-len(rows) // SHEET_COLUMNS) * IMAGE_SIZE))
    for index, (image, _, _) in enumerate(rows):
        small = image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS)
        sheet.paste(small, (index % SHEET_COLUMNS * IMAGE_SIZE, index // SHEET_COLUMNS * IMAGE_SIZE))
    file = io.BytesIO()
    sheet.save(file, "AVIF", quality=IMAGE_QUALITY, speed=4, max_threads=1)
    write("avif", file.getvalue())
    clips = [clip for _, clip, _ in rows if clip is not None]
    if clips:
        file = io.BytesIO()
        options: dict[str, Any] = {"format": "OGG", "subtype": "OPUS", "compression_level": CLIP_COMPRESSION}
        soundfile.write(file, np.concatenate(clips), SAMPLE_RATE, **options)
        write("ogg", file.getvalue())


def _source_rows(split: Split) -> Iterator[Row]:
    """Every thing with every pattern, equally often."""
    pairs = [(thing, pattern) for thing in THINGS for pattern in PATTERNS]
    order = _rng(split, "order").permutation(split.records)
    for row in range(split.records):
        thing, pattern = pairs[order[row] % len(pairs)]
        yield draw_image(thing, pattern, _rng(split, "record", row)), None, {"object": thing, "pattern": pattern}


def _shop_rows(split: Split) -> Iterator[Row]:
    """Every product and every quantity equally often, independently of each other and of the voice."""
    rng = _rng(split, "order")
    order, digits, speakers = (rng.permutation(split.records) for _ in range(3))
    voices = [Voice.draw(_rng(split, "voice", voice)) for voice in range(split.voices)]
    for row in range(split.records):
        product, digit = PRODUCTS[order[row] % len(PRODUCTS)], int(digits[row] % 10)
        rng = _rng(split, "record", row)
        image = draw_image(product.package, product.pattern, rng)
        clip = say_digit(digit, voices[speakers[row] % len(voices)], rng)
        cells = {"text": write_line(product.flavor, rng), "product": product.name, "category": product.category}
        yield image, clip, cells | {"quantity": digit}


def _rng(split: Split, purpose: Literal["order", "voice", "record"], number: int = 0) -> np.random.Generator:
    return np.random.default_rng([0, split.number, ("order", "voice", "record").index(purpose), number])


def _overview() -> Image.Image:
    """Two rows: the shop's looks, things of the source task."""
    looks = list(dict.fromkeys((product.package, product.pattern) for product in PRODUCTS))
    things = list(zip(THINGS, list(PATTERNS) * 2, strict=False))[: len(looks)]
    sheet = Image.new("RGB", (len(looks) * DRAWN_SIZE, 2 * DRAWN_SIZE))
    for row, line in enumerate((looks, things)):
        for column, (thing, pattern) in enumerate(line):
            image = draw_image(thing, pattern, np.random.default_rng([0, len(SOURCE + SHOP), row, column]))
            sheet.paste(image, (column * DRAWN_SIZE, row * DRAWN_SIZE))
    return sheet


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ARCHIVE)
    make_archive(parser.parse_args().out)
