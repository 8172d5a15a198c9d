"""ONNX files as encoders: their tokens are those of NumPy, whatever the form of the file."""

import json
import logging

import numpy as np
import pytest
import torch
from support.assertions import assert_close
from support.onnx_files import chain, chain_tokens, describe, image_file, image_tokens, text_file, text_tokens

from encoders import create_encoder
from encoders.base import Encoder
from encoders.onnx.description import IMAGENET_MEAN, IMAGENET_STD
from encoders.testing import check_encoder, default_samples


def encode(encoder: Encoder, raws: list) -> list[np.ndarray]:
    """Real tokens of each value, of one batch."""
    batch = encoder.preprocessor.stack([encoder.preprocessor(raw) for raw in raws])
    tokens, mask = encoder({name: torch.from_numpy(array) for name, array in batch.items()})
    return [row[real].numpy() for row, real in zip(tokens, mask, strict=True)]


MEAN, STD = (np.array(numbers, np.float32)[:, None, None] for numbers in (IMAGENET_MEAN, IMAGENET_STD))


@pytest.mark.parametrize(
    ("batch", "last", "opset"), [("b", False, 17), ("b", True, 13), (1, False, 11), (1, True, 20), ("b", False, 22)]
)
def test_an_image_file_tells_itself_what_it_reads(tmp_path, batch, last, opset):
    encoder = create_encoder(f"onnx/{image_file(tmp_path / 'm.onnx', batch=batch, last=last, opset=opset)}")
    raws = default_samples("image")
    pixels = np.stack([encoder.preprocessor(raw)["pixels"] for raw in raws])
    assert_close(np.stack(encode(encoder, raws)), image_tokens((pixels - MEAN) / STD), "float32")
    check_encoder(encoder)


@pytest.mark.parametrize("mask", [True, False])
def test_a_text_file_reads_token_ids(tmp_path, mask):
    encoder = create_encoder(f"onnx/{text_file(tmp_path / 'm.onnx', mask=mask)}")
    texts = ["blue round thing", "red", "green square"]
    for text, tokens in zip(texts, encode(encoder, texts), strict=True):
        assert_close(tokens, text_tokens(encoder.preprocessor(text)["input_ids"]), "float32")
    check_encoder(encoder, samples=texts)


def test_a_chain_runs_each_record_by_itself_and_its_windows_together(tmp_path):
    encoder = create_encoder(f"onnx/{chain(tmp_path)}")
    raws = default_samples("audio")
    for raw, tokens in zip(raws, encode(encoder, raws), strict=True):
        assert_close(tokens, chain_tokens(encoder.preprocessor(raw)["waveform"]), "float32")
    assert encoder.provenance.licence == "MIT"
    check_encoder(encoder)


def test_silence_is_put_around_each_clip(tmp_path):
    content = json.loads((chain(tmp_path) / "encoder.json").read_text())
    encoder = create_encoder(f"onnx/{describe(tmp_path, content | {'silence': 0.25})}")
    raws = default_samples("audio")
    for raw, tokens in zip(raws, encode(encoder, raws), strict=True):
        assert_close(tokens, chain_tokens(np.pad(encoder.preprocessor(raw)["waveform"], 2000)), "float32")
    check_encoder(encoder)


def test_what_was_guessed_is_told(tmp_path, caplog):
    caplog.set_level(logging.INFO, "encoders")
    create_encoder(f"onnx/{image_file(tmp_path / 'm.onnx')}")
    text = caplog.text
    assert "no encoder.json beside it: taken as image {'size': 16" in text
    assert "normalised by ImageNet's mean" in text
