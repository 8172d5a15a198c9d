import json
import logging
import shutil

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.assertions import assert_close
from support.audio_checkpoints import AUDIO_MODELS, audio_config, feature_extractor, write_audio_model

from encoders import create_encoder
from encoders.audio.transformers import transformers_audio
from encoders.testing import check_encoder

LENGTHS = (3200, 2017, 5000)
SPEECH = [kind for kind in AUDIO_MODELS if kind.partition("-")[0] in ("wav2vec2", "hubert", "wavlm")]
SPECTROGRAMS = [kind for kind in AUDIO_MODELS if kind not in SPEECH]


def noise(lengths=LENGTHS) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(length) + 0.02).astype(np.float32) for length in lengths]


def stacked(encoder, waveforms) -> dict[str, torch.Tensor]:
    arrays = encoder.preprocessor.stack([encoder.preprocessor((waveform, 16000)) for waveform in waveforms])
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@torch.no_grad()
def encode(encoder, waveforms=None):
    return encoder.eval()(stacked(encoder, noise() if waveforms is None else waveforms))


@torch.no_grad()
def originals(model, extractor) -> list[torch.Tensor]:
    """Hidden states that transformers gives for each clip alone, ``[l d]``."""
    outputs = []
    for waveform in noise():
        features = extractor(waveform, sampling_rate=16000, return_tensors="pt")
        hidden = model(features[extractor.model_input_names[0]]).last_hidden_state
        outputs.append((hidden if hidden.ndim == 3 else hidden.flatten(2).transpose(1, 2))[0])
    return outputs


def encoder_of(model):
    """Of Whisper, the encoder; else the model."""
    return model.get_encoder() if model.config.is_encoder_decoder else model


# --- the same as transformers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", AUDIO_MODELS)
def test_tokens_of_a_padded_batch_are_the_hidden_states_of_each_clip_alone(kind, tmp_path):
    model = write_audio_model(tmp_path, kind)
    tokens, mask = encode(create_encoder(f"transformers/{tmp_path}"))
    for row, expected in enumerate(originals(encoder_of(model), feature_extractor(kind))):
        assert expected.std() > 0.1
        if kind in SPEECH:
            tokens_of_row = tokens[row][mask[row]]
            assert len(tokens_of_row) == len(expected)
        else:
            tokens_of_row = tokens[row]  # those of the silence that fills it up, too
        assert_close(tokens_of_row, expected, "hidden states")


def test_the_mean_of_clap_s_tokens_is_its_pooled_output(tmp_path):
    model = write_audio_model(tmp_path, "clap")
    tokens, mask = encode(create_encoder(f"transformers/{tmp_path}"))
    features = feature_extractor("clap")(noise(), sampling_rate=16000, return_tensors="pt")["input_features"]
    assert mask.all()
    assert_close(tokens.mean(dim=1), model(features).pooler_output, "hidden states")


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("wav2vec2", "ForCTC"),
        ("wav2vec2-large", "ForPreTraining"),
        ("hubert", "ForSequenceClassification"),
        ("wavlm", "ForXVector"),
        ("ast", "ForAudioClassification"),
        ("whisper", "ForConditionalGeneration"),
        ("whisper", "ForAudioClassification"),
    ],
)
def test_a_model_with_a_head_gives_its_encoder(kind, head, tmp_path):
    whole = write_audio_model(tmp_path, kind, head=head)
    encoder = create_encoder(f"transformers/{tmp_path}")
    original = whole.get_encoder() if kind == "whisper" else whole.base_model
    tokens, mask = encode(encoder)
    for row, expected in enumerate(originals(original, feature_extractor(kind))):
        assert_close(tokens[row][mask[row]] if kind in SPEECH else tokens[row], expected, "hidden states")
    names = {name for name, _ in encoder.named_parameters()}
    unwanted = ("masked_spec", "quantizer", "project_", "lm_head", "classifier", "decoder", "embed_positions")
    assert not [name for name in names if any(part in name for part in unwanted)]


def test_what_stood_for_masked_frames_is_removed_and_said(tmp_path, caplog):
    write_audio_model(tmp_path, "wavlm")
    with caplog.at_level(logging.INFO, logger="encoders.parameter_order"):
        create_encoder(f"transformers/{tmp_path}")
    assert "masked_spec_embed" in load_file(tmp_path / "model.safetensors")
    assert "masked_spec_embed" in caplog.text


