"""Text encoders of the library transformers: any hub id or local folder."""

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.base import Encoder, all_real
from encoders.info import Weights
from encoders.parameter_order import depth_order, settle
from encoders.preprocessing import Preprocessor
from encoders.preprocessing.text import text_tensors
from encoders.text.late import LateTextPreprocessor
from encoders.text.model import build_text_model, read_weights, vocab_size
from encoders.text.pooling import JointEmbedding, SentencePooling
from encoders.text.sentence import SentenceFolder
from encoders.text.tokenizer import checked_length, padding_id, text_preprocessor
from encoders.text.towers import TEXT_TOWERS
from encoders.transformers.loading import config_to_json, find_checkpoint, note_weights, read_config, tower_config
from encoders.weights.hub import locate
from encoders.weights.state import fit_state, load_state

Pooling = Literal["auto", "tokens", "sentence", "projected"]
Steps = Sequence[Mapping[str, Any]]


class TextEncoder(Encoder):
    """The last hidden states of a transformer, or one vector that is made of them.

    Decoders (GPT-2 and its kin) see only what comes before a token; their positions are counted over real tokens,
    so that padding on either side changes nothing.

    Args:
        model: of transformers; takes ``input_ids`` and ``attention_mask`` and gives ``last_hidden_state``.
            Parameters that the tokens do not depend on (of BERT's pooler, of a projection) are removed.
        preprocessor: gives ``input_ids`` and ``attention_mask``, int64 ``[b l]``.
        max_tokens: as the preprocessor has it.
        pooler: from the model's output and the mask to the only token; None keeps all tokens.

    Raises:
        ValueError: if the model is of another kind.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocessor: Preprocessor,
        *,
        max_tokens: int,
        pooler: SentencePooling | JointEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.modality, self.preprocessor = "text", preprocessor
        self.model, self.max_tokens, self.pooler = model, max_tokens, pooler
        causal = any(getattr(module, "is_causal", False) for module in model.modules())
        self._counts_positions = causal and "position_ids" in inspect.signature(model.forward).parameters
        self.embed_dim, self._order = settle(model, self._probe, lambda: depth_order(self, self._probe))

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
        """Last hidden state of every token, padding masked; or the pooled vector as the only token."""
        mask = inputs["attention_mask"]
        positions = {"position_ids": (mask.cumsum(1) - 1).clamp_min(0)} if self._counts_positions else {}
        output = self.model(input_ids=inputs["input_ids"], attention_mask=mask, **positions)
        if self.pooler is None:
            return output.last_hidden_state, mask.bool()
        token = self.pooler(output, mask.bool())[:, None]  # [b 1 d]
        return token, all_real(token)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Embeddings, each layer, what follows them."""
        parameters = dict(self.named_parameters())
        return [[parameters[name] for name in group] for group in self._order]

    def architecture(self) -> dict[str, Any]:
        """The model's config, so that neither its folder nor the hub is needed again."""
        pooling = "tokens" if self.pooler is None else self.pooler.description
        return {"config": config_to_json(self.model), "max_tokens": self.max_tokens, "pooling": pooling}


