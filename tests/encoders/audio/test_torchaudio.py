import builtins
import json
import math

import numpy as np
import pytest
import torch
import torchaudio
from support.assertions import assert_close
from support.checkpoints import SPEECH, enlarge

from encoders import create_encoder, find_encoder, list_encoders
from encoders.audio.masked import masked_normalize, shortest_input

NAMES = [info.name for info in list_encoders("audio") if info.source == "torchaudio"]
BASE, LARGE = "torchaudio/wav2vec2_base", "torchaudio/wav2vec2_large_lv60k"
WAVLM_LARGE = "torchaudio/wavlm_large"
LENGTHS = (3200, 2017, 5000)


def bundle(name: str):
    return getattr(torchaudio.pipelines, name.removeprefix("torchaudio/").upper())


def original(name: str, seed: int = 0):
    """torchaudio's own tiny model of that bundle's kind."""
    torch.manual_seed(seed)
    build = torchaudio.models.wavlm_model if "wavlm" in name else torchaudio.models.wav2vec2_model
    model = build(**{**bundle(name)._params, **SPEECH, "aux_num_out": None})
    enlarge(model, 3.0)
    return model.eval().double()  # so that only what is computed differs, not what is rounded


def tiny(name: str, model, tmp_path, **options):
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    return create_encoder(name, weights=tmp_path / "weights.pt", model=SPEECH, **options).eval().double()


def noise(lengths=LENGTHS, seed=0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(0.1 * rng.standard_normal(length) + 0.02).astype(np.float32) for length in lengths]


def stacked(encoder, waveforms) -> dict[str, torch.Tensor]:
    arrays = encoder.preprocessor.stack([encoder.preprocessor((waveform, 16000)) for waveform in waveforms])
    precision = next(encoder.parameters()).dtype
    return {
        "waveform": torch.from_numpy(arrays["waveform"]).to(precision),
        "waveform_mask": torch.from_numpy(arrays["waveform_mask"]),
    }


# --- the same as torchaudio --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [BASE, "torchaudio/hubert_base", "torchaudio/wavlm_base", WAVLM_LARGE])
def test_each_row_of_a_batch_has_the_features_of_torchaudio_s_model_on_it_alone(name, tmp_path):
    model = original(name)
    encoder = tiny(name, model, tmp_path)
    encoder.normalize_waveform = False  # torchaudio does it outside its model
    waveforms = noise()
    with torch.no_grad():
        tokens, mask = encoder(stacked(encoder, waveforms))
        for row, waveform in enumerate(waveforms):
            expected = model(torch.from_numpy(waveform).double()[None])[0][0]
            assert mask[row].sum() == len(expected)
            assert tokens[row][mask[row]].std() > 0.1
            assert_close(tokens[row][mask[row]], expected, "float64")


def test_a_layer_norm_model_agrees_with_torchaudio_on_a_padded_batch(tmp_path):
    model = original(LARGE)
    encoder = tiny(LARGE, model, tmp_path)
    encoder.normalize_waveform = False  # torchaudio normalises the whole batch at once
    inputs = stacked(encoder, noise())
    lengths = inputs["waveform_mask"].sum(dim=1)
    with torch.no_grad():
        tokens, mask = encoder(inputs)
        expected, frames = model(inputs["waveform"], lengths)
        before_the_last_norm = model.extract_features(inputs["waveform"], lengths)[0][-1]
    assert mask.sum(dim=1).tolist() == frames.tolist()
    assert_close(tokens[mask], expected[mask], "float64")
    assert_close(tokens[mask], model.encoder.transformer.layer_norm(before_the_last_norm)[mask], "float64")


def test_waveforms_are_normalised_as_the_bundle_does(tmp_path):
    from torchaudio.pipelines._wav2vec2.utils import _extend_model

    model = original(LARGE)
    encoder = tiny(LARGE, model, tmp_path)
    waveforms = noise()
    with torch.no_grad():
        tokens, mask = encoder(stacked(encoder, waveforms))
        for row, waveform in enumerate(waveforms):
            expected, _ = _extend_model(model, normalize_waveform=True)(torch.from_numpy(waveform).double()[None])
            assert_close(tokens[row][mask[row]], expected[0], "float64")
    assert not create_encoder(BASE, weights=None, model=SPEECH).normalize_waveform