def test_whisper_s_sinusoids_are_kept_and_never_trained(tmp_path):
    model = write_audio_model(tmp_path, "whisper")
    encoder = create_encoder(f"transformers/{tmp_path}")
    assert torch.equal(encoder.state_dict()["model.embed_positions.weight"], model.encoder.embed_positions.weight)
    assert "model.embed_positions.weight" not in dict(encoder.named_parameters())


# --- a model of two towers ---------------------------------------------------------------------------------------


def write_clap(folder):
    text = {"vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes = {"intermediate_size": 8, "max_position_embeddings": 8}
    config = transformers.ClapConfig(text_config={**text, **sizes}, audio_config=audio_config("clap").to_dict())
    torch.manual_seed(0)
    model = transformers.ClapModel(config).eval()
    model.save_pretrained(folder)
    feature_extractor("clap").save_pretrained(folder)
    return model


def test_the_audio_tower_of_clap_is_chosen(tmp_path):
    model = write_clap(tmp_path)
    encoder = create_encoder(f"transformers/{tmp_path}", tower="audio")
    tokens, _ = encode(encoder)
    for row, expected in enumerate(originals(model.audio_model, feature_extractor("clap"))):
        assert_close(tokens[row], expected, "hidden states")
    assert all(name.startswith("model.audio_encoder.") for name, _ in encoder.named_parameters())
    rebuilt = create_encoder(encoder.name, weights=None, **encoder.architecture())  # the tower alone, needing no name
    rebuilt.load_state_dict(encoder.state_dict())
    assert_close(encode(rebuilt)[0], tokens, "float32")


# --- lengths -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "seconds"), [("whisper", 1.0), ("ast", (125 * 160 + 400) / 16000), ("clap", 1.0)])
def test_clips_longer_than_the_model_reads_are_cut_and_said(kind, seconds, tmp_path, caplog):
    write_audio_model(tmp_path, kind)
    encoder = create_encoder(f"transformers/{tmp_path}")
    with caplog.at_level(logging.INFO, logger="encoders.preprocessing.audio"):
        tokens, mask = encode(encoder, noise([32000]))
    assert f"a clip of 2.0 s is cut to {seconds:.1f} s" in caplog.text
    assert mask.all()
    assert tokens.isfinite().all()
    with pytest.raises(ValueError, match=rf"max_seconds is 2, .* reads {seconds:g} s; give at most that"):
        create_encoder(f"transformers/{tmp_path}", max_seconds=2)


def test_fewer_seconds_may_be_used(tmp_path):
    write_audio_model(tmp_path / "whisper", "whisper")
    encoder = create_encoder(f"transformers/{tmp_path / 'whisper'}", max_seconds=0.5)
    assert encode(encoder, noise([32000]))[1].sum() == 25
    write_audio_model(tmp_path / "hubert", "hubert")
    encoder = create_encoder(f"transformers/{tmp_path / 'hubert'}", max_seconds=0.5)
    assert len(encoder.preprocessor((noise([32000])[0], 16000))["waveform"]) == 8000
    default = create_encoder(f"transformers/{tmp_path / 'hubert'}")
    assert default.preprocessor.max_seconds == 15


def test_the_rate_is_the_extractor_s(tmp_path):
    write_audio_model(tmp_path, "wav2vec2")
    feature_extractor("wav2vec2", sampling_rate=8000).save_pretrained(tmp_path)
    encoder = create_encoder(f"transformers/{tmp_path}")
    assert encoder.preprocessor.sample_rate == 8000
    assert len(encoder.preprocessor((noise([3200])[0], 16000))["waveform"]) == 1600


# --- building ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", AUDIO_MODELS)
def test_depth_goes_from_the_waveform_to_the_last_norm(kind, tmp_path):
    write_audio_model(tmp_path, kind)
    encoder = create_encoder(f"transformers/{tmp_path}", weights=None)
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    groups = [[names[id(parameter)] for parameter in group] for group in encoder.depth_groups()]
    assert sorted(name for group in groups for name in group) == sorted(names.values())
    depth = {name: index for index, group in enumerate(groups) for name in group}
    layers = [max(depth[name] for name in names.values() if f".layers.{i}." in name) for i in range(2)]
    firsts = [min(depth[name] for name in names.values() if f".layers.{i}." in name) for i in range(2)]
    stem = [name for name in names.values() if any(part in name for part in ("embed", "conv", "projection"))]
    stem = [name for name in stem if ".layers." not in name]
    assert stem
    assert max(depth[name] for name in stem) < firsts[0] <= layers[0] < firsts[1]
    if kind in ("ast", "whisper", "clap") or "large" in kind:
        assert {name.split(".")[-2] for name in groups[-1]} <= {"layernorm", "layer_norm", "norm"}


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm-large", "whisper"])
def test_no_layer_is_dropped_in_training(kind, tmp_path):
    dropping = {"encoder_layerdrop": 1.0} if kind == "whisper" else {"layerdrop": 1.0}
    write_audio_model(tmp_path, kind, **dropping)
    encoder = create_encoder(f"transformers/{tmp_path}").train()
    encoder(stacked(encoder, noise()))[0].square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.parametrize("kind", ["hubert-large", "ast"])
def test_the_architecture_is_rebuilt_without_the_folder(kind, tmp_path):
    write_audio_model(tmp_path / "model", kind)
    encoder = create_encoder(f"transformers/{tmp_path / 'model'}", max_seconds=0.6)
    expected, _ = encode(encoder)
    arguments = json.loads(json.dumps(encoder.architecture()))
    shutil.rmtree(tmp_path / "model")
    rebuilt = create_encoder(encoder.name, weights=None, **arguments)
    rebuilt.load_state_dict(encoder.state_dict())
    assert_close(encode(rebuilt)[0], expected, "float32")
    assert rebuilt.architecture() == encoder.architecture()
    assert rebuilt.preprocessor.to_config() == encoder.preprocessor.to_config()
    assert str(tmp_path) not in json.dumps(arguments)


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper", "clap"])
@pytest.mark.parametrize("form", ["model.safetensors", "encoder.safetensors", "model.bin"])
def test_weights_come_from_a_file(kind, form, tmp_path):
    write_audio_model(tmp_path / "first", kind)
    write_audio_model(tmp_path / "tuned", kind, seed=1)
    tuned = create_encoder(f"transformers/{tmp_path / 'tuned'}")
    file = tmp_path / form
    if form == "encoder.safetensors":
        save_file(tuned.state_dict(), file)
    else:
        state = load_file(tmp_path / "tuned" / "model.safetensors")
        save_file(state, file) if form == "model.safetensors" else torch.save(state, file)
    encoder = create_encoder(f"transformers/{tmp_path / 'first'}", weights=str(file))
    assert_close(encode(encoder)[0], encode(tuned)[0], "float32")
    assert encoder.provenance.weights == str(file)
    assert len(encoder.provenance.sha256) == 64


def test_random_weights_are_not_those_of_the_folder(tmp_path):
    write_audio_model(tmp_path, "ast")
    (tmp_path / "README.md").write_text("---\nlicense: bsd-3-clause\n---\n")
    random, pretrained = (create_encoder(f"transformers/{tmp_path}", weights=w) for w in (None, "pretrained"))
    assert (encode(random)[0] - encode(pretrained)[0]).abs().max() > 0.1
    assert (random.provenance.weights, pretrained.provenance.licence) == ("random", "bsd-3-clause")


def test_an_extractor_within_a_processor_is_read(tmp_path):
    write_audio_model(tmp_path, "wav2vec2")
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text()) | {"do_normalize": False}
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "processor_config.json").write_text(json.dumps({"feature_extractor": settings}))
    assert create_encoder(f"transformers/{tmp_path}").settings == {"sampling_rate": 16000, "do_normalize": False}


