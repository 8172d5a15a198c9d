"""compact/text: token embeddings and one gated convolution, 1.3 million parameters."""

from pathlib import Path

from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.base import Encoder
from encoders.compact.build_tokenizer import TOKENIZER_FILE, VOCABULARY_SIZE
from encoders.compact.shared import GatedConv, load_weights
from encoders.preprocessing.text import TextPreprocessor


class CompactText(Encoder):
    """Embeddings of the tokens, joined with their neighbours by a gated convolution.

    Its vocabulary ships with the package and is built from CPython's own documentation; no user's table is read.

    Legend: b records, l tokens, d the width.

    Args:
        weights: "pretrained" (those of the package), a file with a state_dict, or None for random ones.
        max_tokens: what comes later in a text is cut off.
        width: of the tokens.
        dropout: probability of dropping an element of the embeddings and of each residual while training.
    """

    def __init__(
        self,
        *,
        weights: str | Path | None = None,
        max_tokens: int = 128,
        width: int = 192,
        dropout: float = 0.15,
    ) -> None:
        super().__init__()
        self.modality = "text"
        self.embed_dim = width
        self.preprocessor = TextPreprocessor(TOKENIZER_FILE.read_text(encoding="utf-8"), max_tokens=max_tokens)
        self.arguments = {"max_tokens": max_tokens, "width": width, "dropout": dropout}
        self.embed = nn.Embedding(VOCABULARY_SIZE, 128)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.project = nn.Linear(128, width)
        self.mix = GatedConv(width, 3, dropout)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        load_weights(self, weights)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """``input_ids`` and ``attention_mask`` int64 ``[b l]`` -> one token for each."""
        mask = inputs["attention_mask"] > 0  # [b l]
        x = self.project(self.dropout(self.embed(inputs["input_ids"])))
        return self.norm(self.mix(x, mask)), mask

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Embeddings, projection, convolution, final norm."""
        return [list(module.parameters()) for module in (self.embed, self.project, self.mix, self.norm)]
