"""Text encoders that are no model of transformers."""

from encoders.info import EncoderInfo

WORD2VEC = "https://arxiv.org/abs/1301.3781"


def entries() -> list[tuple[EncoderInfo, str]]:
    """One a source."""
    source = "a local file of word2vec, GloVe or fastText"
    info = EncoderInfo("wordvectors/*", "text", source=source, paper=WORD2VEC, has_weights=True)
    return [(info, "encoders.text.words:word_vectors")]
