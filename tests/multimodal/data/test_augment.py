import io
import pickle

import numpy as np
import pytest
from PIL import Image
from support.assertions import assert_close

from encoders.preprocessing import UnreadableValueError
from encoders.preprocessing.audio import MAX_SECONDS, AudioPreprocessor
from encoders.preprocessing.image_files import decode_image
from multimodal.config import Augment
from multimodal.data.augment import LUMA, Augmentation, mask_spectrogram

OFF = {name: 0.0 for name in Augment.model_fields if name != "enabled"}
RATE = 8000
ROWS = range(200)


def only(modality: str, **settings: float) -> Augmentation:
    """One change alone."""
    return Augmentation(modality, Augment(**{**OFF, **settings}), seed=3)


def photo(height: int = 90, width: int = 120) -> Image.Image:
    """Smooth colours that differ everywhere."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([255 * x / width, 255 * y / height, 127 + 60 * np.sin(x / 9) * np.cos(y / 7)], axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


def clip(seconds: float = 0.5, *, rate: int = RATE) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=int(seconds * rate))
    return (0.1 * noise).astype(np.float32)


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


RAW = {"image": jpeg(photo()), "text": " ".join(f"word{index}" for index in range(60)), "audio": (clip(), RATE)}


def content(value) -> bytes:
    """Comparable content of a value."""
    if isinstance(value, tuple):
        return value[0].tobytes() + str(value[1]).encode()
    return value.encode() if isinstance(value, str) else np.asarray(value).tobytes()


@pytest.mark.parametrize("modality", RAW)
def test_a_value_depends_on_seed_epoch_and_row_and_on_nothing_else(modality):
    one, other = (Augmentation(modality, Augment(), 5) for _ in range(2))
    other(RAW[modality], 0, 9)  # what came before does not matter
    assert content(one(RAW[modality], 2, 7)) == content(other(RAW[modality], epoch=2, row=7))
    assert content(one(RAW[modality], 2, 7)) == content(pickle.loads(pickle.dumps(one))(RAW[modality], 2, 7))
    several = [content(one(RAW[modality], epoch, row)) for epoch in range(5) for row in range(5)]
    several.append(content(Augmentation(modality, Augment(), 6)(RAW[modality], 0, 0)))
    assert len(set(several)) == 26


@pytest.mark.parametrize("modality", RAW)
def test_inputs_of_one_record_are_changed_independently_and_alike_in_every_process(modality):
    front, back, again = (Augmentation(modality, Augment(), 5, name) for name in ("front", "back", "front"))
    assert content(front(RAW[modality], 2, 7)) == content(again(RAW[modality], 2, 7))
    assert content(front(RAW[modality], 2, 7)) != content(back(RAW[modality], 2, 7))
    assert front.stream == 4277887734  # CRC-32 of b"front"


@pytest.mark.parametrize("modality", RAW)
def test_with_everything_off_the_very_value_comes_back(modality):
    assert only(modality)(RAW[modality], 0, 0) is RAW[modality]
    assert Augmentation(modality, Augment(enabled=False), 3)(RAW[modality], 0, 0) is RAW[modality]


def test_a_value_of_another_modality_is_left_as_it_is():
    value = object()
    assert Augmentation("smell", Augment(), 3)(value, 0, 0) is value


def test_global_random_state_is_neither_read_nor_changed():
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()
    for modality, raw in RAW.items():
        Augmentation(modality, Augment(), 5)(raw, 0, 0)
    assert np.random.get_state()[1].tolist() == before


# --- images ---


def test_an_image_comes_back_in_its_size_and_is_not_changed_itself():
    image = photo()
    before = image.tobytes()
    changed = Augmentation("image", Augment(), 0)(image, 0, 0)
    assert (changed.size, changed.mode) == (image.size, "RGB")
    assert changed.tobytes() != before
    assert image.tobytes() == before


def test_flip_mirrors_exactly_and_at_its_rate():
    image = photo()
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes()
    results = [only("image", flip=0.25)(image, 0, row).tobytes() for row in ROWS]
    assert set(results) == {image.tobytes(), mirrored}
    assert 0.15 < np.mean([result == mirrored for result in results]) < 0.35


def coordinates(width: int = 64, height: int = 48) -> Image.Image:
    """An image that says in red how far right and in green how far down each pixel is, 2 grey levels a pixel."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([2 * x, 2 * y, 255 + 0 * x], axis=2).astype(np.uint8))


