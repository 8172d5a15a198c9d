"""Settings without effect are refused, or warned of where the strategy makes them so."""

import copy
from typing import Any

import pytest
from support.assertions import changed
from support.logs import shown
from support.tiny_pretrained import plant, shop_job, shop_setup, write_shop

import multimodal as mm
from fusion.registry import FUSIONS
from multimodal.builders.training import build_strategy
from multimodal.config import ConfigError, Job, load_job, parse_job
from multimodal.config.section import Section
from multimodal.config.unread import BELONGS, LOOP, REFUSED, WARNED, idle_warnings
from multimodal.config.yaml_core import write_yaml
from multimodal.plugins import STRATEGIES
from multimodal.transfer.lora import LowRankAdaptation

JOB: dict[str, Any] = {
    "inputs": {"image": {"encoder": "compact/image"}, "text": {"encoder": "compact/text", "modality": "text"}},
    "fusion": {"name": "concat"},
    "tasks": {"kind": {}, "price": {"type": "regression"}},
}
FROZEN = {"inputs.image.frozen": True, "inputs.text.frozen": True}
COMPUTED = {**FROZEN, "tasks": {"kind": {"head": "softmax"}}}
PROBE = {"transfer.strategy": "linear_probe"}
NAMES_OF = {
    ("Fusion", "name"): str(list(FUSIONS.built_in)),
    ("Transfer", "strategy"): str(["auto", *STRATEGIES.built_in]),
}
NAMES = {"tasks": {"kind": {"head": "zero_shot"}}, "transfer.strategy": "none"}


def make_job(**changes: Any) -> Job:
    return parse_job(changed(JOB, copy.deepcopy(changes)))


@pytest.mark.parametrize(
    ("changes", "place", "belongs"),
    [
        ({"train.momentum": 0.5}, "train", "momentum belongs to optimizer: sgd, and optimizer is adamw; leave it out"),
        (
            {"tasks.kind.costs": {"false_negative": 5.0}},
            "tasks.kind",
            "costs belongs to threshold: auto, and threshold is 0.5; leave it out",
        ),
        ({"tasks.kind.unit": "EUR"}, "tasks.kind", "unit belongs to type: regression, and type is classification"),
        ({"tasks.price.head": "knn"}, "tasks.price", "head belongs to type: classification, and type is regression"),
        (
            {"tasks.price.threshold": 0.3},
            "tasks.price",
            "threshold belongs to type: classification or multilabel, and type is re",
        ),
        ({"fusion.num_heads": 2}, "fusion", "num_heads belongs to name: attention, and name is concat"),
        (
            {"transfer.probe_epochs": 2, "transfer.strategy": "finetune"},
            "transfer",
            "probe_epochs belongs to strategy",
        ),
        (
            {"transfer.unfreeze_from": 1, "transfer.strategy": "lora"},
            "transfer",
            "unfreeze_from belongs to strategy",
        ),
        (
            {"transfer.encoder_scale": 0.3, "transfer.strategy": "linear_probe"},
            "transfer",
            "encoder_scale belongs to",
        ),
        (
            {"transfer.layer_decay": 0.5},
            "transfer",
            "layer_decay belongs to strategy: layerwise_lr_decay, and",
        ),
        ({"transfer.lora.rank": 2}, "transfer", "lora belongs to strategy: lora, and strategy is auto"),
        ({"transfer.two_phase.momentum": 0.5}, "transfer", "two_phase belongs to strategy: two_phase"),
        (
            {"transfer.l2_sp": 0.1, "transfer.strategy": "lora"},
            "transfer",
            "l2_sp belongs to strategy: .* is lora",
        ),
        ({"transfer.soup_size": 2}, "transfer", "soup_size belongs to average: soup, and average is none"),
        ({"transfer.ema_decay": 0.5, "transfer.average": "soup"}, "transfer", "ema_decay belongs to average: ema"),
        (
            {"transfer.adapt": {"method": "mmd", "hidden_dim": 8}},
            "transfer.adapt",
            "hidden_dim belongs to method: dann",
        ),
    ],
)
def test_a_setting_is_refused_where_another_one_of_its_section_leaves_it_unread(changes, place, belongs):
    with pytest.raises(ConfigError, match=rf"^config: {place}: .*{belongs}"):
        make_job(**changes)


