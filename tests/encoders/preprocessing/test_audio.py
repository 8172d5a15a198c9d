import contextlib
import io
import logging
import re
import struct

import numpy as np
import pytest
import soundfile
import torch
from support.assertions import assert_close, near

from encoders.preprocessing import UnreadableValueError, preprocessor_from_config
from encoders.preprocessing.audio import AudioPreprocessor, audio_doubt, decode_audio

RATE = 16_000


def tone(seconds: float = 0.5, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def encoded(waveform: np.ndarray, rate: int = RATE, format: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, rate, format=format, subtype=subtype)
    return buffer.getvalue()


FILES = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_U8"),
    ("WAV", "FLOAT"),
    ("WAVEX", "PCM_24"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]
formats = pytest.mark.parametrize(("format", "subtype"), FILES)


# --- what is taken -----------------------------------------------------------------------------------------------


@formats
def test_every_format_is_read_as_soundfile_reads_it(format, subtype):
    data = encoded(tone(), format=format, subtype=subtype)
    waveform, rate = decode_audio(data)
    expected, expected_rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert (waveform.dtype, rate) == (np.float32, expected_rate)
    assert_close(waveform, expected, "float32")
    assert np.abs(waveform).max() == near(0.5, "a tenth")


def test_path_and_bytes_give_the_same_samples(tmp_path):
    data = encoded(tone())
    for name in ("a.wav", "a.mp3", "a"):  # the content says what it is, not the name
        (tmp_path / name).write_bytes(data)
        for raw in (tmp_path / name, str(tmp_path / name), bytearray(data)):
            np.testing.assert_array_equal(decode_audio(raw)[0], decode_audio(data)[0])


def test_channels_are_averaged():
    channels = np.stack([tone(hertz=200), tone(hertz=300), tone(hertz=400)], axis=1)
    for raw in ((channels, RATE), encoded(channels, subtype="FLOAT")):
        assert_close(decode_audio(raw)[0], channels.mean(axis=1), "float32")


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([-128, 0, 64], np.int8, [-1, 0, 0.5]),
        ([0, 128, 192], np.uint8, [-1, 0, 0.5]),
        ([-32768, 0, 16384], np.int16, [-1, 0, 0.5]),
        ([0, 32768, 49152], np.uint16, [-1, 0, 0.5]),
        ([-(2**31), 0, 2**30], np.int32, [-1, 0, 0.5]),
        ([-1, 0, 0.5], np.float16, [-1, 0, 0.5]),
        ([-1, 0, 0.5], np.float64, [-1, 0, 0.5]),
    ],
)
def test_waveforms_are_scaled_by_the_range_of_their_dtype(values, dtype, expected):
    waveform, _ = decode_audio((np.array(values, dtype), RATE))
    assert (waveform.dtype, waveform.tolist()) == (np.float32, expected)


@pytest.mark.parametrize("number", [1, 2, 3, 5, 8])
def test_few_rows_of_many_samples_are_channels(number):
    channels = np.stack([tone(hertz=200 + 100 * one) for one in range(number)])
    for raw in (channels, channels.T, torch.from_numpy(channels)):
        assert_close(decode_audio((raw, RATE))[0], channels.mean(axis=0), "float32")
    small = channels[:, :number]  # as many samples as channels: [s, channels]
    assert_close(decode_audio((small, RATE))[0], small.mean(axis=1), "float32")


@pytest.mark.parametrize(
    ("samples", "doubt"),
    [
        (tone() * 32768, r"has floats up to 16384, where full scale is 1; divide by it, as by 32768 of 16-bit values"),
        (tone() * 5, r"has floats up to 2.5"),
        (np.stack([tone(), -tone()], 1), "has channels that cancel each other when they are averaged; keep one"),
        (np.stack([tone(), -tone() * 0.99], 1), "has channels that cancel each other"),
        (np.stack([tone(), -tone() / 2, -tone() / 2], 1), "has channels that cancel each other"),
        (np.stack([tone() / 50, -tone() / 50], 1), "has channels that cancel each other"),
        (tone() * 3, None),  # a lossy format may overshoot
        (tone() / 1000, None),
        (np.zeros((800, 2), np.float32), None),
        (np.stack([tone(), 0 * tone()], 1), None),
        (np.stack([tone(), -tone() * 0.9], 1), None),
    ],
    ids=range(11),
)
def test_a_waveform_beyond_full_scale_or_of_opposite_channels_is_doubted(tmp_path, samples, doubt):
    (tmp_path / "a.wav").write_bytes(encoded(samples, subtype="FLOAT"))
    for raw in ((samples, RATE), encoded(samples, subtype="FLOAT"), tmp_path / "a.wav"):
        found = audio_doubt(raw, decode_audio(raw)[0])
        assert found is None if doubt is None else re.match(doubt, found)


