import hashlib
import re
import subprocess
import sys
from collections import Counter, defaultdict

import pytest

from encoders.preprocessing.audio import decode_audio
from encoders.preprocessing.image_files import decode_image
from multimodal.demo.data import IMAGE_SIZE, SPLITS, unpack_demo_data
from multimodal.records import read_records

SIZES = {"source": 2000, "source_valid": 200, "train": 240, "valid": 96, "test": 240}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return unpack_demo_data(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def records(data):
    return {name: read_records(getattr(data, name)) for name in SPLITS}


def test_manifests_hold_what_was_announced_and_every_clip_and_image_can_be_read(data, records):
    assert {name: len(table) for name, table in records.items()} == SIZES
    for name, table in records.items():
        assert table.columns == SPLITS[name]
        for record in table.rows:
            assert decode_image(data.folder / record["image"]).size == (IMAGE_SIZE, IMAGE_SIZE)
        for record in table.rows if "audio" in SPLITS[name] else ():
            waveform, sample_rate = decode_audio(data.folder / record["audio"])
            assert 0.3 < len(waveform) / sample_rate < 1.5
            assert 0.1 < abs(waveform).max() < 1.0
    assert decode_image(data.overview).size == (8 * 96, 2 * 96)


def test_no_image_and_no_clip_occurs_twice(data):
    media = [path for kind in ("images", "audio") for path in (data.folder / kind).iterdir()]
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in media}) == len(media) == 2776 + 576


def test_classes_are_balanced_and_paths_do_not_tell_them(records):
    pairs = Counter((record["object"], record["pattern"]) for record in records["source"].rows)
    assert set(pairs.values()) == {2000 // len(pairs)}
    train = records["train"].rows
    assert set(Counter(record["product"] for record in train).values()) == {15}
    assert Counter(record["quantity"] for record in train) == dict.fromkeys(map(str, range(10)), 24)
    assert [record["image"] for record in train] == [f"images/train_{row:04d}.jpg" for row in range(240)]


def test_a_text_alone_is_ambiguous(records):
    """Several products share each phrase that is not rare, and none is named."""
    sharing = defaultdict(list)
    for record in records["train"].rows:
        for phrase in record["text"].rstrip(".").split(". "):
            sharing[phrase].append(record["product"])
    assert all(len(set(products)) > 1 for products in sharing.values() if len(products) > 2)
    words = {word for phrase in sharing for word in re.findall(r"[a-z]+", phrase.lower())}
    assert not words & {"juice", "drink", "jam", "yoghurt", "tea", "biscuits", "kefir", "dairy", "sweets", "tin", "jar"}


def test_unpacking_needs_no_torch():
    code = "import sys, multimodal.demo.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
