"""Sizes from headers, before anything is decoded."""

import io

import pytest
from PIL import Image

from encoders.preprocessing import UnreadableValueError
from encoders.preprocessing.image_files import image_size


def test_the_size_of_an_image_is_read_from_its_header() -> None:
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, "PNG")
    assert image_size(file.getvalue()) == (30, 20)
    with pytest.raises(UnreadableValueError, match="is not a readable JPEG, PNG or WebP file"):
        image_size(b"GIF89a")
