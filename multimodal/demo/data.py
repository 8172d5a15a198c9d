"""The demo's data: a source task of drawn things, and a small shop of sixteen products.

Each product has one of eight looks and one of four flavours. Two products share each look and four share each
flavour, so that a picture or a catalogue line alone cannot tell the product, and both together can; the same
holds for the category. The quantity is spoken, by voices that are different in training, validation and test.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from PIL import Image

from encoders.preprocessing.base import whole_number
from multimodal.demo.objects import THINGS
from multimodal.demo.pictures import PATTERNS, PICTURE_SIZE, draw_picture
from multimodal.demo.speech import SAMPLE_RATE, Voice, say_digit
from multimodal.demo.texts import write_line
from multimodal.runtime.files import naming, replacing

SOURCE_COLUMNS = ("image", "object", "pattern")
SHOP_COLUMNS = ("image", "text", "audio", "product", "category", "quantity")


@dataclass(frozen=True)
class Product:
    """Something that the shop sells."""

    name: str
    category: str
    package: str
    """Key of ``objects.PACKAGES``."""
    pattern: str
    """Key of ``pictures.PATTERNS``."""
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
    """How much of what a manifest holds."""

    name: str
    """Of the manifest, and of its media."""
    number: int
    """Keys the random numbers, so that splits do not depend on each other."""
    records: int
    voices: int = 0


SOURCE = (Split("source", 0, 2000), Split("source_valid", 1, 200))
SHOP = (Split("train", 2, 240, 12), Split("valid", 3, 96, 3), Split("test", 4, 240, 4))


@dataclass(frozen=True)
class DemoData:
    """The manifests that were written. Columns: ``SOURCE_COLUMNS`` and ``SHOP_COLUMNS``."""

    folder: Path
    source: Path
    source_valid: Path
    train: Path
    valid: Path
    test: Path
    overview: Path
    """One picture of each look and of each thing of the source task."""


def write_demo_data(folder: str | Path, *, seed: int = 0) -> DemoData:
    """Writes the manifests, ``images/`` and ``audio/`` into ``folder``; the same seed gives the same bytes.

    Raises:
        ValueError: if ``seed`` is not a whole number from 0.
    """
    seed, folder = whole_number("seed", seed, least=0), Path(folder)
    for name in ("images", "audio"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    manifests = {}
    for split in SOURCE:
        manifests[split.name] = _write_manifest(folder, split.name, SOURCE_COLUMNS, _source_rows(folder, split, seed))
    for split in SHOP:
        manifests[split.name] = _write_manifest(folder, split.name, SHOP_COLUMNS, _shop_rows(folder, split, seed))
    overview = folder / "overview.png"
    _draw_overview(seed).save(overview)
    return DemoData(folder, **manifests, overview=overview)


def _source_rows(folder: Path, split: Split, seed: int) -> Iterator[Sequence[object]]:
    """Every thing with every pattern, equally often."""
    pairs = [(thing, pattern) for thing in THINGS for pattern in PATTERNS]
    order = _rng(seed, split, "order").permutation(split.records)
    for row in range(split.records):
        thing, pattern = pairs[order[row] % len(pairs)]
        yield _write_picture(folder, split, row, thing, pattern, _rng(seed, split, "record", row)), thing, pattern


def _shop_rows(folder: Path, split: Split, seed: int) -> Iterator[Sequence[object]]:
    """Every product and every quantity equally often, independently of each other and of the voice."""
    rng = _rng(seed, split, "order")
    order, digits, speakers = (rng.permutation(split.records) for _ in range(3))
    voices = draw_voices(split, seed=seed)
    for row in range(split.records):
        product, digit = PRODUCTS[order[row] % len(PRODUCTS)], int(digits[row] % 10)
        rng = _rng(seed, split, "record", row)
        image = _write_picture(folder, split, row, product.package, product.pattern, rng)
        audio = f"audio/{split.name}_{row:04d}.wav"
        word = say_digit(digit, voices[speakers[row] % len(voices)], rng)
        soundfile.write(folder / audio, word, SAMPLE_RATE, subtype="PCM_16")
        yield image, write_line(product.flavor, rng), audio, product.name, product.category, digit


def draw_voices(split: Split, *, seed: int) -> list[Voice]:
    """Who speaks in a split.

    >>> len(draw_voices(SHOP[0], seed=0))
    12
    """
    return [Voice.draw(_rng(seed, split, "voice", voice)) for voice in range(split.voices)]


def _rng(seed: int, split: Split, what: Literal["order", "voice", "record"], number: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, split.number, ("order", "voice", "record").index(what), number])


def _write_picture(folder: Path, split: Split, row: int, thing: str, pattern: str, rng: np.random.Generator) -> str:
    path = f"images/{split.name}_{row:04d}.jpg"
    with naming(folder / path):
        draw_picture(thing, pattern, rng).save(folder / path, quality=90)
    return path


def _write_manifest(folder: Path, name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    path = folder / f"{name}.csv"
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def _draw_overview(seed: int) -> Image.Image:
    """Two rows: the shop's looks, things of the source task."""
    looks = list(dict.fromkeys((product.package, product.pattern) for product in PRODUCTS))
    things = list(zip(THINGS, list(PATTERNS) * 2, strict=False))[: len(looks)]
    sheet = Image.new("RGB", (len(looks) * PICTURE_SIZE, 2 * PICTURE_SIZE))
    for row, line in enumerate((looks, things)):
        for column, (thing, pattern) in enumerate(line):
            picture = draw_picture(thing, pattern, np.random.default_rng([seed, len(SOURCE + SHOP), row, column]))
            sheet.paste(picture, (column * PICTURE_SIZE, row * PICTURE_SIZE))
    return sheet
