import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.assertions import assert_close, near

from multimodal.demo import speech
from multimodal.demo.speech import SAMPLE_RATE, Voice, say_digit

VOICE = Voice(120.0, 1.0, 1.0, 0.0, 0.0, (1.0, 1.0, 1.0))


def test_the_same_generator_says_the_same_and_another_one_not_quite():
    first, again, other = (say_digit(7, VOICE, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (first == again).all()
    assert len(first) != len(other) or (first != other).any()


@pytest.mark.parametrize("digit", range(10))
def test_every_digit_is_a_short_sound_that_is_neither_silent_nor_clipped(digit):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        word = say_digit(digit, Voice.draw(rng), rng)
        assert word.dtype == np.float32
        assert 0.3 < len(word) / SAMPLE_RATE < 1.3
        assert 0.1 < np.abs(word).max() < 1.0


@pytest.mark.parametrize("digit", [-1, 10])
def test_what_is_no_digit_is_an_error(digit):
    with pytest.raises(ValueError, match=f"digit is {digit}; only 0 to 9 can be said"):
        say_digit(digit, VOICE, np.random.default_rng(0))


@pytest.mark.parametrize("pitch", [100.0, 180.0])
def test_a_voice_has_its_pitch(pitch):
    voice = Voice(pitch, 1.0, 1.0, 0.0, 0.0, (1.0, 1.0, 1.0))
    word = say_digit(1, voice, np.random.default_rng(3))
    middle = word[len(word) // 2 - 800 : len(word) // 2 + 800]
    likeness = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    shortest, longest = (int(SAMPLE_RATE / frequency) for frequency in (300.0, 70.0))
    period = shortest + likeness[shortest:longest].argmax()
    assert SAMPLE_RATE / period == near(pitch, "a fifth")  # it falls through the word


def test_the_vocal_tract_is_a_chain_of_resonators():
    formants = np.array([[500.0, 1500.0, 2500.0, 3500.0, 4500.0]])
    signal = np.zeros(speech._FFT)
    signal[0] = 1.0
    for formant, bandwidth in zip(formants[0], speech._BANDWIDTHS, strict=True):  # Klatt (1980), equation 2
        c = -np.exp(-2 * np.pi * bandwidth / SAMPLE_RATE)
        b = 2 * np.exp(-np.pi * bandwidth / SAMPLE_RATE) * np.cos(2 * np.pi * formant / SAMPLE_RATE)
        out = np.zeros(len(signal) + 2)
        for n, value in enumerate(signal):
            out[n + 2] = (1 - b - c) * value + b * out[n + 1] + c * out[n]
        signal = out[2:]
    expected = np.fft.rfft(signal)
    actual = speech._vocal_tract(formants)[0]
    # what still rings after the last sample is missing from the expected spectrum
    assert np.abs(actual - expected).max() < 0.01 * np.abs(expected).max()


def test_frames_that_no_filter_changed_add_up_to_the_signal():
    signal = np.random.default_rng(0).standard_normal(50 * speech._HOP).astype(np.float32)
    frames = np.fft.irfft(speech._frames(signal), speech._FFT, axis=1)
    start = (speech._WINDOW - speech._HOP) // 2
    whole = speech._overlap_add(frames.astype(np.float32))[start : start + len(signal)]
    inside = slice(speech._WINDOW, -speech._WINDOW)
    assert_close(whole[inside] / 2, signal[inside])  # bells that overlap four-fold add up to 2


def test_digits_can_be_told_apart_in_voices_that_were_never_heard():
    train, test = (sayings(voices, count) for voices, count in ((range(12), 240), (range(50, 54), 200)))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(*train)
    assert 0.85 < model.score(*test) < 1.0


def sayings(voices, count):
    """Log energies in 20 bands at 12 moments of each word, and the digits."""
    drawn = [Voice.draw(np.random.default_rng([9, voice])) for voice in voices]
    digits = np.arange(count) % 10
    words = [
        say_digit(d, drawn[i // 10 % len(drawn)], np.random.default_rng([8, voices[0], i]))
        for i, d in enumerate(digits)
    ]
    return np.stack([bands(word) for word in words]), digits


def bands(word):
    frames = np.lib.stride_tricks.sliding_window_view(word, 400)[::160] * np.hanning(400)
    power = np.abs(np.fft.rfft(frames, 512, axis=1)) ** 2
    loud = np.flatnonzero(power.sum(axis=1) > 1e-3 * power.sum(axis=1).max())
    edges = np.round(np.geomspace(4, 240, 21)).astype(int)  # 125 to 7,500 Hz
    energies = np.log(np.add.reduceat(power, edges, axis=1)[:, :-1] + 1e-4)
    return energies[np.linspace(loud[0], loud[-1], 12).astype(int)].ravel()
