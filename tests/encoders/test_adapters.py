import builtins
import copy

import pytest
import torch
from support.assertions import assert_close
from support.audio_checkpoints import write_audio_model
from support.checkpoints import SPEECH, write_text_model

from encoders import create_encoder
from encoders.adapters import add_lora, merge_lora
from encoders.testing import default_samples


def text(folder, kind="bert"):
    write_text_model(folder, kind)
    return create_encoder(f"transformers/{folder}")


def speech(folder, kind="wavlm"):
    write_audio_model(folder, kind)
    return create_encoder(f"transformers/{folder}")


def gpt2(folder):
    """A text encoder with the transposed matrices of GPT-2."""
    from transformers.pytorch_utils import Conv1D

    encoder = text(folder)
    attention = encoder.model.encoder.layer[0].attention.self
    transposed = Conv1D(32, 32)
    with torch.no_grad():
        transposed.weight.copy_(attention.query.weight.T)
        transposed.bias.copy_(attention.query.bias)
    attention.query = transposed
    return encoder


def vit():
    """An image as 4 patches, through an attention like that of torchvision's ViT."""
    from support.tiny_models import TinyImage
    from torchvision.models.vision_transformer import EncoderBlock

    encoder = TinyImage(embed_dim=8)
    encoder.second = torch.nn.Sequential(
        torch.nn.Conv2d(8, 8, 2, 2), _Patches(EncoderBlock(2, 8, 16, dropout=0.0, attention_dropout=0.0))
    )
    return encoder


