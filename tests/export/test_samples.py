"""Invented values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from support.assertions import assert_close
from support.bundles import StubRun
from support.tiny_models import TinyText

from encoders.preprocessing import Arrays, TensorSpec, stack_arrays
from export.samples import synthetic_samples


def test_equal_seeds_give_equal_values(run: StubRun) -> None:
    for reader in run.readers.values():
        first, second = (
            synthetic_samples(reader.preprocessor, np.random.default_rng(0), ["short", "middle", "long"]) for _ in "ab"
        )
        for left, right in zip(first, second, strict=True):
            for name in left:
                assert_close(left[name], right[name], "float32")


def test_texts_are_of_words_that_the_tokenizer_knows() -> None:
    (sample,) = synthetic_samples(TinyText(max_tokens=100).preprocessor, np.random.default_rng(0), ["long"])
    assert len(sample["input_ids"]) == 100
    assert set(sample["input_ids"].tolist()) == {2, 3, 4, 5, 6, 7}  # all but [PAD] and [UNK]


class Spectrum:
    """A modality of somebody else's."""

    modality = "spectrum"
    tensors = (
        TensorSpec("bands", "float32", ("batch", "length", 4)),
        TensorSpec("ids", "int64", ("batch", "length")),
        TensorSpec("counts", "uint8", ("batch", 3)),
        TensorSpec("mask", "bool", ("batch", "length")),
    )

    def __call__(self, raw: Any) -> Arrays:
        raise NotImplementedError

    def blank(self) -> Arrays:
        return {
            "bands": np.zeros((1, 4), np.float32),
            "ids": np.array([7]),
            "counts": np.zeros(3, np.uint8),
            "mask": np.ones(1, bool),
        }

    def stack(self, samples: Sequence[Arrays]) -> Arrays:
        return stack_arrays(samples, self.tensors, {})

    def to_config(self) -> dict[str, Any]:
        return {"kind": "spectrum"}


def test_another_modality_gets_arrays_of_the_declared_shapes() -> None:
    short, long = synthetic_samples(Spectrum(), np.random.default_rng(0), ["short", "long"])
    assert {name: array.shape for name, array in short.items()} == {
        "bands": (1, 4), "ids": (1,), "counts": (3,), "mask": (1,)
    }  # fmt: skip
    assert long["bands"].shape == (64, 4)
    assert long["bands"].std() > 0.5
    assert set(long["ids"].tolist()) == {7}  # only the blank's ids are known to exist
    assert {name: array.dtype.name for name, array in long.items()} == {
        "bands": "float32", "ids": "int64", "counts": "uint8", "mask": "bool"
    }  # fmt: skip
