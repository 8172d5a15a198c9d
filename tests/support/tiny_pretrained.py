"""Tiny encoders that come with weights, registered for a test, and jobs that use them on the table of ``tiny``."""

from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
import torch
from support.assertions import changed
from support.tiny_models import TinyImage, TinyText, make_rows

import multimodal as mm
from encoders import registry
from multimodal.job import TrainingSetup
from multimodal.splits.tables import read_tables


class Words(TinyText):
    """Text; its weights are the same in every job."""

    def __init__(self, *, weights: str | None = None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7 if weights == "pretrained" else 8)
            super().__init__()


class PlantedImage(TinyImage):
    """Images, with running statistics; its weights are the same in every job."""

    def __init__(self, *, norm: Literal["group", "batch"] = "batch", weights: str | None = None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7 if weights == "pretrained" else 8)
            super().__init__(norm=norm)
        self.arguments = {"norm": norm}


def plant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers ``planted/words`` and ``planted/picture`` (rate scale 0.1), and ``planted/small`` (1) for a test."""
    monkeypatch.setattr(registry.ENCODERS, "registered", {})
    mm.register_encoder("planted/words", modality="text", has_weights=True)(Words)
    mm.register_encoder("planted/picture", modality="image", has_weights=True)(PlantedImage)
    mm.register_encoder("planted/small", modality="text", has_weights=True, learning_rate_scale=1.0)(
        lambda *, weights=None: Words(weights=weights)
    )


def write_shop(folder: Path, n: int = 24) -> Path:
    """``train.csv`` and ``valid.csv`` beside their images; gives the folder."""
    rows = make_rows(folder, n, gaps=True)
    pd.DataFrame(rows[: n * 2 // 3]).to_csv(folder / "train.csv", index=False)
    pd.DataFrame(rows[n * 2 // 3 :]).to_csv(folder / "valid.csv", index=False)
    return folder


def shop_job(folder: Path, **changes: Any) -> mm.Job:
    """A job on both inputs, with dotted keys changed."""
    values = {
        "data": {"train": str(folder / "train.csv"), "valid": str(folder / "valid.csv"), "workers": 0},
        "inputs": {
            "image": {"encoder": "planted/picture", "augment": {"enabled": False}},
            "text": {"encoder": "planted/words", "augment": {"enabled": False}},
        },
        "fusion": {"name": "concat", "dim": 8, "dropout": 0.0},
        "tasks": {"color": {}, "price": {"type": "regression"}},
        "transfer": {"strategy": "finetune"},
        "train": {"epochs": 2, "batch_size": 8, "learning_rate": 0.01},
    }
    return mm.Job.model_validate(changed(values, changes))


def shop_setup(folder: Path, **changes: Any) -> TrainingSetup:
    """The job, built."""
    job = shop_job(folder, **changes)
    return TrainingSetup.build(job, read_tables(job), folder)
