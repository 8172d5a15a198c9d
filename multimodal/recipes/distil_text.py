"""compact/text distilled from a sentence encoder: its weights, as a file that ``weights: FILE`` takes.

    python -m multimodal.recipes.distil_text --teacher transformers/sentence-transformers/all-MiniLM-L6-v2 --out FILE

First each token of compact/text gets the teacher's embedding of that token alone, reduced by PCA (as Model2Vec does,
https://github.com/MinishLab/model2vec). Then the whole encoder learns to give the teacher's embeddings of sentences
from CPython's documentation and of random words of the teacher's own vocabulary. No user's table is read.
"""

import argparse
import json
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor, nn

from encoders import create_encoder
from encoders.base import Encoder
from encoders.compact.build_tokenizer import corpus
from encoders.compact.text import CompactText
from encoders.preprocessing.text import TextPreprocessor
from fusion.base import masked_mean
from multimodal.builders.encoders import encoder_path
from multimodal.console import print_line
from multimodal.runtime.files import refuse_overwriting, write_atomically
from multimodal.trainer.optimization import learning_rate_factor

BATCH_SIZE = 64
WORDS = (1, 12)
"""Fewest and most words of a random text."""
SENTENCE = (20, 200)
"""Fewest and most characters of a sentence that is kept."""


def embed(encoder: Encoder, texts: list[str]) -> Float[Tensor, "b d"]:
    """Mean token of each text."""
    arrays = encoder.preprocessor.stack([encoder.preprocessor(text) for text in texts])
    return masked_mean(*encoder({name: torch.from_numpy(array) for name, array in arrays.items()}))


@torch.inference_mode()
def embed_all(encoder: Encoder, texts: list[str]) -> Float[Tensor, "n d"]:
    """Embeddings of length 1, in order."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # little padding
    embeddings = torch.empty(len(texts), encoder.embed_dim)
    for start in range(0, len(order), BATCH_SIZE):
        chosen = order[start : start + BATCH_SIZE]
        embeddings[chosen] = F.normalize(embed(encoder, [texts[index] for index in chosen]))
    return embeddings


def sentences(texts: Iterable[str], count: int) -> list[str]:
    """Different sentences of prose, in order."""
    pieces = (re.sub(r"\s+", " ", piece).strip() for text in texts for piece in re.split(r"(?<=[.!?])\s|\n\n", text))
    kept = (piece for piece in pieces if SENTENCE[0] <= len(piece) <= SENTENCE[1] and not re.search(r"[`_<>|=]", piece))
    return list(islice(dict.fromkeys(kept), count))


def random_texts(words: list[str], count: int, rng: np.random.Generator) -> list[str]:
    """Words side by side that belong together by chance alone."""
    return [" ".join(rng.choice(words, rng.integers(*WORDS, endpoint=True))) for _ in range(count)]


def vocabulary_of(encoder: Encoder) -> dict[str, int]:
    """Token -> id, of the tokenizer that its preprocessor saves."""
    preprocessor = encoder.preprocessor
    assert isinstance(preprocessor, TextPreprocessor)
    return json.loads(preprocessor.assets()["tokenizer.json"])["model"]["vocab"]


def initialise(student: CompactText, teacher: Encoder) -> None:
    """Static vectors: each token's embedding by the teacher, reduced by PCA to the student's dim."""
    ids = vocabulary_of(student)
    # byte-level BPE writes a space as this letter
    pieces = [piece.replace("Ġ", " ").strip() or "." for piece in sorted(ids, key=ids.__getitem__)]
    vectors = embed_all(teacher, pieces)
    centred = vectors - vectors.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    reduced = centred @ directions[: student.embed.embedding_dim].T
    with torch.no_grad():
        student.embed.weight.copy_(0.1 * reduced / reduced.std())


def distil(student: Encoder, texts: list[str], targets: Float[Tensor, "n d"], *, epochs: int, seed: int) -> None:
    """Trains the student, through a linear map that is thrown away, to point where the teacher does."""
    torch.manual_seed(seed)
    bridge = nn.Linear(student.embed_dim, targets.shape[1])
    parameters = [*student.parameters(), *bridge.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.01)
    steps, done = -(-len(texts) // BATCH_SIZE), 0
    student.train()
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(texts)).split(BATCH_SIZE):
            optimizer.param_groups[0]["lr"] = 3e-3 * learning_rate_factor(done, epochs * steps, 0.05)
            outputs = bridge(embed(student, [texts[index] for index in chosen]))
            loss = (1 - F.cosine_similarity(outputs, targets[chosen])).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, done = total + loss.item(), done + 1
        print_line(f"epoch {epoch + 1} of {epochs}: mean cosine {1 - total / steps:.4f}")
    student.eval()


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, metavar="ENCODER", help="registered name of a text encoder")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors")
    parser.add_argument("--texts", type=int, default=30_000, help="of each kind")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    teacher_path = encoder_path(given.teacher, Path.cwd())
    if teacher_path is not None:
        refuse_overwriting("--out", given.out, [("the teacher", teacher_path)])
    torch.manual_seed(given.seed)
    teacher, student = create_encoder(given.teacher).eval(), CompactText()
    initialise(student, teacher)
    words = sorted(word for word in vocabulary_of(teacher) if re.fullmatch(r"[a-z]{3,}", word))
    rng = np.random.default_rng(given.seed)
    texts = sentences(corpus(), given.texts) + random_texts(words, given.texts, rng)
    print_line(f"{len(texts)} texts; the teacher reads them")
    distil(student, texts, embed_all(teacher, texts), epochs=given.epochs, seed=given.seed)
    write_atomically(given.out, save({name: tensor.contiguous() for name, tensor in student.state_dict().items()}))
    print_line(f"{given.out}: weights for compact/text")


if __name__ == "__main__":
    main()