# --- export ------------------------------------------------------------------------------------------------------


def test_the_smallest_model_keeps_every_promise_in_onnx_too(tmp_path):
    """The others do in ``test_contract.py``, which takes longer."""
    write_audio_model(tmp_path, "whisper")
    check_encoder(create_encoder(f"transformers/{tmp_path}"))


# --- what is refused ---------------------------------------------------------------------------------------------


def test_a_folder_that_does_not_say_how_its_input_is_made_is_refused(tmp_path):
    write_audio_model(tmp_path, "wav2vec2")
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no preprocessor_config\.json, .* or give features"):
        create_encoder(f"transformers/{tmp_path}")
    given = {"sampling_rate": 16000, "do_normalize": False}
    assert create_encoder(f"transformers/{tmp_path}", features=given).settings == given


@pytest.mark.parametrize(("kind", "other"), [("wav2vec2", "whisper"), ("ast", "wav2vec2")])
def test_the_extractor_of_another_model_is_refused(kind, other, tmp_path):
    write_audio_model(tmp_path, kind)
    feature_extractor(other).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"FeatureExtractor, but the model needs a .*; take both files from one model"):
        create_encoder(f"transformers/{tmp_path}")


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("wav2vec2", {"add_adapter": True}, "a speech model with add_adapter is not supported"),
        ("hubert", {"conv_pos_batch_norm": True}, "with conv_pos_batch_norm is not supported; give one without"),
        ("clap", {"enable_fusion": True, "fusion_type": "channel_map"}, "chosen by chance"),
    ],
)
def test_parts_that_are_not_run_are_refused(kind, changes, reason, tmp_path):
    write_audio_model(tmp_path, kind, **changes)
    with pytest.raises(ValueError, match=reason):
        create_encoder(f"transformers/{tmp_path}")


