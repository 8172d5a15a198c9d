import hashlib

import numpy as np
import pytest
from PIL import Image

from multimodal.records.cells import content_number

PICTURE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
WAVEFORM = np.linspace(-1, 1, 16, dtype=np.float32)


@pytest.mark.parametrize(
    ("value", "again"),
    [
        ("red apple", " red apple "),
        (b"\x00\x01", b"\x00\x01"),
        (PICTURE, PICTURE.copy()),
        ((WAVEFORM, 16_000), (WAVEFORM.copy(), 16_000)),
        (Image.fromarray(PICTURE), Image.fromarray(PICTURE)),
    ],
    ids=["text", "bytes", "array", "waveform", "image"],
)
def test_equal_contents_have_one_number_that_fits_64_bits(value, again):
    assert content_number(value) == content_number(again)
    assert 0 < content_number(value) < 2**63


def test_other_contents_have_other_numbers():
    values = ["red", "Red", b"red ", PICTURE, PICTURE[::-1], PICTURE.astype(np.int16), [PICTURE, None]]
    values += [(WAVEFORM, 16_000), (WAVEFORM, 8_000), (WAVEFORM[:8], 16_000)]
    assert len({content_number(value) for value in values}) == len(values)


def test_it_is_a_digest_so_that_every_process_has_the_same():
    digest = hashlib.blake2b(b"red apple", digest_size=8).digest()
    assert content_number("red apple") == int.from_bytes(digest, "little") // 2