def test_normalising_counts_only_what_is_real():
    x = torch.tensor([[[1.0, 3.0, 100.0]], [[2.0, 2.0, 2.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    expected = 1 / math.sqrt(1 + 1e-5)
    assert_close(masked_normalize(x, mask)[0, 0, :2], [-expected, expected], "float32")
    assert_close(masked_normalize(x, mask)[1, 0], [0.0, 0.0, 0.0], "float32")


def test_half_precision_holds_the_statistics_of_long_clips():
    x = torch.from_numpy(noise([240000])[0])[None, None]
    mask = torch.arange(240000)[None] < 200000
    half = masked_normalize(x.half(), mask)[0, 0, :200000].float()
    full = masked_normalize(x, mask)[0, 0, :200000]
    assert (half - full).abs().max() < 0.02


# --- lengths -----------------------------------------------------------------------------------------------------


def test_the_shortest_clip_has_one_token():
    encoder = create_encoder(BASE, weights=None)
    assert (
        shortest_input(encoder.feature_extractor.conv_layers) == 400
    )  # 25 ms, https://arxiv.org/abs/2006.11477, section 4.2
    encoder = create_encoder(
        BASE, weights=None, model={**SPEECH, "extractor_conv_layer_config": [[8, 5000, 320]], "encoder_num_layers": 1}
    )
    blank = encoder.preprocessor.blank()
    assert len(blank["waveform"]) == 5000
    tokens, mask = encoder.eval()(stacked(encoder, [blank["waveform"]]))
    assert mask.tolist() == [[True]]
    assert tokens.isfinite().all()


def test_long_clips_are_cut():
    encoder = create_encoder(BASE, weights=None, model=SPEECH, max_seconds=0.25)
    assert len(encoder.preprocessor((np.zeros(16000, np.float32), 16000))["waveform"]) == 4000
    default = create_encoder(BASE, weights=None, model=SPEECH)
    assert len(default.preprocessor((np.zeros(16 * 16000, np.float32), 16000))["waveform"]) == 15 * 16000


# --- building ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [BASE, LARGE, WAVLM_LARGE])
def test_depth_goes_from_the_first_convolution_to_the_last_norm(name):
    encoder = create_encoder(name, weights=None, model=SPEECH)
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    groups = [[names[id(parameter)] for parameter in group] for group in encoder.depth_groups()]
    convolutions, projection = groups[:5], groups[5]
    assert all(f"conv_layers.{index}." in entry for index, group in enumerate(convolutions) for entry in group)
    assert {entry.split(".")[1] for entry in projection} == {"feature_projection", "transformer"}
    assert all(".layers.0." in entry for entry in groups[6])
    assert all(".layers.1." in entry for entry in groups[7])
    norm = "encoder.transformer.layer_norm.weight"
    assert norm in (projection if name == BASE else groups[8])
    assert sorted(entry for group in groups for entry in group) == sorted(names.values())


def test_no_layer_is_dropped_in_training():
    encoder = create_encoder(BASE, weights=None, model={**SPEECH, "encoder_layer_drop": 1.0}).train()
    encoder(stacked(encoder, noise()))[0].square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_the_architecture_is_rebuilt(tmp_path):
    encoder = tiny(LARGE, original(LARGE), tmp_path, max_seconds=2)
    rebuilt = create_encoder(LARGE, weights=None, **json.loads(json.dumps(encoder.architecture()))).eval().double()
    rebuilt.load_state_dict(encoder.state_dict())
    inputs = stacked(rebuilt, noise())
    assert_close(rebuilt(inputs)[0], encoder(inputs)[0], "float32")
    assert rebuilt.preprocessor.to_config() == encoder.preprocessor.to_config()
    assert set(encoder.architecture()["model"]) == set(bundle(LARGE)._params)  # nothing is left to a default


def test_pretrained_weights_come_from_torch_s_cache_and_may_hold_a_classifier(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "torchaudio/wav2vec2_asr_base_960h"
    model = original(name)
    file = tmp_path / "hub" / "checkpoints" / bundle(name)._path
    file.parent.mkdir(parents=True)
    torch.save({**model.state_dict(), "aux.weight": torch.zeros(32, 32), "aux.bias": torch.zeros(32)}, file)
    encoder = create_encoder(name, model=SPEECH)
    loaded, expected = (module.encoder.feature_projection.projection.weight for module in (encoder, model))
    assert torch.equal(loaded, expected.float())
    assert (encoder.provenance.weights, encoder.provenance.licence) == ("pretrained", "MIT")


def test_state_dicts_from_before_parametrizations_are_read(tmp_path):
    model = original(BASE)
    state = model.state_dict()
    conv = "encoder.transformer.pos_conv_embed.conv."
    for index, old in enumerate(("weight_g", "weight_v")):
        state[conv + old] = state.pop(f"{conv}parametrizations.weight.original{index}")
    torch.save(state, tmp_path / "old.pt")
    encoder = create_encoder(BASE, weights=tmp_path / "old.pt", model=SPEECH)
    loaded, expected = (module.encoder.transformer.pos_conv_embed.conv.weight for module in (encoder, model))
    assert_close(loaded, expected, "float32")


def test_an_unknown_argument_of_the_model_is_refused():
    with pytest.raises(ValueError, match=r"model has no argument width; there are extractor_mode, "):
        create_encoder(BASE, weights=None, model={"width": 3})


@pytest.mark.parametrize("error", [ImportError("libtorchaudio.so"), RuntimeError("CUDA 13.2"), OSError("symbol")])
def test_a_torchaudio_for_another_torch_is_one_line(error, monkeypatch):
    importing = builtins.__import__

    def failing(name, *args, **kwargs):
        if name.startswith("torchaudio"):
            raise error
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", failing)
    with pytest.raises(ImportError, match=r"torchaudio cannot be used beside torch .*pip install 'multimodal-transfer"):
        create_encoder(BASE, weights=None, model=SPEECH)


def test_the_catalogue_agrees_with_torchaudio_s_bundles():
    pipelines = torchaudio.pipelines
    bundles = {name: value for name, value in vars(pipelines).items() if isinstance(value, pipelines.Wav2Vec2Bundle)}
    free = {
        f"torchaudio/{name.lower()}"
        for name, value in bundles.items()
        if "CC BY-NC" not in value.__doc__ and "CC-BY-NC" not in value.__doc__
    }
    assert set(NAMES) == free
    for name in NAMES:
        bundle = bundles[name.removeprefix("torchaudio/").upper()]
        assert bundle._params["encoder_embed_dim"] == find_encoder(name).embed_dim
        assert "MIT License" in bundle.__doc__


SLOW = [pytest.param(name, marks=[pytest.mark.slow] * (name != BASE)) for name in NAMES]


@pytest.mark.parametrize("name", SLOW)
def test_the_catalogue_knows_the_parameters_of_every_bundle(name):
    with torch.device("meta"):
        encoder = create_encoder(name, weights=None)
    assert find_encoder(name).parameters == sum(parameter.numel() for parameter in encoder.parameters())