def test_the_given_waveform_is_not_shared():
    given = tone()
    decode_audio((given, RATE))[0][:] = 7
    assert given.max() <= 0.5


def test_a_list_and_a_rate_that_is_a_whole_float_are_taken():
    for rate in (16000.0, np.int32(16000), np.float32(16000)):
        waveform, hertz = decode_audio(([0.0, 0.5], rate))
        assert (waveform.tolist(), hertz, type(hertz)) == ([0.0, 0.5], 16000, int)


def test_a_wav_that_was_written_into_a_pipe_is_read():
    data = encoded(tone())
    length = data.index(b"data") + 4
    for unknown in (0xFFFF_FFFF, 0x7FFF_F000):
        piped = data[:length] + struct.pack("<I", unknown) + data[length + 4 :]
        np.testing.assert_array_equal(decode_audio(piped)[0], decode_audio(data)[0])


# --- limits and unusable values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ((np.zeros(60 * 8000 + 1), 8000), "at most 60 s"),
        (encoded(np.zeros(60 * 8000 + 8), 8000), "lasts 60.0 s; at most 60 s"),
        ((np.zeros((8000, 9)), 8000), "9 channels; 1 to 8"),
        (encoded(np.zeros((800, 9)), 8000), "9 channels; 1 to 8"),
        ((np.zeros((9, 8000)), 8000), r"8000 channels; 1 to 8 are read \(an array is \[s, channels\]\)"),
        ((np.zeros((5, 0)), 8000), "0 channels"),
        ((np.zeros(8000), 7999), "7999 Hz; 8000 to 192000"),
        (encoded(np.zeros(800), 4000), "4000 Hz; 8000 to 192000"),
        ((np.zeros(8000), 192_001), "192001 Hz"),
        ((np.zeros(0), 8000), "no samples"),
        (encoded(np.zeros(0), 8000), "no samples"),
        ((np.array([0, np.nan]), 8000), "NaN or infinite"),
        ((np.array([0, np.inf]), 8000), "NaN or infinite"),
        ((np.array([0, 1e300]), 8000), "NaN or infinite"),
        (encoded(np.array([0, np.nan]), 8000, subtype="FLOAT"), "NaN or infinite"),
        ((np.zeros((2, 2, 2)), 8000), r"the shape \[2, 2, 2\]"),
        ((np.float32(1), 8000), r"the shape \[\]"),
        ((np.zeros(8, np.int64), 8000), "dtype int64, whose full scale is not known"),
        ((np.zeros(8, bool), 8000), "dtype bool"),
        ((np.zeros(8, complex), 8000), "dtype complex128"),
        ((["a", "b"], 8000), "whose full scale is not known"),
        (([[1], [1, 2]], 8000), "cannot be made an array"),
        ((np.zeros(8), 8000.5), "8000.5 as its rate"),
        ((np.zeros(8), float("nan")), "nan as its rate"),
        ((np.zeros(8), True), "a bool as its rate"),
        ((np.zeros(8), "8000"), "'8000' as its rate"),
        ((8000, np.zeros(8)), r"a ndarray as its rate; give \(waveform, rate in whole Hz\)"),
        ((np.zeros(8),), "a tuple of 1"),
        (np.zeros(8), "audio cannot be a ndarray; give a path, bytes, or"),
        (None, "audio cannot be a NoneType"),
        (3, "audio cannot be a int"),
        (b"", "not a readable wav, flac, ogg or mp3"),
        ("none.wav", r"none\.wav: there is no such file"),
        (".", "not a regular file"),
        ("a\0b.wav", "cannot be opened"),
    ],
)
def test_unusable_values_are_refused(raw, message):
    with pytest.raises(UnreadableValueError, match=message):
        decode_audio(raw)


@pytest.mark.parametrize("format", ["AIFF", "AU", "CAF", "W64"])
def test_other_formats_are_refused(format):
    with pytest.raises(UnreadableValueError, match=f"is a {format} file; convert it"):
        decode_audio(encoded(tone(), format=format))


def test_limits_are_checked_before_decoding(monkeypatch):
    data = encoded(np.zeros(61 * 8000), 8000)
    monkeypatch.delattr(soundfile.SoundFile, "read")
    with pytest.raises(UnreadableValueError, match=r"lasts 61\.0 s"):
        decode_audio(data)


@formats
@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.8, 0.99])
def test_a_truncated_file_is_refused(format, subtype, share):
    noise = np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32) / 8
    data = encoded(noise, format=format, subtype=subtype)
    with pytest.raises(UnreadableValueError, match=r"truncated|not a readable|no samples"):
        decode_audio(data[: int(len(data) * share)])


