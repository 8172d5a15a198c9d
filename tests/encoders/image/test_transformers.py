import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.assertions import assert_close
from support.image_checkpoints import IMAGE_MODELS, TWO_TOWERS, image_config, processor, write_image_model

from encoders import create_encoder


def photos() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((40, 48), (37, 37), (90, 56))]


def encode(encoder):
    batch = encoder.preprocessor.stack([encoder.preprocessor(photo) for photo in photos()])
    with torch.no_grad():
        return encoder.eval()({"pixels": torch.from_numpy(batch["pixels"])})


@pytest.mark.parametrize("kind", [*IMAGE_MODELS, *TWO_TOWERS])
def test_tokens_are_the_hidden_states_of_transformers_on_what_its_processor_gives(kind, tmp_path):
    model = write_image_model(tmp_path, kind)
    tower = {"tower": "image"} if kind in TWO_TOWERS else {}
    encoder = create_encoder(f"transformers/{tmp_path}", **tower)
    pixels = torch.from_numpy(encoder.preprocessor.stack([encoder.preprocessor(photo) for photo in photos()])["pixels"])
    given = np.stack([processor(kind)(photo)["pixel_values"][0] for photo in photos()])
    assert_close(encoder.normalize(pixels), given, "float32")

    with torch.no_grad():  # in float64, so that only what is computed differs, not what is rounded
        tokens, mask = encoder.eval().double()({"pixels": pixels})
        original = (model.vision_model if tower else model).double()
        expected = original(pixel_values=encoder.normalize(pixels)).last_hidden_state
    if expected.ndim == 4:
        expected = expected.flatten(2).transpose(1, 2)
    assert tokens.shape == (3, mask.shape[1], encoder.embed_dim)
    assert mask.all()
    assert_close(tokens, expected, "float32")


@pytest.mark.parametrize("kind", [*IMAGE_MODELS, *TWO_TOWERS])
def test_an_encoder_is_rebuilt_without_its_folder(kind, tmp_path):
    write_image_model(tmp_path / "tiny", kind)
    tower = {"tower": "image"} if kind in TWO_TOWERS else {}
    encoder = create_encoder(f"transformers/{tmp_path / 'tiny'}", **tower)
    shutil.rmtree(tmp_path / "tiny")
    arguments = json.loads(json.dumps(encoder.architecture()))
    rebuilt = create_encoder(encoder.name, weights=None, **arguments)
    rebuilt.load_state_dict(encoder.state_dict())
    assert_close(encode(rebuilt)[0], encode(encoder)[0], "float32")
    assert rebuilt.preprocessor.to_config() == encoder.preprocessor.to_config()
    assert rebuilt.architecture() == arguments


def test_what_no_token_depends_on_is_removed(tmp_path):
    write_image_model(tmp_path, "siglip")
    encoder = create_encoder(f"transformers/{tmp_path}", tower="image")
    names = {name.split(".")[1] for name, _ in encoder.named_parameters()}
    assert names == {"embeddings", "encoder", "post_layernorm"}  # no text, no pooling head


def test_stages_are_opened_and_what_lies_between_two_is_a_group(tmp_path):
    write_image_model(tmp_path, "swin")
    encoder = create_encoder(f"transformers/{tmp_path}")
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    groups = [{names[id(parameter)].removeprefix("model.") for parameter in group} for group in encoder.depth_groups()]
    starts = ("embeddings.", "encoder.layers.0.blocks.0.", "encoder.layers.0.blocks.1.", "encoder.layers.0.downsample.")
    starts = (*starts, "encoder.layers.1.blocks.0.", "layernorm.")
    assert len(groups) == len(starts)
    assert all(name.startswith(start) for start, group in zip(starts, groups, strict=True) for name in group)


# --- weights and folders -----------------------------------------------------------------------------------------


def test_weights_and_licence_come_from_the_folder(tmp_path):
    write_image_model(tmp_path, "vit")
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    encoder = create_encoder(f"transformers/{tmp_path}")
    assert (encoder.provenance.weights, encoder.provenance.licence) == ("pretrained", "apache-2.0")
    assert len(encoder.provenance.sha256) == 64


