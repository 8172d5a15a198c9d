"""The text halves of CLIP, SigLIP and CLAP."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from support.assertions import assert_close
from support.checkpoints import encode
from support.text_checkpoints import TOWERS, write_two_towers

from encoders import create_encoder
from encoders.preprocessing.text import TextPreprocessor
from encoders.testing import check_encoder
from encoders.text.tokenizer import SIGLIP_NORMALIZERS

SIGLIPS = ("siglip", "siglip2")


def original_inputs(kind, inputs):
    """SigLIP is never given a mask."""
    return {"input_ids": inputs["input_ids"]} if kind in SIGLIPS else inputs


@pytest.mark.parametrize("kind", TOWERS)
def test_tokens_are_the_hidden_states_of_the_text_tower(kind, tmp_path):
    model = write_two_towers(tmp_path, kind)
    tokens, mask, inputs = encode(create_encoder(f"transformers/{tmp_path}", tower="text"))
    with torch.no_grad():
        expected = model.text_model(**original_inputs(kind, inputs)).last_hidden_state
    assert tokens.std() > 0.1
    assert_close(tokens[mask], expected[mask], "float32")


@pytest.mark.parametrize("kind", TOWERS)
def test_the_projected_token_is_the_embedding_that_both_halves_share(kind, tmp_path):
    model = write_two_towers(tmp_path, kind)
    encoder = create_encoder(f"transformers/{tmp_path}", tower="text", pooling="projected")
    tokens, mask, inputs = encode(encoder)
    with torch.no_grad():
        expected = model.get_text_features(**original_inputs(kind, inputs)).pooler_output
    if kind == "clap":  # whose features are normalised, as cosines do anyway
        tokens = torch.nn.functional.normalize(tokens, dim=2)
    assert_close(tokens[:, 0], expected, "float32")
    assert mask.all()
    assert encoder.depth_groups()[-1]


@pytest.mark.parametrize("kind", TOWERS)
@pytest.mark.parametrize("pooling", ["tokens", "projected"])
def test_a_half_is_rebuilt_without_its_folder(kind, pooling, tmp_path):
    write_two_towers(tmp_path / "model", kind)
    encoder = create_encoder(f"transformers/{tmp_path / 'model'}", tower="text", pooling=pooling)
    shutil.rmtree(tmp_path / "model")
    arguments = json.loads(json.dumps(encoder.architecture()))
    rebuilt = create_encoder(encoder.name, weights=None, **arguments)
    rebuilt.load_state_dict(encoder.state_dict())
    assert rebuilt.preprocessor.tensors == encoder.preprocessor.tensors
    rebuilt.preprocessor = encoder.preprocessor
    assert_close(encode(rebuilt)[0], encode(encoder)[0], "float32")


def test_the_other_half_and_the_scale_are_left_out(tmp_path):
    write_two_towers(tmp_path, "siglip")
    assert "logit_scale" in load_file(tmp_path / "model.safetensors")
    encoder = create_encoder(f"transformers/{tmp_path}", tower="text")
    names = [name for name, _ in encoder.named_parameters()]
    assert not any("vision" in name or "logit" in name or "head" in name for name in names)


def test_every_text_of_siglip_has_the_same_length_and_its_padding_is_real(tmp_path):
    write_two_towers(tmp_path, "siglip")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": "</s>"}}))
    encoder = create_encoder(f"transformers/{tmp_path}", tower="text")
    tokens, mask, inputs = encode(encoder)
    assert tokens.shape[:2] == (3, 24)
    assert mask.all()
    assert inputs["input_ids"][1].tolist()[3:] == [2] * 21
    assert {spec.axes for spec in encoder.preprocessor.tensors} == {("batch", 24)}
    assert encoder.preprocessor.blank()["attention_mask"].tolist() == [1] * 24


def test_siglip_texts_are_made_small_letters_without_punctuation(tmp_path):
    write_two_towers(tmp_path, "siglip")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "SiglipTokenizer"}))
    preprocessor = create_encoder(f"transformers/{tmp_path}", weights=None, tower="text").preprocessor
    assert preprocessor(" Red, \n apple. ")["input_ids"].tolist() == preprocessor("red apple")["input_ids"].tolist()


def test_what_siglip_leaves_of_a_text_is_what_transformers_leaves():
    from string import punctuation

    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    text = f" Red{punctuation}  \n APPLE\t "
    content = json.loads(Tokenizer(WordLevel({"red apple": 1, "?": 0}, unk_token="?")).to_str())
    content["normalizer"] = {"type": "Sequence", "normalizers": SIGLIP_NORMALIZERS["SiglipTokenizer"]}
    # SiglipTokenizer.canonicalize_text: lower(), no string.punctuation, one space for several, strip()
    assert TextPreprocessor(json.dumps(content))(text)["input_ids"].tolist() == [1]


def test_a_damaged_tokenizer_config_is_refused(tmp_path):
    write_two_towers(tmp_path, "siglip")
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: is damaged"):
        create_encoder(f"transformers/{tmp_path}", weights=None, tower="text")


def test_a_projection_is_refused_where_there_is_no_other_half(tmp_path):
    from support.checkpoints import write_text_model

    write_text_model(tmp_path)
    with pytest.raises(ValueError, match=r"pooling is 'projected', but .* is no text tower"):
        create_encoder(f"transformers/{tmp_path}", pooling="projected")


@pytest.mark.parametrize("kind", TOWERS)
def test_every_promise_is_kept_in_torch_by_the_projected_token(kind, tmp_path):
    write_two_towers(tmp_path, kind)
    check_encoder(create_encoder(f"transformers/{tmp_path}", tower="text", pooling="projected"), export=False)


@pytest.mark.parametrize(
    "kind", [kind if kind == "clip" else pytest.param(kind, marks=pytest.mark.slow) for kind in TOWERS]
)
def test_every_promise_is_kept_in_onnx_by_the_projected_token(kind, tmp_path):
    write_two_towers(tmp_path, kind)
    check_encoder(create_encoder(f"transformers/{tmp_path}", tower="text", pooling="projected"))
