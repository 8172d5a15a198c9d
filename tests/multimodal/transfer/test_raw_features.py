import numpy as np
import pytest

from multimodal.transfer.raw_features import BANDS, SAMPLE_RATE, RawFeatures, mel_bands


def test_an_image_is_its_thumbnail_and_how_often_each_colour_occurs():
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32] = (255, 0, 0)
    features = RawFeatures("image", ())(pixels)["features"]
    thumbnail, colours = features[:192].reshape(3, 8, 8), features[192:].reshape(4, 4, 4)
    assert thumbnail[0, :4].min() == 1.0
    assert thumbnail[1:].max() == thumbnail[0, 4:].max() == 0.0
    assert (colours[3, 0, 0], colours[0, 0, 0]) == (0.5, 0.5)


def test_a_text_is_its_words_weighted_by_how_rare_they_are():
    reader = RawFeatures("text", ["red apple", "red pear", "red"])
    features = reader("red pear")["features"]
    vocabulary = reader._read._vectorizer.vocabulary_
    assert features[vocabulary["pear"]] > features[vocabulary["red"]] > features[vocabulary["apple"]] == 0.0
    assert RawFeatures("text", ["..."])("!")["features"].tolist() == [0.0]


def test_a_vocabulary_is_bounded():
    assert RawFeatures("text", [f"w{number}" for number in range(900)]).dim == 500


def test_a_tone_is_loudest_in_its_band():
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    features = RawFeatures("audio", ())((np.sin(2 * np.pi * 1000 * time), SAMPLE_RATE))["features"]
    centres = mel_bands().argmax(axis=0) * SAMPLE_RATE / 400
    assert abs(centres[features[:BANDS].argmax()] - 1000) < 100
    assert np.isfinite(features).all()


def test_a_missing_value_is_zeros():
    for modality in ("image", "text", "audio"):
        reader = RawFeatures(modality, ["red"])
        assert not reader.blank()["features"].any()
        assert reader.stack([reader.blank()] * 2)["features"].shape == (2, reader.dim)


def test_a_modality_without_raw_features_is_refused():
    with pytest.raises(ValueError, match="no raw features of the modality 'smell'; give image, text, audio"):
        RawFeatures("smell", ())


def test_raw_features_are_never_saved():
    with pytest.raises(TypeError, match="are a baseline of `multimodal transfer-check`"):
        RawFeatures("text", ()).to_config()