class _Patches(torch.nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return self.block(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (2, 2))


ENCODERS = {
    "bert": text,
    "distilbert": lambda folder: text(folder, "distilbert"),
    "gpt2": gpt2,
    "wav2vec2": lambda folder: speech(folder, "wav2vec2-large"),
    "wavlm": speech,
    "whisper": lambda folder: speech(folder, "whisper"),
    "torchaudio wavlm": lambda _: create_encoder("torchaudio/wavlm_base", weights=None, model=SPEECH),
    "vit": lambda _: vit(),
    "compact text": lambda _: create_encoder("compact/text", weights=None),
    "compact audio": lambda _: create_encoder("compact/audio", weights=None),
}


@pytest.fixture(params=ENCODERS)
def encoder(request, tmp_path):
    torch.manual_seed(0)
    return ENCODERS[request.param](tmp_path)


def encode(encoder):
    preprocessor = encoder.preprocessor
    batch = preprocessor.stack([preprocessor(raw) for raw in default_samples(encoder.modality)])
    return encoder({name: torch.from_numpy(array) for name, array in batch.items()})


def train(encoder):
    """One step of gradient descent on what can be trained; the names of that."""
    torch.manual_seed(0)
    tokens, mask = encode(encoder)
    (tokens[mask] * torch.randn_like(tokens[mask])).sum().backward()
    trained = {name: parameter for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    with torch.no_grad():
        for parameter in trained.values():
            assert parameter.grad is not None
            parameter.add_(0.1 * torch.randn_like(parameter))  # B's first gradient is all that A's is not
            parameter.grad = None
    return set(trained)


def test_only_low_rank_parts_train_and_merging_keeps_what_they_learned(encoder):
    encoder.eval()
    before = copy.deepcopy(encoder)
    expected = encode(encoder)[0].detach()
    add_lora(encoder, rank=2, alpha=4.0, dropout=0.1)
    assert_close(encode(encoder.eval())[0], expected, "float32")
    trained = train(encoder)
    assert trained
    assert all(".lora_" in name for name in trained)
    adapted = encode(encoder)[0].detach()
    assert (adapted - expected).abs().max() > 1e-3
    merge_lora(encoder)
    scale = float(adapted.std())
    assert_close(encode(encoder)[0] / scale, adapted / scale, "hidden states")
    assert type(encoder) is type(before)
    old, new = dict(before.named_parameters()), dict(encoder.named_parameters())
    assert list(old) == list(new)
    assert all(parameter.requires_grad for parameter in new.values())
    assert [type(m) for m in encoder.modules()] == [type(m) for m in before.modules()]
    assert {name.rpartition(".")[2] for name in old if not torch.equal(old[name], new[name])} == {"weight"}
    assert [len(group) for group in encoder.depth_groups()] == [len(group) for group in before.depth_groups()]


def test_attention_is_adapted_where_it_has_linear_layers(tmp_path):
    encoder = text(tmp_path)
    add_lora(encoder, rank=2, alpha=4.0)
    adapted = {name.split(".lora_")[0] for name, p in encoder.named_parameters() if p.requires_grad}
    ends = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    assert adapted == {f"model.encoder.layer.{layer}.{end}" for layer in range(2) for end in ends}


def test_modules_may_be_named(tmp_path):
    encoder = text(tmp_path)
    add_lora(encoder, rank=3, alpha=4.0, target_modules=["query", "value"])
    shapes = {name: list(p.shape) for name, p in encoder.named_parameters() if p.requires_grad}
    assert len(shapes) == 2 * 2 * 2
    assert shapes["model.encoder.layer.1.attention.self.query.lora_A.default.weight"] == [3, 32]


def test_torch_s_attention_may_be_adapted_whole():
    torch.manual_seed(0)
    encoder = vit().eval()
    names = [name for name, _ in encoder.named_parameters()]
    add_lora(encoder, rank=2, alpha=4.0, target_modules=["self_attention"])
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if ".lora_" in name:
                parameter.normal_()
    adapted = encode(encoder)[0].detach()
    merge_lora(encoder)
    assert_close(encode(encoder)[0], adapted, "hidden states")
    assert sorted(name for name, _ in encoder.named_parameters()) == sorted(names)


def test_adding_keeps_the_modes_of_modules(tmp_path):
    encoder = text(tmp_path).train()
    encoder.model.embeddings.eval()
    add_lora(encoder, rank=2, alpha=4.0)
    assert encoder.training
    assert not encoder.model.embeddings.training
    merge_lora(encoder)
    assert encoder.model.encoder.training


def test_merging_without_low_rank_parts_changes_nothing(tmp_path):
    encoder = text(tmp_path)
    encoder.model.embeddings.requires_grad_(False)
    before = {name: (p.clone(), p.requires_grad) for name, p in encoder.named_parameters()}
    merge_lora(encoder)
    after = dict(encoder.named_parameters())
    assert all(torch.equal(after[name], p) and after[name].requires_grad == grad for name, (p, grad) in before.items())


# --- what is refused ---------------------------------------------------------------------------------------------


def test_adapting_twice_is_refused(tmp_path):
    encoder = text(tmp_path)
    add_lora(encoder, rank=2, alpha=4.0)
    with pytest.raises(ValueError, match=r"has LoRA already; merge_lora\(encoder\) first"):
        add_lora(encoder, rank=2, alpha=4.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rank": 0}, "rank is 0; give a whole number"),
        ({"dropout": 1.0}, "dropout is 1.0; give 0 <= dropout < 1"),
        ({"target_modules": ["q_proj"]}, r"has no module q_proj to adapt; give target_modules among .*query"),
    ],
)
def test_arguments_out_of_range_are_refused(changes, reason, tmp_path):
    with pytest.raises(ValueError, match=reason):
        add_lora(text(tmp_path), **{"rank": 2, "alpha": 4.0, **changes})


def test_an_encoder_without_linear_layers_is_refused():
    encoder = create_encoder("compact/image", weights=None, image_size=64)
    with pytest.raises(ValueError, match="has no module that is a linear layer to adapt; give target_modules among"):
        add_lora(encoder, rank=2, alpha=4.0)


def test_a_missing_peft_is_one_line(tmp_path, monkeypatch):
    encoder, importing = text(tmp_path), builtins.__import__

    def without_peft(name, *args, **kwargs):
        if name == "peft":
            raise ModuleNotFoundError("No module named 'peft'", name="peft")
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_peft)
    with pytest.raises(ModuleNotFoundError, match=r"peft is not installed; run: .*multimodal-transfer\[lora\]"):
        add_lora(encoder, rank=2, alpha=4.0)
