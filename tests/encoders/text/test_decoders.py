"""Decoder models as text encoders: what a token sees, padding on either side, missing padding tokens."""

import json

import pytest
import torch
from support.assertions import assert_close
from support.checkpoints import DECODERS, TEXTS, encode, text_config, tokenizer, write_text_model

from encoders import create_encoder
from encoders.testing import export_onnx


def left(inputs):
    """The same rows with their padding in front."""
    moved = {name: tensor.clone() for name, tensor in inputs.items()}
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        for name, tensor in inputs.items():
            moved[name][row] = tensor[row].roll(tensor.shape[1] - length)
    return moved


@pytest.mark.parametrize("kind", DECODERS)
def test_tokens_are_the_hidden_states_of_the_raw_model(kind, tmp_path):
    model = write_text_model(tmp_path, kind)
    tokens, mask, inputs = encode(create_encoder(f"transformers/{tmp_path}"))
    assert tokens.std() > 0.1
    for row, text in enumerate(TEXTS):
        ids = torch.tensor([tokenizer(kind).encode(text).ids])
        assert inputs["input_ids"][row][mask[row]].tolist() == ids[0].tolist()
        with torch.no_grad():
            expected = model(input_ids=ids).last_hidden_state[0]
        assert_close(tokens[row][mask[row]], expected, "float32")


@pytest.mark.parametrize("kind", DECODERS)
def test_a_token_sees_only_what_comes_before_it(kind, tmp_path):
    write_text_model(tmp_path, kind)
    tokens, _, _ = encode(create_encoder(f"transformers/{tmp_path}"), ["red apple", "red pear"])
    assert_close(tokens[0, :2], tokens[1, :2], "float32")  # of the special token and "red"
    assert (tokens[0, 2] - tokens[1, 2]).abs().max() > 0.1


@pytest.mark.parametrize("kind", DECODERS)
def test_padding_in_front_gives_the_same_tokens_as_padding_behind(kind, tmp_path):
    write_text_model(tmp_path, kind)
    encoder = create_encoder(f"transformers/{tmp_path}")
    tokens, mask, inputs = encode(encoder)
    with torch.no_grad():
        moved, moved_mask = encoder(left(inputs))
    assert moved.isfinite().all()
    for row in range(len(TEXTS)):
        assert_close(moved[row][moved_mask[row]], tokens[row][mask[row]], "rotated")


def test_a_tokenizer_that_asks_for_padding_in_front_is_padded_behind(tmp_path):
    write_text_model(tmp_path, "gpt2")
    expected = encode(create_encoder(f"transformers/{tmp_path}"))
    asking = tokenizer("gpt2")
    asking.enable_padding(direction="left", pad_id=2, length=20)
    asking.save(str(tmp_path / "tokenizer.json"))
    tokens, mask, _ = encode(create_encoder(f"transformers/{tmp_path}"))
    assert torch.equal(mask, expected[1])
    assert mask[:, 0].all()
    assert_close(tokens[mask], expected[0][mask], "float32")


@pytest.mark.parametrize(
    ("padding", "end", "pad_id"),
    [(None, 3, 3), (None, [4, 5], 4), (-1, 3, 3), (2, 3, 2), (None, None, 0), (None, 50256, 0)],
)
def test_without_a_padding_token_the_end_of_text_pads(padding, end, pad_id, tmp_path):
    write_text_model(tmp_path, "gpt2")
    settings = json.loads((tmp_path / "config.json").read_text()) | {"pad_token_id": padding, "eos_token_id": end}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert create_encoder(f"transformers/{tmp_path}", weights=None).preprocessor.pad_id == pad_id


def test_a_language_model_gives_its_decoder(tmp_path):
    from transformers import GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(text_config("gpt2")).eval()
    model.save_pretrained(tmp_path)
    tokenizer("gpt2").save(str(tmp_path / "tokenizer.json"))
    tokens, mask, inputs = encode(create_encoder(f"transformers/{tmp_path}"))
    with torch.no_grad():
        expected = model.transformer(**inputs).last_hidden_state
    assert_close(tokens[mask], expected[mask], "float32")


@pytest.mark.parametrize("kind", DECODERS)
def test_depth_ends_with_the_last_norm(kind, tmp_path):
    write_text_model(tmp_path, kind)
    encoder = create_encoder(f"transformers/{tmp_path}")
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    groups = [[names[id(parameter)] for parameter in group] for group in encoder.depth_groups()]
    assert len(groups) == 4
    assert all("embed" in name or "wte" in name or "wpe" in name for name in groups[0])
    for index in (0, 1):
        assert all(f".{index}." in name for name in groups[1 + index])
    assert all("norm" in name or "ln_f" in name for name in groups[3])


@pytest.mark.parametrize("kind", ["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def test_the_graph_takes_padding_on_either_side(kind, tmp_path):
    import onnxruntime

    write_text_model(tmp_path, kind)
    encoder = create_encoder(f"transformers/{tmp_path}")
    tokens, mask, inputs = encode(encoder)
    batch = {name: tensor[:2].numpy() for name, tensor in inputs.items()}
    session = onnxruntime.InferenceSession(export_onnx(encoder, batch), providers=["CPUExecutionProvider"])
    for given in (inputs, left(inputs)):
        outputs, real = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
        for row in range(len(TEXTS)):
            assert_close(outputs[row][real[row]], tokens[row][mask[row]], "onnx")
