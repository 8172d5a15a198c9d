"""Small checkpoints in the formats that pretrained models come in, written by the tests that read them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from encoders.base import Encoder

PIECES = ("a", "red", "apple", "pear", "ripe", "milk", "from", "the", "cow", "##s", "hill", "farm", ",", ".", "##y")
TEXT_MODELS = ("bert", "distilbert", "roberta", "mpnet", "deberta", "deberta-v2", "albert", "electra")
LIKE_BERT = ("xlm-roberta", "camembert", "modernbert")
"""Further models that work as they are; the contract alone is checked."""
DECODERS = ("gpt2", "gpt_neo", "gpt_neox", "opt", "bloom", "llama", "mistral", "qwen2", "gemma")

TEXTS = ("ripe pears from the farm", "a", "Red apple, milk.")
"""For any of these text models."""

SPEECH: dict[str, Any] = {
    "extractor_conv_layer_config": [[16, 10, 5], [16, 3, 2], [16, 3, 2], [16, 2, 2], [16, 2, 2]],
    "encoder_embed_dim": 32,
    "encoder_num_layers": 2,
    "encoder_num_heads": 4,
    "encoder_ff_interm_features": 48,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 4,
}
"""Arguments of ``torchaudio.models.wav2vec2_model`` that make any of its bundles tiny."""


def encode(
    encoder: Encoder, texts: Sequence[str] = TEXTS
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Tokens, mask and inputs of texts, in eval mode."""
    arrays = encoder.preprocessor.stack([encoder.preprocessor(text) for text in texts])
    inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
    with torch.no_grad():
        tokens, mask = encoder.eval()(inputs)
    return tokens, mask, inputs


def tokenizer(kind: str) -> Tokenizer:
    """Word pieces, with the special tokens and ids of that kind of model."""
    first, last, padding, unknown, mask = ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")
    special = (padding, unknown, first, last, mask)
    if kind in ("roberta", "mpnet"):
        first, last, padding, unknown, mask = ("<s>", "</s>", "<pad>", "<unk>", "<mask>")
        special = (first, padding, last, unknown, mask)  # padding is 1
    vocabulary = {token: index for index, token in enumerate((*special, *PIECES))}
    made = Tokenizer(WordPiece(vocabulary, unk_token=unknown))
    made.normalizer, made.pre_tokenizer = Lowercase(), Whitespace()
    made.post_processor = TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(token, vocabulary[token]) for token in (first, last)]
    )
    return made


RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
SIZES: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    "roberta": {"pad_token_id": 1},
    "mpnet": {"pad_token_id": 1},
    "deberta": {**RELATIVE, "type_vocab_size": 0},
    # as v3 has it
    "deberta-v2": {
        **RELATIVE,
        "type_vocab_size": 0,
        "position_buckets": 8,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    },
    "albert": {"embedding_size": 16},
    "xlm-roberta": {"pad_token_id": 1},
    "camembert": {"pad_token_id": 1},
    "modernbert": {"cls_token_id": 2, "sep_token_id": 3, "global_attn_every_n_layers": 2, "local_attention": 8},
    "electra": {"embedding_size": 16},
    "gpt2": {"n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 4, "eos_token_id": 3, "pad_token_id": None},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4, "window_size": 8},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "llama": GROUPED,
    "mistral": GROUPED,
    "qwen2": {"num_key_value_heads": 2},
    "gemma": GROUPED,
}
"""What a kind of model has beside, or instead of, the usual sizes."""


def text_config(kind: str, **changes: Any) -> Any:
    """A config of transformers with two layers of dim 32."""
    from transformers import AutoConfig

    sizes = {"vocab_size": 20, "max_position_embeddings": 24, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    if kind not in ("distilbert", "gpt2"):
        sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    return AutoConfig.for_model(kind, **{**sizes, **SIZES.get(kind, {}), **changes})


def write_text_model(folder: Path, kind: str = "bert", *, seed: int = 0, **changes: Any) -> Any:
    """A folder as ``save_pretrained`` writes it, with ``tokenizer.json``; returns the model of transformers."""
    from transformers import AutoModel

    torch.manual_seed(seed)
    model = AutoModel.from_config(text_config(kind, **changes)).eval()
    enlarge(model)
    model.save_pretrained(folder)
    tokenizer(kind).save(str(folder / "tokenizer.json"))
    return model


def enlarge(module: torch.nn.Module, factor: float = 5.0) -> None:
    """Multiplies matrices, so that fresh weights make each token depend on all others by much."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor)
