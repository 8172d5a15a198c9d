"""Low-rank adapters inside an encoder: added before training, merged into its weights after it."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from encoders.base import Encoder, blank_tokens, evaluating
from encoders.contract import called
from encoders.info import missing_extra
from encoders.parameter_order import call_order
from encoders.preprocessing.base import whole_number

_LINEAR = ("Linear", "NonDynamicallyQuantizableLinear", "Conv1D")
"""Classes that peft adapts as matrices; Conv1D is transformers' for GPT-2."""


def add_lora(
    encoder: Encoder, *, rank: int, alpha: float, dropout: float = 0.0, target_modules: Sequence[str] | None = None
) -> None:
    """Adds to matrices W of the encoder a trainable low-rank part, ``W + (alpha / rank) B A``, and freezes the rest.

    LoRA (Hu et al., 2021, https://arxiv.org/abs/2106.09685), by peft. B begins at zero: the tokens stay as they are.
    Until ``merge_lora``, parameters have other names (``...base_layer.weight``, ``...lora_A.default.weight``), so that
    ``depth_groups()`` cannot be asked for.

    Args:
        rank: rows of A.
        alpha: how strongly the part counts; twice the rank is common.
        dropout: probability of dropping an input of A while training.
        target_modules: names of modules, or ends of them, e.g. ``["q_proj", "v_proj"]``; None takes the linear layers
            of the attention, or all linear layers where attention has none that is called by itself. torch's
            MultiheadAttention (of torchvision's ViT) has none: naming it, ``["self_attention"]``, adapts it whole, but
            peft then rewrites its frozen weights in each pass, which rounds them a little.

    Raises:
        ModuleNotFoundError: if peft is missing; names the command that installs it.
        ValueError: if the encoder has LoRA already, a number is out of its range, or there is nothing to adapt.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise missing_extra(error, "lora") from error

    if _adapted(encoder):
        raise ValueError(f"{called(encoder)} has LoRA already; merge_lora(encoder) first")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout is {dropout}; give 0 <= dropout < 1")
    targets = _default_targets(encoder) if target_modules is None else list(target_modules)
    modules = dict(encoder.named_modules())
    if not any(f".{name}".endswith(f".{end}") for name in modules for end in targets):
        raise ValueError(
            f"{called(encoder)} has no module {', '.join(targets) or 'that is a linear layer'} to adapt; give "
            f"target_modules among {', '.join(sorted({name.rpartition('.')[2] for name in modules if name}))}"
        )
    numbers: dict[str, Any] = {"r": whole_number("rank", rank), "lora_alpha": alpha, "lora_dropout": dropout}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to")  # said where GPT-2's Conv1D is recognised
        inject_adapter_in_model(LoraConfig(**numbers, target_modules=targets), encoder)


def merge_lora(encoder: Encoder) -> None:
    """Adds the low-rank parts to the matrices and takes them out: classes and names are those of before.

    All parameters can be trained again. An encoder without LoRA stays as it is.
    """
    for name, layer in _adapted(encoder):
        parent, _, own = name.rpartition(".")
        with torch.no_grad():
            if hasattr(layer, "unload_and_optionally_merge_module"):  # MultiheadAttention
                merged = layer.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
            else:
                layer.merge()
                merged = layer.get_base_layer()
        merged.requires_grad_(True).train(layer.training)
        setattr(encoder.get_submodule(parent), own, merged)
    if hasattr(encoder, "peft_config"):
        del encoder.peft_config
        encoder.requires_grad_(True)


def _adapted(encoder: Encoder) -> list[tuple[str, Any]]:
    """Layers with a low-rank part, outermost first, without those inside another."""
    found: list[tuple[str, Any]] = []
    for name, module in encoder.named_modules():
        if hasattr(module, "lora_A") and not any(name.startswith(f"{outer}.") for outer, _ in found):
            found.append((name, module))
    return found


def _default_targets(encoder: Encoder) -> list[str]:
    """Full names of the linear layers that a forward pass calls: those of the attention, else all."""
    with evaluating(encoder):
        called = call_order(encoder, lambda: blank_tokens(encoder))
    linear = [name for name, module in encoder.named_modules() if module in called and type(module).__name__ in _LINEAR]
    return [name for name in linear if "attn" in name or "attention" in name] or linear
