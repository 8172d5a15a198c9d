"""Small real objects for tests: encoders of a few hundred parameters on the real preprocessors, a table, a model.

The table: images of one colour each, a catalogue line that names the colour and a shape, the class ``color`` and
the number ``price`` (which depends on the shape), so that both inputs say something and a few steps learn it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor, nn

from encoders.base import Encoder, all_real
from encoders.preprocessing.image import ImagePreprocessor
from encoders.preprocessing.text import TextPreprocessor
from fusion import LateFusion, create_fusion
from multimodal.data.dataset import RecordDataset
from multimodal.model import MultimodalModel
from multimodal.model.heads import ClassificationHead, Head, RegressionHead
from multimodal.model.input_heads import LateHead
from multimodal.records import InputReader, Records, read_records
from multimodal.records.targets import ClassTarget, NumberTarget, TargetReader

COLORS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}
SHAPES = ("round", "square")
WORDS = ("[PAD]", "[UNK]", *COLORS, *SHAPES, "thing")
IMAGE_SIZE = 16
"""Pixels a side."""


def tiny_tokenizer() -> Tokenizer:
    """One id a word, split at spaces; ``[UNK]`` for words that are not in ``WORDS``."""
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


class TinyText(Encoder):
    """An embedding, a LayerNorm and a linear layer; a token a word. Two depth groups."""

    def __init__(self, *, embed_dim: int = 8, max_tokens: int = 8) -> None:
        super().__init__()
        self.modality, self.embed_dim = "text", embed_dim
        self.preprocessor = TextPreprocessor(tiny_tokenizer(), max_tokens=max_tokens)
        self.embed = nn.Embedding(len(WORDS), embed_dim)
        self.norm = nn.LayerNorm(embed_dim)
        self.project = nn.Linear(embed_dim, embed_dim)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Tokens of the words, mask of the real ones."""
        return self.project(self.norm(self.embed(inputs["input_ids"]))), inputs["attention_mask"].bool()

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Embedding; the rest."""
        return [list(self.embed.parameters()), [*self.norm.parameters(), *self.project.parameters()]]


class TinyImage(Encoder):
    """Two convolutions with a normalisation and a dropout between; four tokens per image. Two depth groups.

    Args:
        norm: "batch" gives it running statistics, which training changes.
    """

    def __init__(self, *, embed_dim: int = 8, norm: Literal["group", "batch"] = "group", dropout: float = 0.0) -> None:
        super().__init__()
        self.modality, self.embed_dim = "image", embed_dim
        self.preprocessor = ImagePreprocessor(IMAGE_SIZE)
        self.first = nn.Conv2d(3, 8, kernel_size=4, stride=4)
        self.norm = nn.BatchNorm2d(8) if norm == "batch" else nn.GroupNorm(2, 8)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Conv2d(8, embed_dim, kernel_size=2, stride=2)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Tokens of the quarters of the image, all real."""
        x = inputs["pixels"].float() / 255.0 - 0.5  # [b 3 h w]
        x = self.dropout(torch.relu(self.norm(self.first(x))))
        tokens = self.second(x).flatten(2).transpose(1, 2)  # [b 4 d]
        return tokens, all_real(tokens)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """First convolution with its normalisation; second convolution."""
        return [[*self.first.parameters(), *self.norm.parameters()], list(self.second.parameters())]


def write_images(folder: Path, n: int) -> list[str]:
    """Writes ``0.png`` to ``n-1.png``, noisy, of one colour each in the order of ``COLORS``; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    colors = list(COLORS.values())
    for index in range(n):
        noise = np.random.default_rng(index).integers(-30, 31, (IMAGE_SIZE, IMAGE_SIZE, 3))
        pixels = np.clip(np.array(colors[index % len(colors)]) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return [f"{index}.png" for index in range(n)]


def make_rows(folder: Path, n: int, *, gaps: bool = False) -> list[dict[str, Any]]:
    """A table of ``n`` records with the columns image, text, color and price; its images lie in ``folder``.

    Args:
        gaps: leaves out every fourth image, every fifth text, every sixth color and every seventh price, but
            never both inputs of a record.
    """
    colors = list(COLORS)
    rows: list[dict[str, Any]] = []
    for index, name in enumerate(write_images(folder, n)):
        color, shape = colors[index % len(colors)], SHAPES[index % 2]
        rows.append({"image": name, "text": f"{color} {shape} thing", "color": color, "price": 2.0 + 3 * (index % 2)})
        if gaps:
            empty = {"image": index % 4 == 3, "text": index % 5 == 4 and index % 4 != 3}
            empty |= {"color": index % 6 == 5, "price": index % 7 == 6}
            rows[-1] |= {column: None for column, is_empty in empty.items() if is_empty}
    return rows


def make_model(
    *,
    norm: Literal["group", "batch"] = "group",
    fusion: str = "concat",
    dim: int | None = 8,
    dropout: float = 0.0,
    modality_dropout: float = 0.0,
    seed: int = 0,
) -> MultimodalModel:
    """Inputs ``image`` and ``text``, tasks ``color`` (3 classes) and ``price`` (a number); leaves torch's RNG alone.

    Args:
        dim: of the fusion; late fusion has none.
        norm: of the image encoder, as in ``TinyImage``.
        dropout: in the image encoder, and in the fusion where it projects (``dim`` is not None).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoders: dict[str, Encoder] = {"image": TinyImage(norm=norm, dropout=dropout), "text": TinyText()}
        in_dims = {name: encoder.embed_dim for name, encoder in encoders.items()}
        fused = create_fusion(fusion, in_dims, None if fusion == "late" else dim, dropout=dropout)

        def build(head: Callable[[int], Head]) -> Head:
            if isinstance(fused, LateFusion):
                return LateHead({name: head(dim) for name, dim in in_dims.items()}, in_dims)
            return head(fused.out_dim)

        heads = {
            "color": build(lambda dim: ClassificationHead(dim, list(COLORS))),
            "price": build(lambda dim: RegressionHead(dim, mean=3.5, std=1.5, unit="EUR")),
        }
        return MultimodalModel(encoders, fused, heads, modality_dropout=modality_dropout)


def make_targets() -> dict[str, TargetReader]:
    """What reads the columns ``color`` and ``price``."""
    return {"color": ClassTarget("color", tuple(COLORS)), "price": NumberTarget("price")}


def make_dataset(rows: Sequence[dict[str, Any]] | Records, folder: Path, model: MultimodalModel) -> RecordDataset:
    """The records as samples for the model of ``make_model``, without augmentation.

    Args:
        folder: of the images.
    """
    readers = {name: InputReader(name, name, model.encoder(name).preprocessor) for name in model.input_names}
    return RecordDataset(read_records(rows, root=folder), readers, make_targets())