def test_models_that_are_no_audio_encoders_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "num_hidden_layers": 1}')
    with pytest.raises(ValueError, match=r"is a bert model, which is no audio encoder .*wav2vec2-base"):
        transformers_audio(name=f"transformers/{tmp_path}", features={})


def test_weights_with_a_gap_are_refused(tmp_path):
    write_audio_model(tmp_path, "clap")
    state = load_file(tmp_path / "model.safetensors")
    lost = ("audio_encoder.norm.weight", "audio_encoder.batch_norm.running_mean")
    save_file({name: tensor for name, tensor in state.items() if name not in lost}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing: audio_encoder\.batch_norm\.running_mean, audio_encoder\.norm\.w"):
        create_encoder(f"transformers/{tmp_path}")


def test_weights_of_another_shape_are_refused(tmp_path):
    write_audio_model(tmp_path, "whisper")
    config = json.loads((tmp_path / "config.json").read_text()) | {"encoder_ffn_dim": 40}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"model\.safetensors do not fit its config"):
        create_encoder(f"transformers/{tmp_path}")


def test_damaged_settings_are_refused(tmp_path):
    write_audio_model(tmp_path, "ast")
    for content in ("{", "[]"):
        (tmp_path / "preprocessor_config.json").write_text(content)
        with pytest.raises(ValueError, match=r"preprocessor_config\.json: is damaged .* copy the model again"):
            create_encoder(f"transformers/{tmp_path}")


def test_looking_into_a_model_draws_no_random_numbers_and_leaves_it_in_train_mode(tmp_path):
    write_audio_model(tmp_path, "clap")
    before = torch.get_rng_state()
    encoder = create_encoder(f"transformers/{tmp_path}")
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in encoder.modules())


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm-large"])
def test_checkpoints_from_before_parametrizations_are_read(kind, tmp_path):
    write_audio_model(tmp_path, kind, head="ForCTC")
    expected, _ = encode(create_encoder(f"transformers/{tmp_path}"))
    state = load_file(tmp_path / "model.safetensors")
    renamed = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    old = {}
    for name, tensor in state.items():
        for new, before in renamed.items():
            name = name.replace(new, before)
        old[name] = tensor
    assert sum(name.endswith(("weight_g", "weight_v")) for name in old) == 2
    (tmp_path / "model.safetensors").unlink()
    torch.save(old, tmp_path / "pytorch_model.bin")
    assert_close(encode(create_encoder(f"transformers/{tmp_path}"))[0], expected, "float32")


def test_ast_checkpoints_with_the_names_of_their_first_version_are_read(tmp_path):
    write_audio_model(tmp_path, "ast")
    expected, _ = encode(create_encoder(f"transformers/{tmp_path}"))
    old = {
        "attention.q_proj": "attention.attention.query",
        "attention.k_proj": "attention.attention.key",
        "attention.v_proj": "attention.attention.value",
        "attention.o_proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    state = {}
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        for new, before in old.items():
            name = name.replace(f".{new}.", f".{before}.")
        name = name if not name.startswith("layers.") else f"encoder.layer.{name.removeprefix('layers.')}"
        state[f"audio_spectrogram_transformer.{name}"] = tensor
    save_file(state, tmp_path / "model.safetensors")
    assert_close(encode(create_encoder(f"transformers/{tmp_path}"))[0], expected, "float32")
