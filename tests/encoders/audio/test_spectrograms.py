import numpy as np
import pytest
import torch
import transformers
from support.assertions import assert_close
from support.audio_checkpoints import audio_config, feature_extractor

from encoders.audio.spectrograms import AstSpectrogram, ClapSpectrogram, WhisperSpectrogram


def tone(length: int, rate: int = 16000) -> np.ndarray:
    """A loud tone, and noise 50 dB below it, around a level that is not zero."""
    time, noise = np.arange(length) / rate, np.random.default_rng(length).standard_normal(length)
    return (0.3 * np.sin(2 * np.pi * 300 * time) + 1e-3 * noise + 0.01).astype(np.float32)


def batch(waveforms: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded with what must not matter, and the mask."""
    size = max(len(waveform) for waveform in waveforms) + 7
    padded = np.stack([np.pad(waveform, (0, size - len(waveform)), constant_values=9.0) for waveform in waveforms])
    mask = np.arange(size) < np.array([[len(waveform)] for waveform in waveforms])
    return torch.from_numpy(padded), torch.from_numpy(mask)


def agree(spectrogram, extractor, lengths, scale: float = 1.0) -> None:
    rate = extractor.sampling_rate
    waveforms = [tone(length, rate) for length in lengths]
    actual = spectrogram(*batch(waveforms))
    for row, waveform in enumerate(waveforms):
        features = extractor(waveform, sampling_rate=rate, return_tensors="np")
        expected = features[extractor.model_input_names[0]][0]
        assert expected.std() > 0.02
        assert_close(actual[row] * scale, expected * scale, "log mel")


# --- the same as the feature extractors of transformers ----------------------------------------------------------


def test_kaldi_s_filterbank_is_that_of_the_extractor():
    extractor = transformers.ASTFeatureExtractor()
    spectrogram = AstSpectrogram(extractor.to_dict(), transformers.ASTConfig())
    assert spectrogram.max_samples == 1023 * 160 + 400
    agree(spectrogram, extractor, [16000, 5001, 400, spectrogram.max_samples])


def test_a_filterbank_may_stay_as_it_is():
    extractor = feature_extractor("ast", do_normalize=False)
    agree(AstSpectrogram(extractor.to_dict(), audio_config("ast")), extractor, [16000, 5001])


@pytest.mark.parametrize("bands", [80, 128])
def test_whisper_s_log_mel_is_that_of_the_extractor(bands):
    extractor = transformers.WhisperFeatureExtractor(feature_size=bands)
    spectrogram = WhisperSpectrogram(extractor.to_dict(), transformers.WhisperConfig(num_mel_bins=bands))
    assert spectrogram.max_samples == 30 * 16000
    agree(spectrogram, extractor, [16000, 5001, 30 * 16000])


def test_clap_s_decibels_are_those_of_the_extractor():
    settings = {"frequency_min": 50, "truncation": "rand_trunc"}  # of laion/clap-htsat-unfused
    extractor = transformers.ClapFeatureExtractor(**settings)
    spectrogram = ClapSpectrogram(extractor.to_dict(), transformers.ClapAudioConfig())
    agree(spectrogram, extractor, [48000, 170001, 480000], scale=0.1)  # a decibel is a tenth of a decimal logarithm


@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
def test_short_clips_are_filled_up_as_the_extractor_does(padding):
    extractor = feature_extractor("clap", padding=padding)
    spectrogram = ClapSpectrogram(extractor.to_dict(), audio_config("clap"))
    agree(spectrogram, extractor, [1600, 7001, 16000], scale=0.1)


def test_silence_is_finite():
    for spectrogram in (
        AstSpectrogram(feature_extractor("ast").to_dict(), audio_config("ast")),
        WhisperSpectrogram(feature_extractor("whisper").to_dict(), audio_config("whisper")),
        ClapSpectrogram(feature_extractor("clap").to_dict(), audio_config("clap")),
    ):
        for mask in (torch.ones(1, 1600, dtype=torch.bool), torch.zeros(1, 1600, dtype=torch.bool)):
            assert spectrogram(torch.zeros(1, 1600), mask).isfinite().all()


# --- which tokens are real ---------------------------------------------------------------------------------------


def test_whisper_s_tokens_are_real_for_each_begun_20_ms():
    spectrogram = WhisperSpectrogram(feature_extractor("whisper").to_dict(), audio_config("whisper"))
    _, mask = batch([tone(length) for length in (1, 320, 321, 16000)])
    assert spectrogram.real_tokens(mask, torch.zeros(4, 50, 3)).sum(dim=1).tolist() == [1, 1, 2, 50]


def test_ast_s_patches_are_real_where_they_hold_a_frame():
    spectrogram = AstSpectrogram(feature_extractor("ast").to_dict(), audio_config("ast"))
    # 126 frames make 12 patches a row, 10 frames apart; 32 bands make 2 rows
    _, mask = batch([tone(length) for length in (400, 400 + 9 * 160, 400 + 10 * 160, 400 + 125 * 160)])
    real = spectrogram.real_tokens(mask, torch.zeros(4, 2 + 2 * 12, 3))
    assert real.sum(dim=1).tolist() == [4, 4, 6, 26]
    assert real[2].nonzero()[:, 0].tolist() == [0, 1, 2, 3, 14, 15]


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spectrogram", "kind", "changes", "reason"),
    [
        (AstSpectrogram, "ast", {"max_length": 100}, r"max_length is 100, but the model needs 126"),
        (AstSpectrogram, "ast", {"num_mel_bins": 64}, r"num_mel_bins is 64, but the model needs 32"),
        (WhisperSpectrogram, "whisper", {"feature_size": 80}, r"feature_size is 80, but the model needs 20"),
        (WhisperSpectrogram, "whisper", {"chunk_length": 30}, r"frames in chunk_length is 3000, .* needs 100"),
        (WhisperSpectrogram, "whisper", {"dither": 0.1}, r"dither is 0\.1, but the model needs 0\.0"),
        (ClapSpectrogram, "clap", {"feature_size": 64}, r"feature_size is 64, but the model needs 16"),
        (ClapSpectrogram, "clap", {"truncation": "fusion"}, r"chosen by chance .* laion/clap-htsat-unfused"),
        (ClapSpectrogram, "clap", {"padding": "loop"}, r"padding is 'loop'; give pad, repeat or repeatpad"),
    ],
)
def test_settings_that_do_not_suit_the_model_are_refused(spectrogram, kind, changes, reason):
    with pytest.raises(ValueError, match=reason):
        spectrogram({**feature_extractor(kind).to_dict(), **changes}, audio_config(kind))


def test_a_clap_with_fusion_is_refused():
    with pytest.raises(ValueError, match="chosen by chance"):
        ClapSpectrogram(feature_extractor("clap").to_dict(), audio_config("clap", enable_fusion=True))
