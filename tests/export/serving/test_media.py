"""Sounds that a server takes, and those that it refuses before it reads them."""

import numpy as np
import pytest
from support.audio_faults import claiming, encoded, flac_claiming, id3, noise, sized, without_length

from export.serving.media import check_audio
from export.serving.responses import RequestError
from export.serving.settings import Limits

MP3, FLAC = encoded(noise(8_000), 8_000, "MP3"), encoded(noise(8_000), 8_000, "FLAC")
OGG, WAV = encoded(noise(8_000), 8_000, "OGG"), encoded(noise(8_000), 8_000)


@pytest.mark.parametrize(
    "data",
    [
        WAV,
        sized(WAV, 0, 0),
        id3(20) + WAV,
        MP3,
        without_length(MP3),
        claiming(MP3, 2),
        flac_claiming(FLAC, 0),
        flac_claiming(FLAC, 9),
        OGG + OGG,
        id3(20) + OGG,
    ],
)
def test_a_sound_whose_header_does_not_know_its_length_is_taken(data):
    check_audio(data, Limits(max_samples=20_000))


@pytest.mark.parametrize(
    "data",
    [
        sized(WAV, 0, 0),
        id3(20) + WAV,
        without_length(MP3),
        claiming(MP3, 2),
        flac_claiming(FLAC, 0),
        flac_claiming(FLAC, 9),
        OGG + OGG,
        encoded(np.zeros((4_000, 2)), 8_000, "OGG"),
    ],
)
def test_a_sound_that_holds_more_than_its_header_says_is_refused_for_what_it_holds(data):
    with pytest.raises(
        RequestError, match=r"the audio has \d channels of \d+ samples; this server allows 7000"
    ) as caught:
        check_audio(data, Limits(max_samples=7_000))
    assert caught.value.status == 413


def test_what_is_no_sound_or_a_damaged_one_is_told_apart():
    for data, status, message in (
        (b"GIF89a", 415, "which is no audio in wav, flac, ogg or mp3"),
        (b"", 415, "has no bytes, which is no audio"),
        (WAV[:-50], 422, "is truncated"),
        (OGG[:-50], 422, "is truncated"),
        (b"fLaC" + bytes(50), 422, "is not a readable wav, flac, ogg or mp3 file"),
    ):
        with pytest.raises(RequestError, match=message) as caught:
            check_audio(data, Limits())
        assert caught.value.status == status