@pytest.mark.parametrize("crop", [0.05, 0.5])
def test_a_crop_takes_away_no_more_than_its_share_and_stretches_within_4_to_3(crop):
    shares, aspects, places = [], [], []
    for row in ROWS:
        pixels = np.asarray(only("image", crop=crop)(coordinates(), 0, row)).astype(float)
        assert (pixels[..., 2] == 255).all()  # nothing from outside the image
        # the slopes inside, away from the rim where interpolation has no neighbour
        across = (pixels[24, -5, 0] - pixels[24, 4, 0]) / 2 / (64 - 9)
        down = (pixels[-5, 32, 1] - pixels[4, 32, 1]) / 2 / (48 - 9)
        shares.append(across * down)
        aspects.append(across / down)
        places.append(pixels[24, 32, 0] / 2 / 64)
    assert 1 - crop - 0.03 <= min(shares) < 1 - 0.8 * crop
    assert 1 - 0.2 * crop < max(shares) <= 1.03
    widest = min(4 / 3, 1 / (1 - crop))
    assert 1 / widest - 0.03 <= min(aspects) < 1 < max(aspects) <= widest + 0.04
    assert min(places) < 0.5 < max(places)


def test_rotation_turns_about_the_middle_up_to_its_angle():
    angles = []
    for row in ROWS:
        pixels = np.asarray(only("image", rotation=20.0)(coordinates(), 0, row)).astype(float)
        right = pixels[24, 42] - pixels[24, 22]  # 20 pixels to the right are so far right and down in the original
        assert abs(np.hypot(right[0], right[1]) - 40) < 3
        downwards = pixels[34, 32] - pixels[14, 32]
        assert np.abs(downwards[:2] - [-right[1], right[0]]).max() < 3  # at a right angle, and as long
        assert abs(pixels[24, 32, 0] / 2 - 32) <= 1
        angles.append(np.degrees(np.arctan2(right[1], right[0])))
    assert -22 < min(angles) < -15
    assert 15 < max(angles) < 22


def test_corners_that_turning_leaves_have_the_mean_colour():
    image = coordinates()
    turned = [only("image", rotation=45.0)(image, 0, row) for row in range(20)]
    mean = np.asarray(image).reshape(-1, 3).mean(0)
    corners = {turned_image.getpixel((0, 0)) for turned_image in turned}
    assert min(np.abs(np.array(corner) - mean).max() for corner in corners) <= 1


def test_colour_is_brightness_contrast_and_saturation():
    image, augment = photo(), only("image", color=0.2)
    pixels = np.asarray(image).astype(float)
    for row in range(20):
        draws = np.random.default_rng((3, 0, row)).random(9)[6:]
        brightness, contrast, saturation = 1 + 0.2 * (2 * draws - 1)
        expected = brightness * pixels
        mean = (expected @ LUMA).mean()
        expected = mean + contrast * (expected - mean)
        grey = (expected @ LUMA)[..., None]
        expected = np.clip(grey + saturation * (expected - grey), 0, 255)
        assert np.abs(np.asarray(augment(image, 0, row)) - expected).max() < 1.5  # the mean colour is rounded


def test_a_large_photo_is_halved_before_it_is_turned():
    image = Image.new("RGB", (2000, 1600), (10, 20, 30))
    assert only("image", rotation=5.0)(image, 0, 0).size == (1000, 800)
    assert only("image", flip=1.0, color=0.1)(image, 0, 0).size == (2000, 1600)


