"""Text encoders of the library transformers: any hub id or local folder."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.base import Encoder, Provenance
from encoders.dependence import depth_order, remove_unused
from encoders.hub import find_weights, locate
from encoders.preprocessing import Preprocessor
from encoders.registry import Weights
from encoders.text.model import build_model, config_to_json, read_config, vocab_size
from encoders.text.tokenizer import LateTextPreprocessor, checked_length, text_preprocessor
from encoders.weights import sha256_of, state_mismatch

FAMILY = "transformers/"

logger = logging.getLogger(__name__)


class TextEncoder(Encoder):
    """The last hidden states of a transformer.

    Args:
        model: of transformers; takes ``input_ids`` and ``attention_mask`` and gives ``last_hidden_state``.
            Parameters that these do not depend on (a pooler's) are removed.
        preprocessor: gives ``input_ids`` and ``attention_mask``, int64 ``[b l]``.
        max_tokens: as the preprocessor has it.

    Raises:
        ValueError: if the model is of another kind.
    """

    def __init__(self, model: nn.Module, preprocessor: Preprocessor, *, max_tokens: int) -> None:
        super().__init__()
        self.modality, self.preprocessor = "text", preprocessor
        self.model, self.max_tokens = model, max_tokens
        model.eval()  # dropout would be drawn from the seed
        with torch.enable_grad():
            tokens = self._probe()
            removed = remove_unused(model, tokens)
            self._order = depth_order(model, self._probe)
        self.embed_dim = tokens.shape[2]
        model.train()
        if removed:
            logger.info("removed, because no token depends on it: %s", ", ".join(removed))

    def _probe(self) -> Tensor:
        ids = torch.zeros(1, 2, dtype=torch.int64)
        try:
            return self({"input_ids": ids, "attention_mask": torch.ones_like(ids)})[0]
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{type(self.model).__name__} does not turn input_ids and attention_mask into hidden states ({error}); "
                "give a text encoder, for example transformers/sentence-transformers/all-MiniLM-L6-v2"
            ) from error

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Last hidden state of every token; padding is masked."""
        mask = inputs["attention_mask"]
        return self.model(input_ids=inputs["input_ids"], attention_mask=mask).last_hidden_state, mask.bool()

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Embeddings, each layer, what follows them."""
        parameters = dict(self.model.named_parameters())
        return [[parameters[name] for name in group] for group in self._order]

    def architecture(self) -> dict[str, Any]:
        """The model's config, so that neither its folder nor the hub is needed again."""
        return {"config": config_to_json(self.model), "max_tokens": self.max_tokens}


def transformers_text(
    *, name: str, weights: Weights = None, max_tokens: int | None = None, config: Mapping[str, Any] | None = None
) -> TextEncoder:
    """A text encoder by hub id or local folder: ``transformers/<id or folder>``. Never runs a model's own code.

    Args:
        weights: "pretrained" (those of that id or folder); None; a state_dict file; or another id or folder, which
            then brings its config and tokenizer, too.
        max_tokens: texts are cut to as many, special tokens included; None is 128, or what the model can take.
        config: of the architecture, instead of the folder's ``config.json``.

    Raises:
        FileNotFoundError: if the model is neither here nor can be fetched.
        ValueError: if it is no text encoder, or weights, config or tokenizer do not suit it.
    """
    source, files, licence = find_weights(name.removeprefix(FAMILY), weights)
    settings = config if config is not None else read_config(locate(source, with_weights=False))
    model, missing = build_model(name, settings, files)
    size = vocab_size(name, model)
    max_tokens = checked_length(name, model, max_tokens)
    pad_id = getattr(model.config, "pad_token_id", None)
    tokenizing: dict[str, Any] = {"max_tokens": max_tokens, "pad_id": pad_id, "vocab_size": size}
    preprocessor: Preprocessor
    if config is None:
        preprocessor = text_preprocessor(locate(source, with_weights=False), **tokenizing)
    else:
        preprocessor = LateTextPreprocessor(source, **tokenizing)
    encoder = TextEncoder(model, preprocessor, max_tokens=max_tokens)
    lost = missing & {name for name, _ in model.named_parameters()}
    if lost:
        raise state_mismatch(f"{name}: what {weights} holds", missing=lost)
    if weights is not None:
        encoder.provenance = Provenance(str(weights), sha256_of(files), licence)
    return encoder
