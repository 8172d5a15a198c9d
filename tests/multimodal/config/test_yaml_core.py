"""Configs are YAML 1.2: words and numbers mean what they look like, and nothing is dropped."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.assertions import changed

from multimodal.config import ConfigError, Job, load_job, parse_job
from multimodal.config.yaml_core import read_yaml, write_yaml

JOB: dict[str, Any] = {"inputs": {"text": {"encoder": "compact/text"}}, "tasks": {"label": {}}}
TEXTS = [
    *("off", "On", "YES", "no", "y", "N", "true", "False", "~", "null", "Null", "", " ", "<<", "=", "-", "?"),
    *("010", "08", "1e5", "1e-3", "-12e03", "0o17", "0x1F", "0b11", "1_000", "1:30", "1:30.5", "190:20:30", "+5", "1."),
    *(".5", ".inf", "-.Inf", ".NaN", "inf", "nan", "2024-01-05", "2001-12-14t21:59:43.10-05:00", "007", "1.50"),
    *(
        "a: b",
        "a #b",
        "#b",
        "*a",
        "&a",
        "!a",
        "@a",
        "`a",
        "%a",
        "[a",
        "{a}",
        "a,b",
        "'",
        '"',
        "\\n",
        "a\nb",
        "a\n",
        "\ta",
    ),
    *("größe", "猫", "🍎", "\u2028", "\x85", "\x00", "---", "...", "- a", "x" * 200, "word " * 40),
]
"""What one YAML or the other would read as something else, or mark as something else, if it were not quoted."""


# --- what plain scalars are --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("off", "on", "yes", "No", "y", "n", "OFF", "tRUE", "nULL", "1:30", "190:20:30.15", "2024-01-05", "1_000"),
        *("0b11", "0o8", "0xG", "1e", "e5", "1.2.3", "inf", "nan", "2001-12-14 21:59:43", "-", "=", "red"),
    ],
)
def test_plain_words_are_texts(text):
    assert read_yaml(f"[{text}]", "job.yaml") == [text]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("010", 10), ("-007", -7), ("+12", 12), ("0o17", 15), ("0x1F", 31), ("0", 0), ("1e-3", 1e-3), ("1E5", 1e5)),
        *(("1.", 1.0), (".5", 0.5), ("-1.5e+2", -150.0), ("1e5", 100000.0), ("08.5", 8.5), ("2e0", 2.0)),
    ],
)
def test_plain_numbers_are_decimal_unless_they_say_otherwise(text, value):
    (found,) = read_yaml(f"[{text}]", "job.yaml")
    assert (found, isinstance(found, int)) == (value, isinstance(value, int))


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("False", False), ("TRUE", True), ("null", None), ("~", None), ("Null", None), ("", None)],
)
def test_booleans_and_nothing_have_the_core_schemas_names(text, value):
    assert read_yaml(f"a: {text}", "job.yaml") == {"a": value}


@pytest.mark.parametrize(
    "text", [".inf", "-.inf", "+.INF", ".nan", ".NaN", "1e999", "-1e400", "9" * 5000, "!!int 1:30"]
)
def test_a_number_that_is_not_finite_is_refused_with_its_place(tmp_path, text):
    (tmp_path / "job.yaml").write_text(f"name: shop\ntrain:\n  clip_norm: {text}\n")
    with pytest.raises(ConfigError, match=r"job.yaml: '.*' at line 3, column 14 is no finite number; give one"):
        load_job(tmp_path / "job.yaml")


@pytest.mark.parametrize("key", ["train.learning_rate", "train.clip_norm", "fusion.modality_dropout", "transfer.l2_sp"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), "inf", "nan"])
def test_a_job_in_python_takes_no_number_that_is_not_finite(key, value):
    with pytest.raises(ConfigError, match="finite number"):
        parse_job(changed(JOB, {key: value}))


@pytest.mark.parametrize(
    "key", ["train.epochs", "train.seed", "train.warmup", "data.workers", "transfer.unfreeze_from"]
)
def test_a_number_is_not_switched_on_or_off(key):
    with pytest.raises(ConfigError, match=rf"{key.split('.')[1]} is true, and a number is needed; give one"):
        parse_job(changed(JOB, {key: True}))


@pytest.mark.parametrize(
    "tag", ["!!timestamp 2024-01-05", "!!binary aGk=", "!!set {a}", "!mine 3", "!!python/name:os.system"]
)
def test_tags_beyond_the_core_schema_are_refused(tag):
    with pytest.raises(yaml.YAMLError, match="could not determine a constructor for the tag"):
        read_yaml(f"a: {tag}", "job.yaml")


# --- numbers and words in a job ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["010", "1e5", "0x1F", "08", "0o17", "2024", "1.50", "off", "1:30", "2024-01-05"])
@pytest.mark.parametrize("how", ["file", "--set"])
def test_a_number_is_as_it_was_written_where_a_text_is_meant(tmp_path, text, how):
    names = f"{{labels: [{text}, red], words: {{{text}: ten}}}}"
    changes = [f"tasks.label.column={text}", "tasks.label.head=zero_shot", f"tasks.label.zero_shot={names}"]
    lines = "inputs: {image: {encoder: compact/image}}\ntasks: {label: {"
    if how == "file":
        lines, changes = lines + f"column: {text}, head: zero_shot, zero_shot: {names}", []
    (tmp_path / "job.yaml").write_text(lines + "}}\n")
    task = load_job(tmp_path / "job.yaml", changes).tasks["label"]
    assert (task.column, task.zero_shot.labels, task.zero_shot.words) == (text, [text, "red"], {text: "ten"})


@pytest.mark.parametrize("text", ["1e-3", "010", "0x10", "1e5", "+3", "2.50"])
def test_options_of_an_encoder_hold_ordinary_numbers(text):
    job = parse_job(JOB, [f"inputs.text.options={{size: {text}, sizes: [{text}], deep: {{size: {text}}}}}"])
    options = job.inputs["text"].options
    assert {type(options["size"]), type(options["sizes"][0]), type(options["deep"]["size"])} <= {int, float}
    assert options["size"] == options["sizes"][0] == options["deep"]["size"] == read_yaml(text, "job.yaml")


@pytest.mark.parametrize("value", ["true", "null", "~", "False"])
def test_what_is_no_text_is_refused_where_one_is_meant(value):
    with pytest.raises(ConfigError, match="input should be a valid string; put quotes around a text"):
        parse_job(JOB, ["tasks.label.head=zero_shot", f"tasks.label.zero_shot.labels=[red, {value}]"])


@pytest.mark.parametrize(
    ("key", "word", "value"),
    [
        *(("transfer.guard", "off", "off"), ("inputs.text.frozen", "yes", True), ("data.allow_outside", "on", True)),
        *(("inputs.text.augment.enabled", "off", False), ("train.gradient_cosine", "no", False)),
        *(("name", "on", "on"), ("tasks.label.column", "no", "no"), ("data.group", "1:30", "1:30")),
    ],
)
def test_words_for_switches_are_taken_by_switches_and_are_texts_elsewhere(tmp_path, key, word, value):
    (tmp_path / "job.yaml").write_text(write_yaml(changed(JOB, {key: "WORD"})).replace("WORD", word))
    for job in (load_job(tmp_path / "job.yaml"), parse_job(JOB, [f"{key}={word}"])):
        found: Any = job.model_dump()
        for part in key.split("."):
            found = found[part]
        assert found == value


# --- keys that are there twice -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "first", "second"),
    [
        ("train: {epochs: 2}\ntrain: {epochs: 1}", "train", (1, 1), (2, 1)),
        ("train:\n  epochs: 2\n  seed: 1\n  epochs: 1", "epochs", (2, 3), (4, 3)),
        ("tasks: {label: {}, price: {}, label: {}}", "label", (1, 9), (1, 31)),
        ("inputs:\n  text:\n    augment: {crop: 0,\n      crop: 1}", "crop", (3, 15), (4, 7)),
        ("a: [{b: 1}, {b: 1, 'b': 2}]", "b", (1, 14), (1, 20)),
        ("a: {10: x, '10': y}", "10", (1, 5), (1, 12)),
        ("base: &b {x: 1}\na: {<<: *b, y: 1, y: 2}", "y", (2, 13), (2, 19)),
        ("a: {<<: {x: 1}, <<: {y: 1}}", "<<", (1, 5), (1, 17)),
        ("{&k a: 1, *k : 2}", "a", (1, 2), (1, 2)),
    ],
)
def test_a_key_given_twice_is_refused_with_both_places(text, key, first, second):
    places = [f"at line {line}, column {column}" for line, column in (first, second)]
    with pytest.raises(ConfigError, match=f"^job.yaml: the key '{key}' is given twice, {places[0]} and {places[1]};"):
        read_yaml(text, "job.yaml")


def test_a_key_that_is_no_text_is_refused():
    with pytest.raises(ConfigError, match=r"job.yaml: the key at line 1, column 5 is no text; write a plain word"):
        read_yaml("a: {[b]: 1}", "job.yaml")


@pytest.mark.parametrize(
    "override",
    [
        *("train={epochs: 2, epochs: 1}", "tasks={a: {}, a: {}}", "inputs.text={encoder: x, encoder: y}"),
        *("data={train: a, train: b}", "fusion={name: concat, dim: 3, dim: 4}"),
    ],
)
def test_a_key_given_twice_in_an_override_is_refused(override):
    with pytest.raises(ConfigError, match=r"^--set '.*': the key '\w+' is given twice, at line 1, column \d+ and"):
        parse_job(JOB, [override])


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.epochs=3", "train.epochs=4"],
        ["train.epochs=3", "train={batch_size: 8}"],
        ["train={epochs: 3}", "train.epochs=4"],
        ["name=a", "train.seed=1", "name=a"],
        ["inputs.text.augment.crop=0", "inputs.text={encoder: compact/text}"],
        ["tasks.label.weight=2", "tasks={other: {}}"],
    ],
)
def test_an_override_is_not_lost_by_a_later_one(overrides):
    with pytest.raises(ConfigError, match=rf"--set '{overrides[-1]}' replaces what --set '.*' gives; keep one of them"):
        parse_job(JOB, overrides)


def test_overrides_that_add_to_each_other_are_taken():
    job = parse_job(JOB, ["inputs.note={encoder: compact/text}", "inputs.note.frozen=true", "train.epochs=1", "name=x"])
    assert job.inputs["note"].frozen


# --- anchors -----------------------------------------------------------------------------------------------------


def test_anchors_and_merge_keys_spare_repetition():
    found = read_yaml("a: &x {b: 1, c: 2}\nd: *x\ne: &y {<<: *x, c: 3}\nf: {<<: [*y, {g: 4}], b: 5}", "job.yaml")
    x = {"b": 1, "c": 2}
    assert found == {"a": x, "d": x, "e": {"b": 1, "c": 3}, "f": {"b": 5, "c": 3, "g": 4}}


def test_a_mapping_is_not_part_of_itself():
    with pytest.raises(yaml.YAMLError, match="found unconstructable recursive node"):
        read_yaml("a: &x {b: *x}", "job.yaml")


# --- written and read again --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_read_back_by_both_versions(text):
    written = write_yaml({"labels": [text], "words": {text: text}})
    for read in (lambda lines: read_yaml(lines, "config.yaml"), yaml.safe_load):
        assert read(written) == {"labels": [text], "words": {text: text}}


@pytest.mark.parametrize("number", [0, -7, 10**30, 1e-5, 1e5, 1e16, 1e300, -2.5, 0.1, 5e-324, True, False, None])
def test_a_number_is_read_back_by_both_versions(number):
    for read in (lambda lines: read_yaml(lines, "config.yaml"), yaml.safe_load):
        (found,) = read(write_yaml([number]))
        assert found == number
        assert isinstance(found, type(number))


def awkward_job(texts: Sequence[str] = TEXTS) -> Job:
    """With every awkward text as a label, what a prompt calls one, a column and an option."""
    target = {
        "head": "zero_shot",
        "zero_shot": {"labels": texts, "words": dict(zip(texts, reversed(texts), strict=True))},
    }
    inputs = {
        f"x{number}": {
            "encoder": "compact/image",
            "column": text,
            "options": {text or "empty": [text, 1e-5, None, True]},
        }
        for number, text in enumerate(texts)
    }
    target["zero_shot"]["input"] = "x0"
    return parse_job({"name": "off", "inputs": inputs, "tasks": {"label": target}, "data": {"group": "1e5"}})


def test_a_job_is_what_it_was_written_as(tmp_path):
    (tmp_path / "config.yaml").write_text(awkward_job().to_yaml(), encoding="utf-8")
    assert load_job(tmp_path / "config.yaml") == awkward_job()
    assert Job.model_validate(yaml.safe_load(awkward_job().to_yaml())) == awkward_job()


def test_a_job_that_an_earlier_version_wrote_is_read(tmp_path: Path):
    # it left texts such as 1e5, 08 and 0o17 plain, which are numbers of YAML 1.2
    job = awkward_job([text for text in TEXTS if text != "\x85"])  # which it did not read back itself
    written = yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    assert "- 1e5\n" in written
    (tmp_path / "config.yaml").write_text(written, encoding="utf-8")
    read = load_job(tmp_path / "config.yaml")
    assert (read.tasks, read.data) == (job.tasks, job.data)
    assert [entry.column for entry in read.inputs.values()] == [entry.column for entry in job.inputs.values()]


def test_reading_leaves_nothing_of_how_numbers_were_written(tmp_path):
    (tmp_path / "job.yaml").write_text(write_yaml(JOB) + "train: {learning_rate: 1e-3, epochs: 010, seed: 0x1F}\n")
    train = load_job(tmp_path / "job.yaml").train
    assert [type(value) for value in (train.learning_rate, train.epochs, train.seed)] == [float, int, int]
    assert (train.learning_rate, train.epochs, train.seed) == (1e-3, 10, 31)
    assert copy.deepcopy(read_yaml("[010]", "job.yaml"))[0] == 10