def test_several_settings_that_belong_together_are_refused_together():
    with pytest.raises(ConfigError, match=r"width and temperature belong to type: embedding, .*; leave them out"):
        make_job(**{"tasks.kind.width": 8, "tasks.kind.temperature": 0.1})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"inputs.text.augment.token_dropout": 0.5, **FROZEN},
            "inputs.text.augment has no effect: its encoder is frozen",
        ),
        (
            {"inputs.text.frozen": True, "inputs.note": {"share": "text", "augment": {"token_dropout": 0.5}}},
            "inputs.note.augment has no effect: its encoder is frozen",
        ),
        (
            {"inputs.text.learning_rate_scale": 0.5, **FROZEN},
            "inputs.text.learning_rate_scale has no effect: its encoder",
        ),
        (
            {"inputs": {"text": {"encoder": "compact/text"}}, "fusion.modality_dropout": 0.1},
            "never loses its only input",
        ),
        (
            {"tasks": {"kind": {"head": "zero_shot"}}, "fusion.unimodal_weight": 0.5},
            "fusion.unimodal_weight has no effect",
        ),
        ({**COMPUTED, "tasks.kind.weight": 0.5}, "tasks.kind.weight has no effect: its head is computed at once"),
        ({**COMPUTED, "transfer.average": "soup"}, "transfer.average has no effect: all heads are computed at once"),
        (
            {**FROZEN, "transfer.unfreeze_from": 1},
            "transfer.unfreeze_from has no effect: every encoder is frozen or random",
        ),
        (
            {"inputs.image.weights": None, "inputs.text.frozen": True, "transfer.encoder_scale": 0.5},
            "transfer.encoder_scale has no effect: every encoder is frozen, is random or has its own",
        ),
        (
            {**FROZEN, "transfer": {"strategy": "layerwise_lr_decay", "layer_decay": 0.5}},
            "transfer.layer_decay has no effect: every encoder is frozen or random",
        ),
        ({**FROZEN, "transfer": {"strategy": "lora", "lora": {"rank": 2}}}, "transfer.lora has no effect"),
        (
            {"inputs.text.frozen": True, "transfer": {"strategy": "lora", "lora": {"targets": {"text": ["a"]}}}},
            "transfer.lora.targets.text has no effect: its encoder is frozen",
        ),
        (
            {"inputs.note": {"share": "text"}, "transfer": {"strategy": "lora", "lora": {"targets": {"note": ["a"]}}}},
            "transfer.lora.targets.note has no effect: name 'text', whose encoder it shares",
        ),
    ],
)
def test_a_setting_is_refused_where_the_rest_of_the_job_leaves_it_without_effect(changes, reason):
    with pytest.raises(ConfigError, match=reason):
        make_job(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs.text.augment": {"token_dropout": 0.5, "enabled": False}, **FROZEN},  # turned off
        {"inputs.text.augment.token_dropout": 0.5, "inputs.text.frozen": True, "transfer.views": 2},
        {"inputs.text.learning_rate_scale": 0.5, "transfer.encoder_scale": 0.5},  # of the other input
        {"tasks.kind.weight": 0.5},
        {"transfer": {"strategy": "two_phase", "two_phase": {"momentum": 0.5}, "probe_epochs": 2}},
        {"train": {"optimizer": "sgd", "momentum": 0.5}},
    ],
)
def test_the_same_settings_are_taken_where_they_have_an_effect(changes):
    make_job(**changes)


@pytest.mark.parametrize("changes", [{}, COMPUTED, NAMES, {"fusion.name": "late"}, {"transfer.strategy": "lora"}])
def test_a_resolved_config_has_every_setting_and_is_taken(changes):
    job = make_job(**changes)
    assert parse_job(job.model_dump(mode="json")) == job


def test_a_run_s_own_config_may_hold_what_had_no_effect(tmp_path):
    path = tmp_path / "config.yaml"
    values = make_job().model_dump(mode="json")
    values["train"]["momentum"] = 0.5
    values["inputs"]["text"] |= {"frozen": True, "learning_rate_scale": 0.5}
    path.write_text(write_yaml(values))
    assert load_job(path, resolved=True).train.momentum == 0.5
    with pytest.raises(ConfigError, match="momentum belongs to optimizer"):
        load_job(path)


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        (
            {"transfer.strategy": "linear_probe", "inputs.text.learning_rate_scale": 0.5},
            ["inputs.text.learning_rate_scale"],
        ),
        ({**PROBE, "inputs.image.augment.crop": 0.5}, ["inputs.image.augment"]),
        ({**NAMES, "tasks.kind.zero_shot": {"pull": 0.1}}, ["tasks.kind.zero_shot.pull"]),
        (
            {**NAMES, "tasks.kind.weight": 2.0, "tasks.kind.label_smoothing": 0.1},
            ["tasks.kind.weight", "tasks.kind.label_smoothing"],
        ),
        ({**NAMES, "inputs.image.new_layers": 1}, ["inputs.image.new_layers"]),
        (
            {**COMPUTED, "train": {"epochs": 3, "learning_rate": 0.1, "seed": 3}},
            ["train.epochs", "train.learning_rate"],
        ),
        ({"transfer": {"strategy": "two_phase", "probe_epochs": 10}}, ["transfer.probe_epochs"]),
    ],
)
def test_what_a_strategy_leaves_without_effect_is_warned_of(changes, warned):
    assert [line.split()[0] for line in idle_warnings(make_job(**changes))] == warned