def transformers_text(
    *,
    name: str,
    weights: Weights = None,
    max_tokens: int | None = None,
    pooling: Pooling | Steps = "auto",
    tower: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> TextEncoder:
    """A text encoder by hub id or local folder: ``transformers/<id or folder>``. Never runs a model's own code.

    A folder of sentence-transformers says how its tokens become one vector. Where that is their mean (perhaps brought
    to length 1), the encoder gives the tokens, because what follows takes the mean anyway and can do more with them.
    Otherwise (first token, last token, maximum, dense layers) the encoder gives that vector as its only token.

    Args:
        weights: "pretrained" (those of that id or folder); None; a state_dict file; or another id or folder, which
            then brings its config and tokenizer, too.
        max_tokens: texts are cut to as many, special tokens included; None is 128, or what the model can take; with
            ``pooling="sentence"`` it is what the folder says.
        pooling: "auto" (see above); "tokens"; "sentence" (the embedding that sentence-transformers gives, as the only
            token); "projected" (of a text tower: the embedding that it shares with the other tower); or the steps of a
            ``SentencePooling``.
        tower: "text" for a model of two modalities.
        config: of the architecture, instead of the folder's ``config.json``.

    Raises:
        FileNotFoundError: if the model is neither here nor can be fetched.
        ValueError: if it is no text encoder, or weights, config, pooling or tokenizer do not suit it.
    """
    source, files, licence = find_checkpoint(name, weights)
    folder = locate(source, with_weights=False) if config is None else None
    settings: Mapping[str, Any] = read_config(folder) if folder is not None else config or {}
    if tower is not None:
        settings = tower_config(settings, tower)
    sentence = SentenceFolder.find(folder) if folder is not None else None
    pooler = _pooler(name, pooling, sentence, str(settings.get("model_type")))
    state, pooler_state = read_weights(files) if files else (None, {})
    projected = isinstance(pooler, JointEmbedding)
    model, missing = build_text_model(name, settings, state, source=str(files[0]) if files else "", projected=projected)
    if max_tokens is None and pooling == "sentence" and sentence is not None:
        max_tokens = sentence.max_tokens
    max_tokens = checked_length(name, model, max_tokens)
    late = _preprocessor(name, source, model, max_tokens, sentence)
    preprocessor: Preprocessor = late if folder is None else late.make()
    encoder = TextEncoder(model, preprocessor, max_tokens=max_tokens, pooler=pooler)
    if weights is not None and pooler is not None:
        beside = None if Path(weights).is_file() else sentence
        files += _load_pooler(pooler, beside, pooler_state, f"{name}: what {weights} holds for pooling")
    note_weights(encoder, name, weights, files, licence, missing=missing)
    return encoder


def _pooler(
    name: str, pooling: Pooling | Steps, sentence: SentenceFolder | None, kind: str
) -> SentencePooling | JointEmbedding | None:
    """Module that makes one vector of the tokens; None where they stay."""
    if pooling == "projected":
        if kind not in TEXT_TOWERS:
            raise ValueError(
                f"pooling is 'projected', but {name} is no text tower ({', '.join(TEXT_TOWERS)}); leave pooling out"
            )
        return JointEmbedding(TEXT_TOWERS[kind].embedding)
    if pooling == "sentence" and sentence is None:
        raise ValueError(f"pooling is 'sentence', but {name} has no modules.json that says how; leave pooling out")
    if pooling == "tokens" or (pooling == "auto" and (sentence is None or sentence.is_mean)):
        return None
    if sentence is not None and pooling in ("auto", "sentence"):
        return SentencePooling(sentence.steps)
    return SentencePooling(pooling)  # type: ignore[arg-type]  # another word is refused there


def _preprocessor(
    name: str, source: str, model: Any, max_tokens: int, sentence: SentenceFolder | None
) -> LateTextPreprocessor:
    tower = TEXT_TOWERS.get(model.config.model_type)
    reads_padding = tower is not None and tower.reads_padding
    make = partial(
        text_preprocessor,
        source,
        max_tokens=max_tokens,
        pad_id=padding_id(model.config),
        vocab_size=vocab_size(name, model),
        normalizers=[] if sentence is None else sentence.normalizers,
        reads_padding=reads_padding,
    )
    return LateTextPreprocessor(make, text_tensors(max_tokens if reads_padding else "tokens"))


def _load_pooler(
    pooler: nn.Module, sentence: SentenceFolder | None, state: Mapping[str, Tensor], source: str
) -> list[Path]:
    """Gives a pooling its weights: from the folder's own files, which are returned, or from an encoder's state."""
    if sentence is None or not isinstance(pooler, SentencePooling) or pooler.description != sentence.steps:
        fit_state(pooler, state, source)
        return []
    for index, file in sentence.files.items():
        load_state(pooler.steps[index], file)
    return list(sentence.files.values())
