"""Views of frozen inputs: what they are, that a second run finds them, and that no fold can split them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support.assertions import assert_close
from support.tiny_models import TinyImage, make_rows

import multimodal as mm
from multimodal.config import Augment, ConfigError
from multimodal.config.frozen_rules import computed_heads
from multimodal.data.augment import Augmentation
from multimodal.features import TrainingViews, feature_reader
from multimodal.features import closed_form as closed_form_fit
from multimodal.features.closed_form import fit_heads
from multimodal.features.views import Views
from multimodal.job import TrainingSetup
from multimodal.job.kept_tokens import keep_tokens
from multimodal.records import InputReader, read_records
from multimodal.runtime.runtime import Runtime
from multimodal.splits.tables import read_tables
from multimodal.training import fit
from multimodal.transfer.folds import each_fold, repeated_folds

SETTINGS = Augment(crop=0.5)


def make_job(views: int = 1, head: str = "linear", **changes: Any) -> mm.Job:
    values: dict[str, Any] = {
        "data": {"workers": 0},
        "inputs": {
            "image": {"encoder": "compact/image", "options": {"image_size": 32}},
            "text": {"encoder": "compact/text"},
        },
        "fusion": {"name": "concat"},
        "tasks": {"color": {"head": head}},
        "transfer": {"strategy": "linear_probe", "views": views},
        "train": {"epochs": 2, "batch_size": 8},
    }
    return mm.Job.model_validate(values | changes)


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    pd.DataFrame(make_rows(folder, 24)).to_csv(folder / "train.csv", index=False)
    return folder


def views(count: int, seed: int = 0, settings: Augment = SETTINGS) -> Views:
    return Views(count, Augmentation("image", settings, seed))


def test_each_view_has_a_key_of_its_own_that_says_all_it_depends_on():
    content = "ab" * 32
    assert views(3).key(content, 0) == content
    keys = [views(3).key(content, 1), views(3).key(content, 2), views(3, seed=1).key(content, 1)]
    keys += [views(3, settings=Augment(crop=0.4)).key(content, 1), views(3).key("cd" * 32, 1)]
    assert len({content, *keys}) == 6
    assert views(3).key(content, 1) == views(9).key(content, 1)
    assert Views(3).key(content, 2) == content


def test_an_epoch_sees_the_view_of_its_number():
    made = views(3)
    assert [made("ab" * 32, epoch=epoch, row=5) for epoch in (0, 1, 2, 3)] == [
        made.key("ab" * 32, view) for view in (0, 1, 2, 0)
    ]


def test_kept_views_are_the_tokens_of_the_augmented_values(media):
    encoder, records = TinyImage().eval(), read_records([{"image": "0.png"}], root=media)
    plain = InputReader("image", "image", encoder.preprocessor)
    made = views(2)
    training = TrainingViews(made, [records])
    reader = feature_reader(plain, encoder, [records], pooled=False, runtime=Runtime(), training=training)
    content = reader.keys[(media, "0.png")]
    arrays, _ = plain.read(records[0], media, augment=made.change(content, 1))
    with torch.no_grad():
        tokens, _ = encoder({"pixels": torch.from_numpy(arrays["pixels"])[None]})
    kept, _ = reader.read(records[0], media, augment=lambda key: made.key(key, 1))
    assert_close(kept["tokens"], tokens[0])
    whole, _ = reader.read(records[0], media)
    assert np.abs(kept["tokens"] - whole["tokens"]).max() > 1e-3


def test_a_second_run_finds_its_views(media, tmp_path, caplog):
    for name in ("a", "b"):
        fit(make_job(views=3), train=media / "train.csv", out=tmp_path / name)
    lines = [line for line in caplog.messages if line.startswith("image: frozen")]
    assert "values and their 3 views" in lines[0]
    assert " new in " in lines[0]
    assert "(none new)" in lines[1]
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


@pytest.mark.parametrize("head", ["linear", "softmax"])
def test_one_view_is_the_plain_probe_and_more_are_not(head, media, tmp_path):
    """One view leaves the values alone, as the job does that says nothing of views, and as one without augmentation."""
    silent = make_job(head=head).model_dump()
    del silent["transfer"]["views"]
    bare = make_job(head=head).model_dump()
    for entry in bare["inputs"].values():
        entry["augment"] = {"enabled": False}
    tasks = {"one": make_job(1, head), "silent": mm.Job.model_validate(silent), "bare": mm.Job.model_validate(bare)}
    tasks["two"] = make_job(2, head)
    files = {}
    for name, task in tasks.items():
        folder = fit(task, train=media / "train.csv", out=tmp_path / name).folder
        files[name] = [(folder / file).read_bytes() for file in ("model.safetensors", "history.csv")]
    assert files["one"] == files["silent"] == files["bare"] != files["two"]


def labelled(job: mm.Job, media: Path, monkeypatch: pytest.MonkeyPatch) -> closed_form_fit.LabelledRows:
    """What the head of ``color`` is computed from."""
    found: list[closed_form_fit.LabelledRows] = []
    original = closed_form_fit._labelled
    monkeypatch.setattr(
        closed_form_fit,
        "_labelled",
        lambda *args: found.append(original(*args)) or found[-1],  # type: ignore[func-returns-value]
    )
    tables = read_tables(job, train=media / "train.csv")
    built = keep_tokens(TrainingSetup.build(job, tables, Path()), set(), Runtime())
    fit_heads(computed_heads(job), built.model, built.datasets.training, views=job.transfer.views)
    return found[0]


def test_views_of_a_record_share_a_group_and_its_weight_and_no_fold_splits_them(media, monkeypatch):
    given = labelled(make_job(4, "softmax"), media, monkeypatch)
    records = given.records
    assert len(given.classes) == 4 * records
    assert_close(np.bincount(given.groups, given.weights)[np.unique(given.groups)], np.ones(records), "float64")
    for fold in each_fold(repeated_folds(given.classes, folds=given.folds, repeats=3, groups=given.groups)):
        assert not set(given.groups[fold.train]) & set(given.groups[fold.test])


@pytest.mark.parametrize("head", ["softmax", "knn"])
def test_views_do_not_leak_into_held_out_folds(head, media, monkeypatch, caplog):
    """Labels by chance: held out, they cannot be foreseen, but by who saw another view of the same record."""
    job = make_job(4, head)
    rows = pd.read_csv(media / "train.csv")
    rng = np.random.default_rng(0)
    rows["color"] = rng.permutation(rows["color"].to_numpy())
    tables = read_tables(job, train=rows, root=media)
    original = closed_form_fit._labelled

    def scattered(*args: Any) -> closed_form_fit.LabelledRows:
        found = original(*args)
        return replace(found, groups=np.arange(len(found.classes)))

    for made_by in (original, scattered):
        monkeypatch.setattr(closed_form_fit, "_labelled", made_by)
        built = keep_tokens(TrainingSetup.build(job, tables, Path()), set(), Runtime())
        fit_heads(computed_heads(job), built.model, built.datasets.training, views=4)
    honest, leaking = (float(line.rpartition(" ")[2]) for line in caplog.messages if "held-out" in line)
    assert honest < np.log(0.45)
    assert leaking > honest + 0.2


def test_views_without_effect_are_refused(media, tmp_path):
    with pytest.raises(ConfigError, match=r"transfer\.views is 2, but no encoder is frozen"):
        fit(make_job(2, transfer={"views": 2}), train=media / "train.csv", out=tmp_path / "a")
    inputs = {"text": {"encoder": "compact/text", "augment": {"enabled": False}}}
    with pytest.raises(ConfigError, match="but no view of text differs"):
        fit(make_job(2, inputs=inputs), train=media / "train.csv", out=tmp_path / "b")