def test_what_auto_chose_not_to_read_is_warned_of():
    job = make_job(transfer={"probe_epochs": 2, "unfreeze_from": -1})
    chosen = job.transfer.model_copy(update={"strategy": "finetune"})
    (line,) = idle_warnings(job.model_copy(update={"transfer": chosen}))
    assert line.startswith(
        "transfer.probe_epochs belongs to strategy: auto or probe_then_finetune or two_phase, and str"
    )


def test_a_training_says_its_warnings(tmp_path, caplog):
    rows = [{"text": f"{word} thing", "color": word} for word in ("red", "blue")] * 4
    inputs = {"text": {"encoder": "compact/text", "frozen": True}}
    tasks = {"color": {"head": "class_mean"}}
    values = {
        "inputs": inputs,
        "fusion": {"name": "concat"},
        "tasks": tasks,
        "train": {"epochs": 3},
        "data": {"workers": 0},
    }
    job = parse_job(values | {"transfer": {"guard": "off"}})
    mm.fit(job, train=rows, valid=rows, out=tmp_path / "run", cache=False)
    assert "warning: train.epochs has no effect: nothing is trained; leave it out" in shown(caplog)


# --- by modality, by class, by encoder ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key", "own"),
    [
        ("text", "crop", "token_dropout"),
        ("text", "gain", "token_dropout"),
        ("image", "token_dropout", "crop, flip, color, rotation"),
        ("image", "noise", "crop, flip, color, rotation"),
        ("image", "speed", "crop, flip, color, rotation"),
        ("text", "rotation", "token_dropout"),
    ],
)
def test_an_augmentation_of_another_modality_is_refused_when_the_job_is_built(tmp_path, monkeypatch, name, key, own):
    plant(monkeypatch)
    augment = {f"inputs.{name}.augment": {key: 0.4}}
    with pytest.raises(ConfigError, match=f"inputs.{name}.augment: {key} would change no {name}; there are {own}"):
        shop_setup(write_shop(tmp_path), **augment)


def test_a_modality_of_a_plug_in_has_no_augmentation():
    with pytest.raises(ValueError, match="augment: crop would change no radar; there are none for it"):
        mm.Augment(crop=0.1).check_modality("radar")
    mm.Augment().check_modality("radar")


@pytest.mark.parametrize("word", ["gren", "Red", "blue ", "yellow", ""])
def test_words_for_what_is_no_class_are_refused(word):
    names = {"labels": ["red", "green", "blue"], "words": {word: "x"}}
    with pytest.raises(ConfigError, match=f"zero_shot: words: there is no class '{word}'; (did you|there are red)"):
        make_job(**{"tasks.kind": {"head": "zero_shot", "zero_shot": names}})


def test_new_layers_below_a_computed_head_are_refused():
    with pytest.raises(ConfigError, match=r"inputs.text has new_layers over them, which train; leave new_layers out"):
        make_job(**{**COMPUTED, "inputs.text.new_layers": 1})


def test_low_rank_targets_are_found_under_the_input_that_keeps_the_encoder(tmp_path, monkeypatch):
    plant(monkeypatch)
    lora = {"strategy": "lora", "lora": {"targets": {"text": ["project"]}}}
    inputs = {"back": {"column": "text", "share": "text"}, "text": {"encoder": "planted/words"}}
    built = shop_setup(write_shop(tmp_path), inputs=inputs, transfer=lora)
    strategy = build_strategy(built.job, built.model)
    assert isinstance(strategy, LowRankAdaptation)
    assert strategy.targets == {"back": ["project"]}


def test_resume_without_a_folder_is_refused():
    with pytest.raises(ValueError, match="resume continues the run in a folder; name it with out"):
        mm.fit(make_job(), train=[], resume=True)


# --- the tables of rules -----------------------------------------------------------------------------------------


def test_the_rules_name_settings_that_there_are(tmp_path, monkeypatch):
    plant(monkeypatch)
    by_name = {section.__name__: section for section in Section.__subclasses__()}
    for name, rules in BELONGS.items():
        fields = by_name[name].model_fields
        for keys, to, values, _ in rules:
            assert {*keys, to} <= fields.keys()
            choices = NAMES_OF.get((name, to), str(fields[to].annotation))
            assert all(f"'{value}'" in choices for value in values), (name, to)
    task = shop_job(write_shop(tmp_path))
    for place in (effect.place for effect in (*REFUSED, *WARNED)):
        found: Any = task
        for part in place.split("."):
            found = next(iter(found.values())) if part == "*" else getattr(found, part)
    assert {*LOOP} <= mm.Train.model_fields.keys()
