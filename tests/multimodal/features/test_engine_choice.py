from pathlib import Path

import pytest
import torch
from support.assertions import assert_close
from support.tiny_models import TinyImage, TinyText
from torch import Tensor

from multimodal.features import engine_choice as choice
from multimodal.features.engine_choice import EngineChoice, EngineChooser, agrees, choose
from multimodal.features.engines import EagerEngine, channels_last, kept_graph, onnx_engine

Batch = dict[str, Tensor]


def pictures(n: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return {"pixels": torch.randint(0, 256, (n, 3, 16, 16), dtype=torch.uint8, generator=generator)}


def texts(n: int, length: int) -> Batch:
    ids = torch.arange(n * length).reshape(n, length) % 8
    mask = torch.ones(n, length, dtype=torch.int64)
    mask[0, 1:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture
def worth_it(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Any amount is worth choosing for; what each engine takes is written here, torch eager first."""
    seconds: list[float] = []
    monkeypatch.setattr(choice, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(choice, "FEWEST_VALUES", 0)
    monkeypatch.setattr(choice, "_seconds", lambda engine, batch: seconds.pop(0))
    return seconds


def test_every_engine_gives_the_tokens_of_torch_for_other_batches_too(tmp_path):
    for encoder, example, others in (
        (TinyImage(norm="batch").eval(), pictures(4), [pictures(1), pictures(9, 1)]),
        (TinyText().eval(), texts(4, 3), [texts(1, 2), texts(7, 5)]),
    ):
        eager = EagerEngine(encoder)
        engines = [channels_last(encoder), onnx_engine(encoder, example, tmp_path / f"{type(encoder).__name__}.onnx")]
        for engine in filter(None, engines):
            for batch in [example, *others]:
                tokens, mask = engine(batch)
                assert_close(tokens, eager(batch)[0], "onnx")
                assert torch.equal(mask, eager(batch)[1])


def test_an_encoder_of_texts_has_no_pictures_to_lay_out():
    assert channels_last(TinyText()) is None


def test_a_graph_is_made_once_and_kept(tmp_path, monkeypatch):
    kept = kept_graph(tmp_path, "abc")
    onnx_engine(TinyText().eval(), texts(3, 3), kept)
    assert kept.is_file()
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: pytest.fail("made again"))
    onnx_engine(TinyText().eval(), texts(3, 3), kept)


def test_an_engine_leaves_the_encoder_as_it_was(tmp_path):
    encoder = TinyImage(norm="batch").train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    onnx_engine(encoder, pictures(4), tmp_path / "a.onnx")
    EagerEngine(encoder)(pictures(4))
    assert encoder.training
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_fastest_that_agrees_is_taken_and_printed(worth_it, tmp_path):
    worth_it += [2.0, 1.0, 0.5]  # torch eager, channels last, onnxruntime
    eager = EagerEngine(TinyImage().eval())
    chosen = choose(eager, [pictures(4), pictures(2)], values=4, cache=tmp_path, key="k")
    assert chosen.engine.name == "onnxruntime fp32"
    assert str(chosen).startswith("onnxruntime fp32 (4.0x of torch eager, max difference ")
    assert chosen.difference <= 1e-4


def test_what_gains_little_or_differs_is_not_taken(worth_it, tmp_path, monkeypatch):
    eager = EagerEngine(TinyImage().eval())
    worth_it += [1.0, 0.95, 0.95]
    assert str(choose(eager, [pictures(4)], values=4, cache=tmp_path, key="k")) == "torch eager"
    worth_it += [1.0, 0.1, 0.1]
    monkeypatch.setattr(choice, "LARGEST_DIFFERENCE", -1.0)
    assert choose(eager, [pictures(4)], values=4, cache=tmp_path, key="k").engine is eager


class Stubborn(TinyText):
    """Cannot be traced: its Python looks at values."""

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if torch.jit.is_tracing():
            raise RuntimeError("not me")
        return super().forward(inputs)


def test_an_encoder_that_only_torch_can_run_is_run_by_torch(worth_it, tmp_path):
    worth_it += [1.0]
    eager = EagerEngine(Stubborn().eval())
    assert choose(eager, [texts(4, 3)], values=4, cache=tmp_path, key="k").engine is eager


def test_a_quick_encoder_is_only_timed(monkeypatch, tmp_path):
    monkeypatch.setattr(choice, "_seconds", lambda engine, batch: 0.001)
    eager = EagerEngine(TinyImage().eval())
    assert choose(eager, [pictures(10)], values=30_000, cache=tmp_path, key="k").engine is eager  # 3.75 seconds
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("why", ["few values", "no cache"])
def test_choosing_must_pay(why, tmp_path):
    eager = EagerEngine(TinyImage().eval())
    cache: Path | None = tmp_path if why == "few values" else None
    values = 4 if why == "few values" else 10**9
    assert choose(eager, [pictures(4)], values=values, cache=cache, key="k").engine is eager
    assert not list(tmp_path.iterdir())


class FixedLength:
    """A graph that took the length of its example for the only one there is."""

    name = "fixed"

    def __init__(self, eager: EagerEngine, length: int) -> None:
        self.eager, self.length = eager, length

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if batch["input_ids"].shape[1] > self.length:
            raise ValueError("longer than the trace")
        return self.eager(batch)


def test_other_sizes_are_compared_again_and_torch_goes_on_where_they_fail():
    encoder = TinyText().eval()
    chooser = EngineChooser(encoder, values=90, cache=None, key="k")
    eager = EagerEngine(encoder)
    chooser.engine([texts(4, 2), texts(4, 3)])
    fixed = FixedLength(eager, 3)
    chooser.choice = EngineChoice(fixed, 2.0)
    assert chooser.engine([texts(4, 2), texts(4, 3)]) is fixed
    assert chooser.engine([texts(4, 2), texts(4, 5)]).name == "torch eager"
    assert not agrees(fixed, eager, [texts(1, 4)])