@formats
def test_damaged_bytes_are_read_or_refused_but_never_anything_else(format, subtype):
    rng = np.random.default_rng(7)
    data = encoded(tone(0.1), format=format, subtype=subtype)
    for trial in range(100):
        damaged = bytearray(data)
        reach = len(data) if trial % 2 else 64
        for position in rng.integers(0, reach, rng.integers(1, 6)):
            damaged[position] = rng.integers(256)
        if trial % 3 == 0:
            damaged = damaged[: rng.integers(len(data))]
        with contextlib.suppress(UnreadableValueError):
            waveform, _ = decode_audio(bytes(damaged))
            assert np.isfinite(waveform).all()
            assert waveform.ndim == 1


def test_random_bytes_are_refused():
    rng = np.random.default_rng(8)
    for magic in (b"", b"RIFF\x20\0\0\0WAVEfmt ", b"fLaC", b"OggS", b"ID3\x04\0\0\0\0\0\0", b"\xff\xfb"):
        with pytest.raises(UnreadableValueError, match=r"not a readable wav, flac, ogg or mp3|truncated"):
            decode_audio(magic + rng.bytes(200))


# --- one channel at one rate -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 192_000])
def test_a_tone_stays_the_same_tone_at_another_rate(rate):
    arrays = AudioPreprocessor(RATE)((tone(1.0, rate), rate))
    assert arrays["waveform"].shape == (RATE,)
    inner = slice(1000, -1000)  # the ends ring: outside there is silence
    assert np.abs(arrays["waveform"][inner] - tone(1.0, RATE)[inner]).max() < 1e-3


def test_what_the_new_rate_cannot_hold_is_filtered_out():
    arrays = AudioPreprocessor(8_000)((tone(1.0, 48_000, hertz=6_000), 48_000))["waveform"]
    assert np.abs(arrays[500:-500]).max() < 1e-3  # without a filter it would be heard at 2 kHz


def test_a_clip_at_its_own_rate_is_unchanged():
    arrays = AudioPreprocessor(RATE)((tone(), RATE))
    np.testing.assert_array_equal(arrays["waveform"], tone())
    assert arrays["waveform"].dtype == np.float32
    assert arrays["waveform_mask"].dtype == bool
    assert arrays["waveform_mask"].all()


def test_a_long_clip_is_cut_and_that_is_logged(caplog):
    preprocessor = AudioPreprocessor(RATE, max_seconds=0.5)
    with caplog.at_level(logging.INFO):
        arrays = preprocessor((tone(2.0), RATE))
    np.testing.assert_array_equal(arrays["waveform"], tone(0.5))
    assert "2.0 s is cut to 0.5 s" in caplog.text
    assert preprocessor((tone(2.0, 44_100), 44_100))["waveform"].shape == (8_000,)


@pytest.mark.parametrize("length", [1, 2, 100, 1599])
def test_a_short_clip_ends_in_silence_that_counts_as_real(length):
    for rate in (RATE, 192_000):
        arrays = AudioPreprocessor(RATE)((tone(1.0, rate)[:length], rate))
        assert arrays["waveform"].shape == arrays["waveform_mask"].shape == (1600,)
        assert arrays["waveform_mask"].all()
        assert not arrays["waveform"][length:].any()


def test_stack_pads_with_masked_zeros():
    preprocessor = AudioPreprocessor(RATE)
    stacked = preprocessor.stack([preprocessor((tone(0.2), RATE)), preprocessor.blank()])
    assert (stacked["waveform"].shape, stacked["waveform"].dtype) == ((2, 3200), np.float32)
    assert stacked["waveform_mask"].dtype == bool
    assert stacked["waveform_mask"].sum(axis=1).tolist() == [3200, 1600]
    assert not stacked["waveform"][1].any()


def test_a_rebuilt_preprocessor_gives_the_same_samples():
    original = AudioPreprocessor(8_000, max_seconds=0.3, min_seconds=0.05)
    rebuilt = preprocessor_from_config(original.to_config(), {})
    assert rebuilt.to_config() == original.to_config()
    for seconds in (0.01, 0.2, 1.0):
        raw = (tone(seconds, 44_100), 44_100)
        np.testing.assert_array_equal(rebuilt(raw)["waveform"], original(raw)["waveform"])


def test_arguments_out_of_range_are_refused():
    for rate in (7_999, 192_001):
        with pytest.raises(ValueError, match=f"sample_rate is {rate}; give 8000 to 192000 Hz"):
            AudioPreprocessor(rate)
    with pytest.raises(ValueError, match=r"sample_rate is 16000\.0; give a whole number"):
        AudioPreprocessor(16000.0)  # type: ignore[arg-type]
    for seconds in ((0.0, 1.0), (2.0, 1.0), (0.1, 61.0), (0.1, float("nan"))):
        with pytest.raises(ValueError, match="give 0 < min_seconds <= max_seconds <= 60"):
            AudioPreprocessor(min_seconds=seconds[0], max_seconds=seconds[1])