def test_one_change_does_not_move_the_others():
    image = photo()
    both = only("image", color=0.2, flip=1.0)(image, 0, 4)
    assert np.array_equal(np.asarray(both), np.asarray(only("image", color=0.2)(image, 0, 4))[:, ::-1])


def test_an_unreadable_image_or_clip_says_so():
    with pytest.raises(UnreadableValueError, match="not a readable JPEG"):
        Augmentation("image", Augment(), 0)(b"nothing", 0, 0)
    with pytest.raises(UnreadableValueError, match="not a readable wav"):
        Augmentation("audio", Augment(), 0)(b"nothing", 0, 0)


def test_the_default_keeps_a_photo_recognisable():
    image = photo(160, 160)
    before = np.asarray(decode_image(image)).astype(float).mean((0, 1))
    for row in range(20):
        after = np.asarray(Augmentation("image", Augment(), 0)(image, 0, row)).astype(float).mean((0, 1))
        assert np.abs(after - before).max() < 60


# --- text ---


def test_words_are_left_out_at_their_rate_in_order():
    words = [f"w{index}" for index in range(50)]
    results = [only("text", token_dropout=0.2)(" ".join(words), 0, row).split() for row in ROWS]
    assert all(result == [word for word in words if word in set(result)] for result in results)
    assert abs(np.mean([len(result) for result in results]) / 50 - 0.8) < 0.02


def test_a_text_never_loses_all_its_words_nor_always_keeps_the_same():
    results = [only("text", token_dropout=0.99)("one two three", 0, row) for row in ROWS]
    assert set(results) >= {"one", "two", "three"}
    assert "" not in results
    assert only("text", token_dropout=0.99)("one", 0, 0) == "one"


def test_a_text_that_keeps_its_words_keeps_its_spaces():
    text = "  two\twords "
    results = {only("text", token_dropout=0.1)(text, 0, row) for row in ROWS}
    assert results == {text, "two", "words"}


@pytest.mark.parametrize("raw", ["   ", 7])
def test_what_has_no_words_is_left_to_the_preprocessor(raw):
    assert Augmentation("text", Augment(), 0)(raw, 0, 0) is raw


# --- audio ---


def test_audio_comes_back_as_a_waveform_that_the_preprocessor_takes():
    waveform, rate = Augmentation("audio", Augment(), 0)(RAW["audio"], 0, 0)
    assert (waveform.dtype, waveform.ndim, rate) == (np.float32, 1, RATE)
    assert AudioPreprocessor(RATE)((waveform, rate))["waveform"].shape == waveform.shape


def test_gain_scales_up_to_its_decibels():
    original = clip()
    factors = []
    for row in ROWS:
        changed, _ = only("audio", gain=6.0)((original, RATE), 0, row)
        factors.append(changed[0] / original[0])
        assert_close(changed, factors[-1] * original)
    decibels = 20 * np.log10(factors)
    assert -6.001 <= decibels.min() < -5
    assert 5 < decibels.max() <= 6.001


def test_shift_puts_silence_before_or_after_and_loses_nothing():
    original = clip()
    before = []
    for row in ROWS:
        changed, _ = only("audio", shift=0.1)((original, RATE), 0, row)
        silence = len(changed) - len(original)
        at_start = silence == 0 or changed[0] == 0
        kept, padding = (changed[silence:], changed[:silence]) if at_start else np.split(changed, [len(original)])
        assert np.array_equal(kept, original)
        assert not padding.any()
        before.append(silence if at_start else -silence)
    assert -0.1 * RATE <= min(before) < -0.08 * RATE
    assert 0.08 * RATE < max(before) <= 0.1 * RATE


def test_noise_has_at_most_its_loudness_and_is_white():
    silence = np.zeros(RATE, np.float32)
    noises = np.stack([only("audio", noise=0.01)((silence, RATE), 0, row)[0] for row in ROWS])
    loudness = np.sqrt((noises**2).mean(1))
    assert loudness.max() < 0.0105
    assert loudness.max() > 0.009 > 0.001 > loudness.min()
    power = (np.abs(np.fft.rfft(noises)) ** 2).mean(0)[:-1].reshape(8, -1).mean(1)
    assert power.max() / power.min() < 1.2