def test_weights_of_another_folder_bring_their_config_and_preprocessing(tmp_path):
    write_image_model(tmp_path / "one", "vit")
    write_image_model(tmp_path / "two", "clip_vision_model")
    encoder = create_encoder(f"transformers/{tmp_path / 'one'}", weights=tmp_path / "two")
    assert encoder.architecture()["config"]["model_type"] == "clip_vision_model"
    assert encoder.preprocessor.interpolation == "bicubic"


def test_weights_that_an_encoder_saved_are_read(tmp_path):
    write_image_model(tmp_path, "vit")
    first = create_encoder(f"transformers/{tmp_path}")
    save_file(first.state_dict(), tmp_path / "mine.safetensors")
    write_image_model(tmp_path, "vit", seed=1)
    second = create_encoder(f"transformers/{tmp_path}", weights=tmp_path / "mine.safetensors")
    assert_close(encode(second)[0], encode(first)[0], "float32")


def test_weights_without_a_layer_are_refused(tmp_path):
    model = write_image_model(tmp_path, "vit")
    state = {name: tensor for name, tensor in model.state_dict().items() if "layers.1." not in name}
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(ValueError, match=r"does not fit this encoder; missing: layers\.1\."):
        create_encoder(f"transformers/{tmp_path}", weights=tmp_path / "less.safetensors")


def test_a_model_of_naflex_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "siglip2", "vision_config": {}}))
    with pytest.raises(ValueError, match=r"\(NaFlex\), which is not supported; give a SigLIP 2 of one resolution"):
        create_encoder(f"transformers/{tmp_path}", weights=None, tower="image")


def test_images_of_a_size_that_the_model_does_not_take_are_refused(tmp_path):
    write_image_model(tmp_path, "vit")
    config = json.loads((tmp_path / "config.json").read_text())
    with pytest.raises(ValueError, match=r"ViTModel does not turn images of \[32, 32\] pixels into hidden states"):
        create_encoder(f"transformers/{tmp_path}", weights=None, config={**config, "image_size": 64})


def test_the_tiny_configs_are_of_their_kind():
    assert all(image_config(kind).model_type == kind for kind in (*IMAGE_MODELS, *TWO_TOWERS))


# --- the embedding that both halves share ---


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_the_projected_token_is_the_embedding_that_both_halves_share(kind, tmp_path):
    model = write_image_model(tmp_path, kind)
    encoder = create_encoder(f"transformers/{tmp_path}", tower="image", pooling="projected")
    pixels = torch.from_numpy(encoder.preprocessor.stack([encoder.preprocessor(photo) for photo in photos()])["pixels"])
    tokens, mask = encode(encoder)
    with torch.no_grad():
        expected = model.get_image_features(encoder.normalize(pixels)).pooler_output
    assert tokens.shape == (3, 1, encoder.embed_dim)
    assert_close(tokens[:, 0], expected, "hidden states")
    assert mask.all()


@pytest.mark.parametrize("kind", TWO_TOWERS)
def test_a_projecting_half_is_rebuilt_without_its_folder(kind, tmp_path):
    write_image_model(tmp_path / "model", kind)
    encoder = create_encoder(f"transformers/{tmp_path / 'model'}", tower="image", pooling="projected")
    shutil.rmtree(tmp_path / "model")
    rebuilt = create_encoder(encoder.name, weights=None, **json.loads(json.dumps(encoder.architecture())))
    rebuilt.load_state_dict(encoder.state_dict())
    assert_close(encode(rebuilt)[0], encode(encoder)[0], "float32")


def test_a_model_without_another_half_shares_no_embedding(tmp_path):
    write_image_model(tmp_path, "vit")
    with pytest.raises(ValueError, match=r"pooling is 'projected' for a vit model; give 'tokens', or 'projected' for"):
        create_encoder(f"transformers/{tmp_path}", pooling="projected")
