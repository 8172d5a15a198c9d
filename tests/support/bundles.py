"""One small run with three inputs and every kind of task, for tests of exporting it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from support.tiny_models import COLORS, TinyImage, TinyText, make_rows
from torch import Tensor, nn

from encoders.base import Encoder
from encoders.preprocessing.audio import AudioPreprocessor
from export import Bundle, bundle_writer
from fusion import create_fusion
from multimodal.config import Job
from multimodal.decoding import Decoding
from multimodal.model import MultimodalModel
from multimodal.model.heads import ClassificationHead, Head, MultilabelHead, RegressionHead
from multimodal.records import InputReader, Records
from multimodal.records.targets import ClassTarget, LabelSetTarget, NumberTarget, TargetReader

RATE = 8000


class TinySound(Encoder):
    """A frame of 20 ms is a token; one strided convolution."""

    def __init__(self, embed_dim: int = 6) -> None:
        super().__init__()
        self.modality, self.embed_dim = "audio", embed_dim
        self.preprocessor = AudioPreprocessor(RATE, max_seconds=2.0)
        self.frames = nn.Conv1d(1, embed_dim, kernel_size=160, stride=160)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Tokens of the frames; a frame is real where its last sample is."""
        tokens = torch.tanh(self.frames(inputs["waveform"][:, None])).transpose(1, 2)  # [b t d]
        return tokens, inputs["waveform_mask"][:, 159::160]

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """All at once."""
        return [list(self.parameters())]


CONFIG = {
    "name": "fruit",
    "inputs": {
        "photo": {"column": "image", "encoder": "tiny/image"},
        "text": {"encoder": "tiny/text"},
        "sound": {"encoder": "tiny/sound"},
    },
    "fusion": {"name": "attention", "dim": 8},
    "tasks": {
        "color": {"type": "classification"},
        "linear": {"type": "multilabel"},  # also the name of a value inside the graph
        "price": {"type": "regression"},
    },
}


@dataclass
class StubRun:
    """What ``export_bundle`` asks of a run, around a model that is not trained."""

    model: MultimodalModel
    job: Job
    records: Records | None = None
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def readers(self) -> dict[str, InputReader]:
        """As the task names the columns."""
        return {
            name: InputReader(name, self.job.input_column(name), self.model.encoder(name).preprocessor)
            for name in self.job.inputs
        }

    @property
    def decodings(self) -> dict[str, Decoding]:
        """The heads'."""
        return {name: self.model.head(name).decoding() for name in self.job.tasks}

    @property
    def targets(self) -> dict[str, TargetReader]:
        """What reads the labels of ``make_table``."""
        tags = LabelSetTarget("linear", ("new", "sale"))
        return {"color": ClassTarget("color", tuple(COLORS)), "linear": tags, "price": NumberTarget("price")}

    @property
    def provenance(self) -> dict[str, Any]:
        """Encoders of known origin."""
        entry = {"weights": "random", "sha256": None, "licence": "MIT"}
        return {"seed": 0, "encoders": dict.fromkeys(self.job.inputs, entry)}

    def training_records(self) -> Records | None:
        """The given ones."""
        return self.records

    def validation_records(self) -> Records | None:
        """The given ones."""
        return self.records


def make_three_input_model(seed: int = 0) -> MultimodalModel:
    """The model of ``CONFIG`` in eval mode; a head has a parameter that only its loss uses."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoders: dict[str, Encoder] = {"photo": TinyImage(norm="batch"), "text": TinyText(), "sound": TinySound()}
        fusion = create_fusion("attention", {name: encoder.embed_dim for name, encoder in encoders.items()}, 8)
        heads: dict[str, Head] = {
            "color": ClassificationHead(8, list(COLORS)),
            "linear": MultilabelHead(8, ["new", "sale"]),
            "price": RegressionHead(8, mean=3.5, std=1.5, unit="EUR"),
        }
        heads["color"].loss_only = nn.Parameter(torch.randn(77))
        model = MultimodalModel(encoders, fusion, heads)
        for head in model.heads.values():
            nn.init.normal_(head.linear.weight)
    return model.eval()


def make_table(folder: Path, n: int = 9) -> list[dict[str, Any]]:
    """Records with the columns image, text, sound and the labels; some miss inputs, none all of them."""
    rows = make_rows(folder, n, gaps=True)
    for index, row in enumerate(rows):
        samples = RATE // 4 + 400 * index
        waveform = 0.3 * np.sin(np.arange(samples) * (0.05 + 0.02 * index))
        soundfile.write(folder / f"{index}.wav", waveform, RATE)
        row["linear"] = ("new", "sale", "new;sale")[index % 3]
        row["sound"] = None if index % 3 == 1 else f"{index}.wav"
    return rows


def fake_graph(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph that was exported before stands in for a new one: exporting takes seconds."""
    content = bundle.path("model.onnx").read_bytes()
    monkeypatch.setattr(bundle_writer, "to_onnx", lambda model, opset, embedding: content)
