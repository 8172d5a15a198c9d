import math

import numpy as np
import pytest
import torch
from support.assertions import assert_close
from torch import Tensor

from encoders.audio.mel import LogMel, every

RATE = 16000


def written_out(waveform: np.ndarray, *, bands: int, window: int, hop: int, low: float, floor: float) -> np.ndarray:
    """The definition, frame by frame in float64: Hann window, sum of x e^(-2 pi i k n / N), triangles, logarithm."""
    n, k = np.arange(window), np.arange(window // 2 + 1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / window)
    fourier = np.exp(-2j * np.pi * np.outer(k, n) / window)
    padded = np.concatenate([np.zeros(window // 2), waveform.astype(np.float64), np.zeros(window)])
    frames = [padded[start : start + window] for start in range(0, len(waveform), hop)]
    power = np.stack([np.abs(fourier @ (hann * frame)) ** 2 for frame in frames])  # [t k]
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(2595 * np.log10(1 + low / 700), top, bands + 2) / 2595) - 1)
    hz = k * RATE / window
    triangles = [np.interp(hz, edges[band : band + 3], [0.0, 1.0, 0.0]) for band in range(bands)]
    return np.log(power @ np.stack(triangles, axis=1) + floor) - np.log(floor)


def tone(length: int = 5000, *, quiet: float = 1e-2) -> np.ndarray:
    """A loud low tone, and, ``quiet`` times as loud, a high tone and noise."""
    time = np.arange(length) / RATE
    high = np.sin(2 * np.pi * 6000 * time) + np.random.default_rng(0).standard_normal(length)
    return (np.sin(2 * np.pi * 300 * time) + quiet * high).astype(np.float32)


def frames_of(mel: LogMel, waveform: np.ndarray) -> Tensor:
    mask = torch.ones(1, len(waveform), dtype=torch.bool)
    return mel(torch.from_numpy(waveform)[None], mask)[0][0]


@pytest.mark.parametrize(("bands", "window", "hop"), [(64, 400, 160), (40, 512, 200), (80, 401, 100)])
def test_log_mel_is_the_written_out_transform(bands: int, window: int, hop: int) -> None:
    mel = LogMel(RATE, num_bands=bands, window_size=window, hop_size=hop)
    expected = written_out(tone(), bands=bands, window=window, hop=hop, low=60.0, floor=1e-3)
    assert_close(frames_of(mel, tone()), expected, "onnx")


def test_quiet_bands_are_right_beside_a_loud_one() -> None:
    mel = LogMel(RATE, floor=1e-6)
    waveform = tone(quiet=1e-4)  # 80 dB
    expected = written_out(waveform, bands=64, window=400, hop=160, low=60.0, floor=1e-6)
    decibels = 10 / math.log(10) * np.abs(frames_of(mel, waveform).numpy() - expected)
    assert decibels.max() < 0.1  # an exported STFT is off by up to 22


def test_silence_is_zero() -> None:
    assert_close(frames_of(LogMel(), np.zeros(1000, np.float32)), np.zeros((7, 64)), "float32")


@pytest.mark.parametrize("length", [1, 159, 160, 161, 800, 801])
def test_there_is_a_frame_for_each_begun_hop(length: int) -> None:
    frames, mask = LogMel()(torch.randn(2, length), torch.ones(2, length, dtype=torch.bool))
    assert frames.shape == (2, math.ceil(length / 160), 64)
    assert mask.shape == frames.shape[:2]


def test_what_is_in_the_padding_does_not_matter() -> None:
    waveform = torch.from_numpy(tone())[None]
    mel = LogMel()
    alone, _ = mel(waveform, torch.ones_like(waveform, dtype=torch.bool))
    padded = torch.cat([waveform, torch.full((1, 1000), torch.nan)], dim=1)
    frames, mask = mel(padded, ~padded.isnan())
    assert mask.sum() == alone.shape[1]
    assert_close(frames[mask], alone[0], "onnx")


def test_there_is_nothing_to_train_or_to_save() -> None:
    assert not list(LogMel().parameters())
    assert not LogMel().state_dict()


def test_mixed_precision_leaves_it_exact() -> None:
    mel = LogMel()
    expected = frames_of(mel, tone())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(frames_of(mel, tone()), expected)


def test_float16_holds_the_loudest_and_the_quietest() -> None:
    mel = LogMel().half()
    time = torch.arange(4000) / RATE
    loud = torch.stack([torch.ones(4000), torch.sin(2 * math.pi * 1000 * time), torch.zeros(4000)]).half()
    frames, _ = mel(loud, torch.ones(3, 4000, dtype=torch.bool))
    assert frames.isfinite().all()
    assert frames[1].max() > 15.0  # 70 dB above the floor is 16.1


def test_bands_narrower_than_the_transform_resolves_are_refused() -> None:
    with pytest.raises(ValueError, match=r"128 mel bands .* narrower than the 62\.5 Hz .* use fewer bands or a longer"):
        LogMel(RATE, num_bands=128, window_size=256)


@pytest.mark.parametrize("length", [1, 2, 5, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_takes_each_so_manieth_entry(length: int, stride: int) -> None:
    mask = torch.rand(3, length) > 0.5
    assert torch.equal(every(mask, stride), mask[:, ::stride])
