"""What a header says, before anything is decoded, and what becomes of one that lies."""

import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from encoders.preprocessing import UnreadableValueError
from encoders.preprocessing.audio import _read, sound_size
from encoders.preprocessing.image_files import image_size


def test_a_pictures_size_is_read_from_its_header() -> None:
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, "PNG")
    assert image_size(file.getvalue()) == (30, 20)
    with pytest.raises(UnreadableValueError, match="is not a readable JPEG, PNG or WebP file"):
        image_size(b"GIF89a")


def test_a_sounds_size_is_read_from_its_header() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((50, 2)), 8000, format="WAV")
    assert sound_size(file.getvalue()) == (50, 2)
    with pytest.raises(UnreadableValueError, match="is not a readable wav, flac, ogg or mp3 file"):
        sound_size(b"RIFF")


def test_a_sound_that_goes_on_after_its_header_says_is_not_decoded_to_its_end() -> None:
    class Endless:
        frames = 10
        blocks = 0

        def read(self, count: int, **options: object) -> np.ndarray:
            self.blocks += 1
            return np.zeros((count, 1), np.float32)

    sound = Endless()
    with pytest.raises(UnreadableValueError, match="goes on after its header says that it ends; convert it to wav"):
        _read(sound, "a.mp3")  # type: ignore[arg-type]
    assert sound.blocks == 2
