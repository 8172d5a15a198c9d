import hashlib
import subprocess
import sys
from collections import Counter, defaultdict

import pytest

from encoders.preprocessing.audio import decode_audio
from encoders.preprocessing.image_files import decode_image
from multimodal.demo import data as demo
from multimodal.demo.data import PRODUCTS, write_demo_data
from multimodal.demo.objects import PACKAGES, THINGS
from multimodal.demo.pictures import PATTERNS, PICTURE_SIZE
from multimodal.demo.texts import FLAVORS
from multimodal.records import read_records

SMALL_SOURCE = (demo.Split("source", 0, 50), demo.Split("source_valid", 1, 10))
SMALL_SHOP = (demo.Split("train", 2, 32, 3), demo.Split("valid", 3, 16, 2), demo.Split("test", 4, 20, 2))


@pytest.fixture
def small(monkeypatch):
    """Fewer records, the same code."""
    monkeypatch.setattr(demo, "SOURCE", SMALL_SOURCE)
    monkeypatch.setattr(demo, "SHOP", SMALL_SHOP)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("small")
def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_media(tmp_path):
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        write_demo_data(tmp_path / name, seed=seed)
    first, again, other = (contents(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    assert first.keys() == other.keys()
    assert not [name for name in first if name.startswith(("images", "audio")) and first[name] == other[name]]


@pytest.mark.usefixtures("small")
def test_manifests_hold_what_was_announced_and_all_of_it_can_be_read(tmp_path):
    written = write_demo_data(tmp_path)
    for split in SMALL_SOURCE:
        records = read_records(getattr(written, split.name))
        assert (records.columns, len(records)) == (demo.SOURCE_COLUMNS, split.records)
        assert {record["object"] for record in records.rows} <= set(THINGS)
        assert {record["pattern"] for record in records.rows} <= set(PATTERNS)
    products = {product.name: product for product in PRODUCTS}
    for split in SMALL_SHOP:
        records = read_records(getattr(written, split.name))
        assert (records.columns, len(records)) == (demo.SHOP_COLUMNS, split.records)
        for record in records.rows:
            assert record["category"] == products[record["product"]].category
            assert decode_image(tmp_path / record["image"]).size == (PICTURE_SIZE, PICTURE_SIZE)
            assert decode_audio(tmp_path / record["audio"])[1] == demo.SAMPLE_RATE
    assert decode_image(written.overview).size == (8 * PICTURE_SIZE, 2 * PICTURE_SIZE)


@pytest.mark.usefixtures("small")
def test_no_picture_and_no_recording_occurs_twice(tmp_path):
    write_demo_data(tmp_path)
    media = [path for kind in ("images", "audio") for path in (tmp_path / kind).iterdir()]
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in media}) == len(media) == 128 + 68


@pytest.mark.usefixtures("small")
def test_classes_are_balanced_and_paths_do_not_tell_them(tmp_path):
    train = read_records(write_demo_data(tmp_path).train)
    assert set(Counter(record["product"] for record in train.rows).values()) == {2}
    digits = Counter(record["quantity"] for record in train.rows)
    assert set(digits) == {str(digit) for digit in range(10)}
    assert set(digits.values()) == {3, 4}
    assert [record["image"] for record in train.rows] == [f"images/train_{row:04d}.jpg" for row in range(32)]


def test_voices_of_one_split_are_in_no_other():
    voices = [voice for split in demo.SHOP for voice in demo.draw_voices(split, seed=0)]
    assert len(set(voices)) == len(voices) == sum(split.voices for split in demo.SHOP)


def test_a_modality_alone_is_ambiguous_and_picture_and_line_together_decide():
    looks, flavors = defaultdict(list), defaultdict(list)
    for product in PRODUCTS:
        looks[product.package, product.pattern].append(product)
        flavors[product.flavor].append(product)
    assert {len(same) for same in looks.values()} == {2}
    assert {len(same) for same in flavors.values()} == {4}
    for same in (*looks.values(), *flavors.values()):
        assert len({product.category for product in same}) > 1
    assert len({(product.package, product.pattern, product.flavor) for product in PRODUCTS}) == len(PRODUCTS)


def test_products_are_made_of_what_can_be_drawn_and_written():
    assert {product.package for product in PRODUCTS} == set(PACKAGES)
    assert {product.pattern for product in PRODUCTS} <= set(PATTERNS)
    assert {product.flavor for product in PRODUCTS} == set(FLAVORS)


@pytest.mark.parametrize("seed", [-1, 0.5])
def test_a_seed_that_is_no_whole_number_from_zero_is_an_error(tmp_path, seed):
    with pytest.raises(ValueError, match=f"seed is {seed}; give a whole number, at least 0"):
        write_demo_data(tmp_path, seed=seed)


def test_making_the_data_needs_no_torch():
    code = "import sys, multimodal.demo.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_the_whole_data_set_has_its_size(tmp_path):
    written = write_demo_data(tmp_path)
    assert [len(read_records(path)) for path in (written.source, written.source_valid)] == [2000, 200]
    assert [len(read_records(path)) for path in (written.train, written.valid, written.test)] == [240, 96, 240]
    pairs = Counter((record["object"], record["pattern"]) for record in read_records(written.source).rows)
    assert set(pairs.values()) == {2000 // (len(THINGS) * len(PATTERNS))}