def test_speed_changes_length_and_pitch():
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    lengths = []
    for row in range(40):
        changed, rate = only("audio", speed=0.1)((tone, RATE), 0, row)
        pitch = np.abs(np.fft.rfft(changed * np.hanning(len(changed)))).argmax() * rate / len(changed)
        assert rate == RATE
        assert abs(pitch - 1000 * RATE / len(changed)) < 2
        lengths.append(len(changed) / RATE)
    assert 1 / 1.101 < min(lengths) < 0.95
    assert 1.05 < max(lengths) < 1 / 0.899


@pytest.mark.parametrize("samples", [1, 2, 255, 256, 257, 3999])
def test_masks_of_nothing_rebuild_the_waveform(samples):
    original = clip(1.0)[:samples]
    band = mask_spectrogram(original, RATE, (0.0, 0.0), (1 / 129, 1.0))  # the highest of 129 bins alone
    assert band.shape == original.shape
    low = np.sin(np.arange(samples) / 20).astype(np.float32)
    inside = slice(256, -256)  # the ends are cut as by a window
    rebuilt = mask_spectrogram(low, RATE, (0.0, 0.0), (1 / 129, 1.0))
    assert_close(rebuilt[inside], low[inside], "four digits")
    assert mask_spectrogram(original, RATE, (0.0, 0.0), (0.0, 0.0)) is original


def test_a_time_mask_silences_one_span_of_its_share_and_nothing_else():
    original = clip(2.0)
    masked = mask_spectrogram(original, RATE, (0.25, 0.5), (0.0, 0.0))
    silent = np.flatnonzero(masked == 0)
    assert 0.2 < len(silent) / len(original) <= 0.25
    assert (np.diff(silent) == 1).all()
    assert abs(silent.mean() / len(original) - 0.5) < 0.02
    untouched = np.abs(np.arange(len(original)) - len(original) / 2) > 0.125 * len(original) + 256
    assert_close(masked[untouched], original[untouched], "six digits")


def test_a_frequency_mask_silences_one_band():
    masked = mask_spectrogram(clip(2.0), RATE, (0.0, 0.0), (0.25, 0.5))
    power = np.abs(np.fft.rfft(masked)) ** 2
    hertz = np.fft.rfftfreq(len(masked), 1 / RATE)
    inside = (hertz > 1600) & (hertz < 2400)
    outside = (hertz < 1400) | (hertz > 2600)
    assert power[inside].mean() < 1e-3 * power[outside].mean()


def test_both_masks_stay_within_their_shares():
    spans, bands = [], []
    for row in ROWS:
        spans.append(np.mean(only("audio", time_mask=0.3)((clip(), RATE), 0, row)[0] == 0))
        spectrum = np.abs(np.fft.rfft(only("audio", frequency_mask=0.3)((clip(), RATE), 0, row)[0])) ** 2
        chunks = spectrum[:-1].reshape(100, -1).mean(1)
        bands.append(np.mean(chunks < 0.02 * np.median(chunks)))
    assert max(spans) <= 0.3
    assert max(spans) > 0.2
    assert max(bands) <= 0.3
    assert max(bands) > 0.2
    assert min(spans) == min(bands) == 0


def test_a_clip_of_the_longest_length_stays_readable():
    longest = (np.zeros(MAX_SECONDS * RATE, np.float32), RATE)
    changed = [only("audio", speed=0.2, shift=1.0)(longest, 0, row) for row in range(4)]
    assert max(len(waveform) for waveform, _ in changed) == MAX_SECONDS * RATE
    for value in changed:
        AudioPreprocessor(RATE, max_seconds=60.0)(value)


def test_a_single_sample_survives():
    for row in range(20):
        waveform, rate = Augmentation("audio", Augment(), 0)((np.ones(1, np.float32), RATE), 0, row)
        assert len(waveform) >= 1
        assert np.isfinite(waveform).all()
        assert rate == RATE
