from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support.assertions import assert_close, full_disk
from support.logs import shown
from support.tiny_models import TinyImage, TinyText, make_rows
from torch import Tensor

import multimodal as mm
from encoders.base import Encoder
from encoders.preprocessing import UnreadableValueError
from fusion.base import masked_mean
from multimodal.features import content_key, encoder_key, feature_reader
from multimodal.features.engine_choice import EngineChoice, EngineChooser
from multimodal.features.engines import EagerEngine, Engine
from multimodal.features.token_store import TokenStore
from multimodal.job import train_job
from multimodal.records import InputReader, Records, read_records
from multimodal.runtime.files import UnwritableFileError
from multimodal.runtime.runtime import Runtime
from multimodal.training import fit

ENGINES: list[str] = []


class Counting(TinyText):
    """Counts the texts that it encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded = 0

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        self.encoded += len(inputs["input_ids"])
        return super().forward(inputs)


def text_reader(encoder: Encoder) -> InputReader:
    return InputReader("text", "text", encoder.preprocessor)


def table(*texts: Any) -> Records:
    return read_records([{"text": text} for text in texts])


def read(reader: InputReader, records: Records, row: int) -> tuple[Mapping[str, np.ndarray], bool]:
    return reader.read(records[row], records.root, records.allow_outside)


def keep(encoder: Encoder, records: Records, cache: Path | None = None, workers: int = 0, **kwargs: Any) -> InputReader:
    reader = text_reader(encoder)
    return feature_reader(
        reader, encoder, [records], runtime=Runtime(cache=cache, workers=workers), **{"pooled": False, **kwargs}
    )


def test_tokens_are_those_of_the_encoder_alone_with_each_value():
    encoder, records = TinyText(), table("red round thing", "blue", "green square", None)
    reader = keep(encoder, records)
    for row in range(3):
        arrays = encoder.preprocessor.stack([encoder.preprocessor(records[row]["text"])])
        with torch.no_grad():
            tokens, _ = encoder({name: torch.from_numpy(array) for name, array in arrays.items()})
        kept, present = read(reader, records, row)
        assert present
        assert_close(kept["tokens"], tokens[0].numpy())
        assert kept["mask"].all()
    blank, present = read(reader, records, 3)
    assert not present
    assert not blank["mask"].any()


def test_a_fusion_that_needs_no_more_gets_the_mean_token():
    encoder, records = TinyText(), table("red round thing")
    whole, _ = read(keep(encoder, records), records, 0)
    mean, _ = read(keep(encoder, records, pooled=True), records, 0)
    tokens, mask = torch.from_numpy(np.array(whole["tokens"])), torch.from_numpy(whole["mask"])
    assert mean["tokens"].shape == (1, 8)
    assert_close(mean["tokens"], masked_mean(tokens[None], mask[None]).numpy())


def test_each_content_is_encoded_once_wherever_it_stands(tmp_path, caplog):
    encoder = Counting()
    keep(encoder, table("red", "blue", "red", None, "red"), tmp_path)
    assert encoder.encoded == 2
    keep(encoder, table("blue", "green"), tmp_path)
    assert encoder.encoded == 3
    keep(encoder, table("blue", "green", "red"), tmp_path)
    assert encoder.encoded == 3
    assert "frozen; tokens of 3 values (none new)" in caplog.messages[-1]


def test_tokens_of_other_weights_are_not_taken(tmp_path):
    encoder, records = Counting(), table("red")
    before = keep(encoder, records, tmp_path)
    with torch.no_grad():
        encoder.project.bias += 1.0
    after = keep(encoder, records, tmp_path)
    assert encoder.encoded == 2
    assert_close(read(after, records, 0)[0]["tokens"], read(before, records, 0)[0]["tokens"] + 1.0)


def test_what_tokens_depend_on_changes_their_key():
    torch.manual_seed(0)
    encoder = TinyText()
    keys = {encoder_key(encoder, pooled=False), encoder_key(encoder, pooled=True)}
    keys.add(encoder_key(TinyText(max_tokens=4), pooled=False))
    torch.manual_seed(1)
    keys.add(encoder_key(TinyText(), pooled=False))
    assert len(keys) == 4


def test_an_encoder_with_counters_has_a_key_that_sees_them():
    encoder = TinyImage(norm="batch")
    before = encoder_key(encoder, pooled=True)
    encoder.norm.num_batches_tracked += 1
    assert encoder_key(encoder, pooled=True) != before


def test_a_file_is_known_by_its_content_not_its_name(tmp_path):
    make_rows(tmp_path, 2)
    (tmp_path / "copy.png").write_bytes((tmp_path / "0.png").read_bytes())
    reader = InputReader("image", "image", TinyImage().preprocessor)

    def key(value: Any) -> str | None:
        return content_key(reader, {"image": value}, tmp_path, False)

    assert key("0.png") == key("copy.png") == key((tmp_path / "0.png").read_bytes())
    assert key("1.png") != key("0.png")
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    assert key(pixels) == key(pixels.copy()) != key(pixels + 1)
    with pytest.raises(UnreadableValueError, match=r"'none.png' does not exist"):
        key("none.png")


def test_a_value_that_cannot_be_read_is_named_when_its_record_is_used(tmp_path):
    make_rows(tmp_path, 2)
    (tmp_path / "1.png").write_bytes(b"no picture")
    encoder = TinyImage()
    records = read_records([{"image": "0.png"}, {"image": "1.png"}, {"image": "2.png"}], root=tmp_path)
    reader = InputReader("image", "image", encoder.preprocessor)
    kept = feature_reader(reader, encoder, [records], pooled=False, runtime=Runtime())
    assert read(kept, records, 0)[1]
    with pytest.raises(UnreadableValueError, match=r"'1.png': is not a readable JPEG"):
        read(kept, records, 1)
    with pytest.raises(UnreadableValueError, match=r"'2.png' does not exist"):
        read(kept, records, 2)


def test_a_value_that_changed_meanwhile_is_refused():
    kept = keep(TinyText(), table("red"))
    with pytest.raises(UnreadableValueError, match="text has changed since training began; start it again"):
        read(kept, table("blue"), 0)


class SettlingChooser(EngineChooser):
    """Has taken another engine than torch eager, as one that is faster."""

    def __init__(self, encoder: Encoder, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        self.choice = EngineChoice(EagerEngine(encoder, "faster"))

    def engine(self, batches: Any) -> Engine:
        chosen = super().engine(batches)
        ENGINES.append(chosen.name)
        return chosen


def test_where_the_disk_becomes_full_tokens_stay_in_memory_by_torch_with_one_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("multimodal.features.readers.EngineChooser", SettlingChooser)
    monkeypatch.setattr("multimodal.features.readers.CHUNK", 2)
    monkeypatch.setattr("multimodal.features.readers.BATCH_SIZE", 2)
    encoder, records = TinyText(), table("red", "blue", "green", "a round thing", "more")
    ENGINES.clear()
    with full_disk():
        reader = feature_reader(text_reader(encoder), encoder, [records], pooled=False, runtime=Runtime(cache=tmp_path))
    assert ENGINES == ["faster", "torch eager", "torch eager", "torch eager"]
    assert [line for line in shown(caplog) if line.startswith("warning")] == [shown(caplog)[1]]
    assert shown(caplog)[1].startswith("warning: text: tokens are kept in memory alone from here on: ")
    assert "frozen; tokens of 5 values" in caplog.messages[2]
    assert caplog.messages[2].endswith("MB in memory")
    plain = keep(encoder, records)
    for row in range(len(records)):
        assert_close(read(reader, records, row)[0]["tokens"], read(plain, records, row)[0]["tokens"])
    assert not list((tmp_path / "tokens").rglob("*.json"))


# --- through a training run ---


def make_job(**text: Any) -> mm.Job:
    return mm.Job.model_validate(
        {
            "data": {"workers": 0},
            "inputs": {
                "image": {"encoder": "compact/image", "options": {"image_size": 32}},
                "text": {"encoder": "compact/text", **text},
            },
            "fusion": {"name": "concat"},
            "tasks": {"color": {}},
            # AdamW's first steps follow signs, which noise turns where a gradient is nearly zero
            "train": {"epochs": 2, "batch_size": 8, "optimizer": "sgd", "learning_rate": 0.1},
        }
    )


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    pd.DataFrame(make_rows(folder, 20, gaps=True)).to_csv(folder / "train.csv", index=False)
    return folder


def test_training_on_kept_tokens_is_training_on_values(media, tmp_path, monkeypatch, caplog):
    """A frozen encoder that is not augmented gives the same tokens each time."""
    kept = fit(make_job(frozen=True), train=media / "train.csv", out=tmp_path / "kept")
    assert any(line.startswith("text: frozen; tokens of ") for line in caplog.messages)
    assert not any(line.startswith("image: frozen") for line in caplog.messages)
    monkeypatch.setattr(train_job, "keep_tokens", lambda setup, *_: setup)
    plain = fit(make_job(frozen=True, augment={"enabled": False}), train=media / "train.csv", out=tmp_path / "plain")
    for name, value in plain.model.state_dict().items():
        assert_close(kept.model.state_dict()[name], value, "float32")


def test_a_second_run_encodes_nothing_and_ends_the_same(media, tmp_path, caplog):
    files, said = [], []
    for name, cache in (("a", True), ("b", True), ("c", False)):
        caplog.clear()
        run = fit(make_job(frozen=True), train=media / "train.csv", out=tmp_path / name, cache=cache)
        files.append((run.folder / "model.safetensors").read_bytes())
        said.append(next(line for line in caplog.messages if "frozen" in line))
    assert " new in " in said[0]
    assert "(none new)" in said[1]
    assert "MB in memory" in said[2]
    assert files[0] == files[1] == files[2]


def test_a_run_without_a_place_for_its_cache_ends_the_same_with_one_warning(media, tmp_path, monkeypatch, caplog):
    files = []
    for name, cache in (("a", True), ("b", False)):
        (tmp_path / "file").write_text("no folder")
        monkeypatch.setenv("MULTIMODAL_CACHE", str(tmp_path / "file"))
        caplog.clear()
        run = fit(make_job(frozen=True), train=media / "train.csv", out=tmp_path / name, cache=cache)
        files.append((run.folder / "model.safetensors").read_bytes())
        assert sum(line.startswith("warning: ") for line in shown(caplog)) == cache
        assert any(line.endswith("MB in memory") for line in caplog.messages)
    assert files[0] == files[1]


def test_a_run_on_a_full_disk_names_the_file_and_is_gone_on_with(media, tmp_path):
    stopped = {100: "config.yaml", 3000: "tokenizer.json", 1_000_000: "best.safetensors"}
    for room, name in stopped.items():
        with full_disk(room), pytest.raises(UnwritableFileError, match=rf"{name} cannot be written \(File too large"):
            fit(make_job(frozen=True), train=media / "train.csv", out=tmp_path / "full", cache=False, resume=True)
    run = fit(make_job(frozen=True), train=media / "train.csv", out=tmp_path / "full", cache=False, resume=True)
    whole = fit(make_job(frozen=True), train=media / "train.csv", out=tmp_path / "whole", cache=False)
    assert (run.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()


def test_a_store_in_memory_writes_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("MULTIMODAL_CACHE", str(tmp_path / "cache"))
    keep(TinyText(), table("red"))
    assert not (tmp_path / "cache").exists()
    assert TokenStore(None).folder is None


def test_an_encoder_that_counts_its_batches_has_a_key():
    encoder = TinyImage(norm="batch")
    before = encoder_key(encoder, pooled=False)
    encoder.norm.num_batches_tracked += 1
    assert encoder_key(encoder, pooled=False) != before
