"""Static word vectors as a text encoder: word2vec, GloVe, fastText."""

import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.base import Encoder, Provenance
from encoders.info import Weights
from encoders.preprocessing import Preprocessor
from encoders.preprocessing.base import whole_number
from encoders.preprocessing.text import text_tensors
from encoders.preprocessing.words import UNKNOWN, WordPreprocessor
from encoders.text.late import LateTextPreprocessor
from encoders.text.word_table import WordTable
from encoders.weights.state import load_state

FAMILY = "wordvectors/"
MOST_FREQUENT = 200_000

logger = logging.getLogger(__name__)


class WordVectors(Encoder):
    """A vector for each word, whatever stands around it.

    word2vec (Mikolov et al., 2013, https://arxiv.org/abs/1301.3781), GloVe (Pennington et al., 2014,
    https://aclanthology.org/D14-1162), fastText (Bojanowski et al., 2017, https://arxiv.org/abs/1607.04606), of which
    the vectors of whole words are used and not those of letter sequences. Words that are not in the vocabulary are
    left out; a text without any known word is one token of zeros, which training does not change.

    Args:
        preprocessor: numbers the words from 1; 0 is unknown.
        words: how many there are.
        dim: of their vectors.
        options: JSON arguments of ``word_vectors`` that rebuild it, without ``size``; the preprocessor knows the words.
    """

    def __init__(self, preprocessor: Preprocessor, *, words: int, dim: int, options: dict[str, Any]) -> None:
        super().__init__()
        self.modality, self.embed_dim, self.preprocessor = "text", dim, preprocessor
        self.embed = nn.Embedding(words + 1, dim, padding_idx=UNKNOWN)
        self.arguments = {**options, "size": [words, dim]}

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """``input_ids`` and ``attention_mask`` int64 ``[b l]`` -> the vector of each word."""
        return self.embed(inputs["input_ids"]), inputs["attention_mask"].bool()

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """All vectors at once."""
        return [list(self.embed.parameters())]

    def narrowed(self, words: Iterable[str]) -> "WordVectors":
        """The same vectors for some of its words, in their order; unknown words are left out.

        Raises:
            ValueError: if it has none of them.
        """
        assert isinstance(self.preprocessor, WordPreprocessor)
        numbers = {word: number for number, word in enumerate(self.preprocessor.words, start=1)}
        kept = [word for word in dict.fromkeys(words) if word in numbers]
        if not kept:
            raise ValueError(f"{self.name} has none of these words; give words of its {len(numbers)}")
        preprocessor = WordPreprocessor(kept, max_tokens=self.preprocessor.max_tokens)
        encoder = WordVectors(preprocessor, words=len(kept), dim=self.embed_dim, options=self.arguments)
        rows = [UNKNOWN, *(numbers[word] for word in kept)]
        encoder.embed.load_state_dict({"weight": self.embed.weight.detach()[rows]})
        encoder.name, encoder.provenance = self.name, self.provenance
        return encoder.train(self.training)


def word_vectors(
    *,
    name: str,
    weights: Weights = None,
    vocabulary: int | str | Path = MOST_FREQUENT,
    max_tokens: int = 128,
    cache: str | Path | None = None,
    size: tuple[int, int] | None = None,
) -> WordVectors:
    """Word vectors from a file: ``wordvectors/PATH``, in the formats of word2vec, GloVe and fastText (.vec).

    The file is converted once, as a stream, to a folder beside it (``PATH.table``), which is memory-mapped.

    Args:
        weights: "pretrained" (the file's vectors); None for random vectors of the file's words; or a state_dict file.
        vocabulary: the most frequent so many words (the first in the file), or a text file with a word a line. Run
            and bundle hold these words and no others.
        max_tokens: texts are cut to as many known words.
        cache: folder for the conversion, where nothing can be written beside the file.
        size: words and dim, of an encoder that is rebuilt without the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it or the vocabulary is damaged, or no word of the vocabulary is in it.
    """
    source, cache = Path(name.removeprefix(FAMILY)), None if cache is None else Path(cache)
    options = {"vocabulary": vocabulary if isinstance(vocabulary, int) else str(vocabulary), "max_tokens": max_tokens}
    if size is not None:
        make = partial(_preprocessor, source, vocabulary, max_tokens, cache)
        late = LateTextPreprocessor(make, text_tensors())
        encoder = WordVectors(late, words=size[0], dim=size[1], options=options)
    else:
        table = WordTable.open(source, cache)
        chosen = _choose(table, source, vocabulary)
        preprocessor = WordPreprocessor(chosen, max_tokens=max_tokens)
        encoder = WordVectors(preprocessor, words=len(chosen), dim=table.dim, options=options)
        if weights == "pretrained":
            with torch.no_grad():
                encoder.embed.weight[1:] = torch.from_numpy(table.matrix[list(chosen.values())])
            encoder.provenance = Provenance("pretrained", table.sha256)
    if weights not in (None, "pretrained"):
        encoder.provenance = Provenance(str(weights), load_state(encoder, Path(str(weights))))
    return encoder


def _preprocessor(source: Path, vocabulary: int | str | Path, max_tokens: int, cache: Path | None) -> WordPreprocessor:
    return WordPreprocessor(_choose(WordTable.open(source, cache), source, vocabulary), max_tokens=max_tokens)


def _choose(table: WordTable, source: Path, vocabulary: int | str | Path) -> dict[str, int]:
    """The words of the vocabulary that have vectors, and their rows."""
    if isinstance(vocabulary, int):
        words = table.most_frequent(whole_number("vocabulary", vocabulary))
        wanted = len(words)
    else:
        path = Path(vocabulary)
        if not path.is_file():
            raise FileNotFoundError(
                f"vocabulary {str(vocabulary)!r} is no file; give a text file with a word a line, or a number of words"
            )
        lines = dict.fromkeys(path.read_text(encoding="utf-8-sig").split())
        words, wanted = {word: row for word in lines if (row := table.row(word)) is not None}, len(lines)
    if not words:
        raise ValueError(f"{source} has none of the words of the vocabulary {vocabulary!r}; give words that it has")
    if len(words) < wanted:
        logger.info("%s has no vector for %d of %d words", source, wanted - len(words), wanted)
    return words
