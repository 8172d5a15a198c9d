"""Small folders of sentence-transformers and of models of two modalities, written by the tests that read them."""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from support.checkpoints import enlarge, tokenizer, write_text_model
from torch import nn

TOWERS = ("clip", "siglip", "siglip2", "clap")


def write_sentence_model(
    folder: Path, pooling: Mapping[str, Any], extra: Sequence[str] = (), kind: str = "bert", **settings: Any
) -> tuple[Any, dict[str, nn.Module]]:
    """A folder as sentence-transformers writes it; returns the model of transformers, and what has weights after it.

    Args:
        pooling: content of ``1_Pooling/config.json``.
        extra: names of the modules that follow.
        **settings: content of ``sentence_bert_config.json``.
    """
    model = write_text_model(folder, kind)
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    dim = 32 * max(1, sum(value is True for value in pooling.values()))
    parts: dict[str, nn.Module] = {}
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    for index, name in enumerate(extra, start=2):
        place = folder / f"{index}_{name}"
        place.mkdir()
        config: dict[str, Any] = {}
        if name == "Dense":
            config = {"in_features": dim, "out_features": 12, "bias": True}
            config["activation_function"] = "torch.nn.modules.activation.Tanh"
            parts[name] = nn.Sequential()
            parts[name].add_module("linear", nn.Linear(dim, 12))
            dim = 12
        elif name == "LayerNorm":
            config = {"dimension": dim}
            parts[name] = nn.Sequential()
            parts[name].add_module("norm", nn.LayerNorm(dim))
            nn.init.normal_(parts[name].norm.weight)
        (place / "config.json").write_text(json.dumps(config))
        if name in parts:
            save_file(parts[name].state_dict(), place / "model.safetensors")
        modules.append((place.name, name))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(dict(pooling)))
    listed = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{name}"}
        for index, (path, name) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    return model, parts


def write_two_towers(folder: Path, kind: str, *, seed: int = 0) -> Any:
    """A model of two modalities as ``save_pretrained`` writes it, with ``tokenizer.json``; returns it."""
    import transformers
    from transformers import AutoConfig, AutoModel

    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 3}
    both = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    text = {**both, **ids, "vocab_size": 20, "num_hidden_layers": 2, "max_position_embeddings": 24}
    image = {**both, "num_hidden_layers": 1, "image_size": 16, "patch_size": 8}
    audio = {"spec_size": 32, "num_mel_bins": 16, "patch_stride": [4, 4], "patch_embeds_hidden_size": 16}
    audio |= {
        "hidden_size": 32,
        "depths": [1, 1],
        "num_hidden_layers": 2,
        "num_attention_heads": [2, 2],
        "window_size": 4,
    }
    other = {"audio_config": audio} if kind == "clap" else {"vision_config": image}
    torch.manual_seed(seed)
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    with warnings.catch_warnings():
        config = AutoConfig.for_model(kind, text_config=text, projection_dim=16, **other)
        model = AutoModel.from_config(config).eval()
    transformers.utils.logging.set_verbosity(verbosity)
    enlarge(model, 3.0)
    model.save_pretrained(folder)
    tokenizer("mpnet").save(str(folder / "tokenizer.json"))
    return model
