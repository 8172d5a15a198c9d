"""Builds ``tokenizer.json``, the vocabulary of compact/text: ``python -m encoders.compact.build_tokenizer``.

The corpus is what every machine with CPython has: the language reference, the documentation strings of the
standard library (both under the PSF licence), and the Unicode names of pictographs, for everyday words (Unicode
licence). No table of a user is read. The file in the package was built with CPython 3.11.7 and tokenizers 0.23.3;
the same versions give the same bytes.
"""

import ast
import logging
import sysconfig
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TOKENIZER_FILE = Path(__file__).with_name("tokenizer.json")
VOCABULARY_SIZE = 8192
PADDING = "[PAD]"
# tests, other distributions, and packages that not every CPython has
_SKIPPED_FOLDERS = {"test", "tests", "site-packages", "dist-packages", "distutils", "idlelib", "lib2to3", "tkinter"}
_PICTOGRAPHS = range(0x1F300, 0x1FB00)  # https://www.unicode.org/charts/, the blocks of emoji
_PICTOGRAPH_COPIES = 8  # a name occurs once, and a word needs a few occurrences to become a token
_log = logging.getLogger(__name__)


def corpus(library: Path | None = None) -> Iterator[str]:
    """English prose that comes with CPython, in a fixed order.

    Args:
        library: folder of the standard library; None is the running interpreter's.
    """
    from pydoc_data.topics import topics

    yield from (topics[name] for name in sorted(topics))
    yield from (unicodedata.name(chr(code), "") for code in _PICTOGRAPHS for _ in range(_PICTOGRAPH_COPIES))
    library = Path(sysconfig.get_paths()["stdlib"]) if library is None else library
    for path in sorted(library.rglob("*.py")):
        if not _SKIPPED_FOLDERS.intersection(path.relative_to(library).parts):
            yield from documentation(path.read_text(encoding="utf-8", errors="ignore"))


def documentation(source: str) -> Iterator[str]:
    """Documentation strings of a module and of everything in it, outermost first; none where it does not parse.

    >>> list(documentation("'''Fruit.'''\\ndef peel():\\n    '''Takes the skin off.'''"))
    ['Fruit.', 'Takes the skin off.']
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text


def build_tokenizer(texts: Iterator[str], vocabulary_size: int = VOCABULARY_SIZE) -> Tokenizer:
    """A lower-case byte-level BPE tokenizer: every UTF-8 text has tokens, none is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
            normalizers.Prepend(" "),  # the first word's tokens are those it has elsewhere
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[PADDING],  # id 0
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=16,  # else rulers and ASCII tables become tokens
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def main() -> None:
    """Writes the file into the package."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tokenizer = build_tokenizer(corpus())
    tokenizer.save(str(TOKENIZER_FILE), pretty=False)
    size = TOKENIZER_FILE.stat().st_size
    _log.info("%s: %d tokens, %d bytes", TOKENIZER_FILE, tokenizer.get_vocab_size(), size)


if __name__ == "__main__":
    main()
