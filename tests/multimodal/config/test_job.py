import re
from typing import Any

import pytest
import yaml
from support.assertions import changed

from multimodal.config import (
    Adapt,
    Augment,
    ConfigError,
    Data,
    Fusion,
    Input,
    Job,
    Source,
    Task,
    Train,
    Transfer,
    load_job,
    parse_job,
)

JOB: dict[str, Any] = {
    "inputs": {"image": {"encoder": "compact/image"}, "text": {"encoder": "compact/text"}},
    "tasks": {"product": {}, "price": {"type": "regression"}},
}


def make_job(**changes: Any) -> dict[str, Any]:
    """A valid job, with dotted keys changed: ``make_job(**{"train.epochs": 3})``."""
    return changed(JOB, changes)


def refused(values: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        parse_job(values)


# --- keys and values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "section"),
    [
        ("", Job),
        ("data.", Data),
        ("inputs.image.", Input),
        ("inputs.image.augment.", Augment),
        ("fusion.", Fusion),
        ("tasks.product.", Task),
        ("transfer.", Transfer),
        ("transfer.source.", Source),
        ("transfer.adapt.", Adapt),
        ("train.", Train),
    ],
)
def test_a_misspelt_key_is_refused_in_every_section_with_the_key_that_was_meant(place, section):
    for field in section.model_fields:
        refused(
            make_job(**{f"{place}{field}x": 1}), rf"config: {place.rstrip('.')}.*unknown key '{field}x'; did you mean"
        )
        assert f"'{field}'" in _message(make_job(**{f"{place}{field}x": 1}))


def test_a_key_like_no_other_lists_those_that_there_are():
    refused(make_job(**{"transfer.zzz": 1}), "unknown key 'zzz'; there are strategy, probe_epochs, unfreeze_from")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.epochs", 0),
        ("train.epochs", "many"),
        ("train.batch_size", -1),
        ("train.learning_rate", 0),
        ("train.warmup", 1.5),
        ("train.precision", "fp8"),
        ("train.seed", -1),
        ("fusion.name", "sum"),
        ("fusion.modality_dropout", 1.0),
        ("tasks.product.weight", 0),
        ("tasks.product.type", "ranking"),
        ("tasks.product.label_smoothing", 1.0),
        ("transfer.strategy", "freeze"),
        ("data.on_error", "ignore"),
        ("inputs.image.augment.flip", 2),
        ("inputs.image.learning_rate_scale", 0),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_place(key, value):
    refused(make_job(**{key: value}), rf"^config: {key}: ")


def test_every_problem_is_listed_in_a_line_of_its_own():
    lines = _message(make_job(**{"train.epochs": 0, "fusion.name": "sum"})).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["fusion.name", "train.epochs"]


def test_a_written_number_with_an_exponent_but_no_dot_is_a_number():
    # YAML 1.1 takes 1e-3 for text
    assert parse_job(yaml.safe_load(yaml.safe_dump(JOB) + "train: {learning_rate: 1e-3}")).train.learning_rate == 1e-3


def _message(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_job(values)
    return str(caught.value)


# --- names and columns -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", ["inputs", "tasks"])
@pytest.mark.parametrize("name", ["Image", "1st", "_x", "a-b", "a.b", "größe", "a" * 41, "", "a\n"])
def test_a_name_that_cannot_be_part_of_a_tensor_or_column_name_is_refused(section, name):
    values = make_job()
    values[section][name] = next(iter(values[section].values()))
    refused(values, re.escape(f"config: {section}: the name {name!r} cannot be used; names are lower-case"))


@pytest.mark.parametrize("section", ["inputs", "tasks"])
def test_a_name_of_40_characters_is_taken(section):
    name = "a" + "_9" * 19 + "z"
    values = make_job()
    values[section][name] = next(iter(values[section].values()))
    assert len(name) == 40
    assert name in getattr(parse_job(values), section)


@pytest.mark.parametrize("section", ["inputs", "tasks"])
def test_a_job_without_inputs_or_tasks_is_refused(section):
    refused(make_job(**{section: {}}), f"config: {section}: is empty; give at least one")
    values = make_job()
    del values[section]
    refused(values, f"config: {section}: is missing; give it")


@pytest.mark.parametrize("name", ["error", "embedding", "product_probability"])
def test_a_task_may_not_take_the_name_of_another_column_of_the_predictions(name):
    refused(make_job(**{f"tasks.{name}": {}}), f"tasks.{name}: this name is taken in the predictions")


def test_a_column_is_the_name_unless_it_is_given():
    job = parse_job(make_job(**{"inputs.image.column": "photo", "tasks.price.column": "eur"}))
    assert [job.input_column(name) for name in job.inputs] == ["photo", "text"]
    assert [job.task_column(name) for name in job.tasks] == ["product", "eur"]


def test_an_empty_column_name_counts_as_given():
    assert parse_job(make_job(**{"inputs.image.column": ""})).input_column("image") == ""


# --- what fits together ------------------------------------------------------------------------------------------


def test_an_input_has_either_an_encoder_or_a_share():
    refused(make_job(**{"inputs.image.share": "text"}), "inputs.image: give either `encoder`, or `share`")
    refused(make_job(**{"inputs.back": {}}), "inputs.back: give either `encoder`, or `share`")


def test_an_input_shares_the_encoder_of_another():
    assert parse_job(make_job(**{"inputs.back": {"share": "image"}})).inputs["back"].share == "image"


@pytest.mark.parametrize("owner", ["front", "back", "other"])
def test_a_share_names_an_input_with_an_encoder_of_its_own(owner):
    values = make_job(**{"inputs.back": {"share": owner}, "inputs.other": {"share": "image"}})
    refused(values, f"inputs.back.share: {owner!r} is not an input with an encoder of its own")


@pytest.mark.parametrize("change", [{"label_smoothing": 0.1}, {"imbalance": "class_weights"}])
def test_a_regression_takes_nothing_that_is_about_classes(change):
    refused(
        make_job(**{"tasks.price": {"type": "regression", **change}}), r"belongs to type: .*, and type is regression"
    )


def test_a_balanced_sampler_needs_one_class_a_record():
    values = make_job(**{"tasks.product": {"type": "multilabel", "imbalance": "balanced_sampler"}})
    refused(values, "balanced_sampler needs one class per record; use class_weights")


def test_only_one_task_can_have_the_balanced_sampler():
    balanced = {"imbalance": "balanced_sampler"}
    refused(
        make_job(**{"tasks.product": balanced, "tasks.brand": balanced}),
        "tasks product and brand both want balanced_sampler; only one can have it",
    )


def test_fusion_options_hold_only_what_was_given():
    assert Fusion().arguments() == {}
    assert Fusion(dropout=0.0, num_heads=2).arguments() == {"dropout": 0.0, "num_heads": 2}


# --- files -------------------------------------------------------------------------------------------------------


def test_a_job_written_as_yaml_reads_back_equal(tmp_path):
    full = Job(
        name="größe",
        data=Data(train="a.csv", on_error="skip", workers=2),
        inputs={
            "front": Input(column="photo", encoder="compact/image", weights=None, augment=Augment(flip=0.0)),
            "back": Input(share="front", column="photo2"),
            "text": Input(encoder="compact/text", options={"max_tokens": 16}, weights="no"),
        },
        fusion=Fusion(name="gated", dim=32, modality_dropout=0.2),
        tasks={
            "product": Task(imbalance="class_weights", column="p"),
            "tags": Task(type="multilabel", threshold=0.3),
        },
        transfer=Transfer(strategy="probe_then_finetune", probe_epochs=2),
        train=Train(clip_norm=None, patience=3, precision="fp32", learning_rate=1e-5),
    )
    for number, job in enumerate([parse_job(JOB), full]):
        path = tmp_path / f"{number}.yaml"
        path.write_text(job.to_yaml(), encoding="utf-8")
        assert load_job(path) == job


def test_two_jobs_do_not_share_their_defaults():
    first, second = parse_job(JOB), parse_job(JOB)
    assert first.inputs["image"].augment == second.inputs["image"].augment
    first.inputs["image"].options["image_size"] = 32
    assert second.inputs["image"].options == {}
    assert Input(encoder="compact/image").options == {}


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing.yaml: cannot be read \(No such file or directory\); give the path"):
        load_job(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("content", [b"inputs: [", b"\xff\xfe\x00"])
def test_a_file_that_is_not_yaml_is_named(tmp_path, content):
    (tmp_path / "job.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"job.yaml: is not valid YAML"):
        load_job(tmp_path / "job.yaml")


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "hello"])
def test_a_file_that_holds_no_mapping_is_refused(tmp_path, content):
    (tmp_path / "job.yaml").write_text(content)
    with pytest.raises(ConfigError, match=r"job.yaml: holds no job; it needs at least `inputs` and `tasks`"):
        load_job(tmp_path / "job.yaml")


def test_problems_in_a_file_begin_with_its_path(tmp_path):
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(make_job(**{"train.epoch": 3})))
    with pytest.raises(ConfigError, match=r"job.yaml: train: unknown key 'epoch'; did you mean 'epochs'\?"):
        load_job(tmp_path / "job.yaml")


# --- overrides ---------------------------------------------------------------------------------------------------


def test_overrides_change_values_and_are_read_as_yaml():
    job = parse_job(
        JOB,
        [
            "train.epochs=3",
            "train.clip_norm=null",
            "inputs.image.options={image_size: 96}",
            "inputs.text.frozen=true",
            "tasks.product.column=a=b",
        ],
    )
    assert (job.train.epochs, job.train.clip_norm) == (3, None)
    assert job.inputs["image"].options == {"image_size": 96}
    assert job.inputs["text"].frozen is True
    assert job.tasks["product"].column == "a=b"


def test_overrides_make_sections_that_the_file_lacks():
    job = parse_job(JOB, ["inputs.image.augment.flip=0", "train.seed=1"])
    assert (job.inputs["image"].augment.flip, job.train.seed) == (0.0, 1)


def test_overrides_leave_the_given_dict_alone():
    values = make_job()
    parse_job(values, ["train.epochs=3", "inputs.image.frozen=true"])
    assert values == JOB


@pytest.mark.parametrize("override", ["train.epochs", "=3", ""])
def test_an_override_has_a_key_and_a_value(override):
    with pytest.raises(ConfigError, match=f"--set {override!r} is not of the form a.b=c, for example train.epochs=3"):
        parse_job(JOB, [override])


def test_an_override_cannot_go_below_a_single_value():
    with pytest.raises(ConfigError, match="'epochs' is a single value and has no parts"):
        parse_job(make_job(**{"train.epochs": 3}), ["train.epochs.more=1"])


def test_an_override_that_is_not_yaml_is_refused():
    with pytest.raises(ConfigError, match=r"--set 'name=\[': '\[' is not valid YAML; put quotes around a text"):
        parse_job(JOB, ["name=["])


def test_an_override_of_an_unknown_key_says_what_was_meant():
    with pytest.raises(ConfigError, match="train: unknown key 'epcohs'; did you mean 'epochs'"):
        parse_job(JOB, ["train.epcohs=3"])


@pytest.mark.parametrize(
    "key", [{"frozen": True}, {"learning_rate_scale": 0.5}, {"weights": None}, {"options": {"a": 1}}]
)
def test_settings_of_a_shared_encoder_belong_to_its_owner(key):
    refused(
        make_job(**{"inputs.back": {"share": "image", **key}}), "set them on the input 'image', whose encoder is shared"
    )


def test_a_metric_that_no_task_has_is_refused():
    refused(
        make_job(train={"metric": "product.acuracy"}),
        "there is no metric 'product.acuracy'; did you mean 'product.acc",
    )


@pytest.mark.parametrize(
    "override",
    ["tasks.product.inputs=[image, txt]", "fusion.modality_dropout={txt: 0.5}"],
)
def test_an_input_that_is_named_elsewhere_must_be_there(override):
    place = override.partition("=")[0]
    with pytest.raises(ConfigError, match=f"{place}: there is no input 'txt'; there are image"):
        parse_job(JOB, [override])


def test_a_task_uses_all_inputs_or_those_it_names_in_config_order():
    job = parse_job(JOB, ["inputs.text={encoder: compact/text}", "inputs.note={encoder: compact/text}"])
    assert job.task_inputs("product") == list(job.inputs)
    job = parse_job(job.model_dump(), ["tasks.product.inputs=[note, image]"])
    assert job.task_inputs("product") == ["image", "note"]


@pytest.mark.parametrize("override", ["dim=8", "modality_dropout=0.1", "unimodal_weight=1"])
def test_late_fusion_has_nothing_to_set_that_joins_its_inputs(override):
    key = override.partition("=")[0]
    with pytest.raises(
        ConfigError,
        match=f"fusion: {key} belongs to name: concat or .*, and name is late; leave it",
    ):
        parse_job(JOB, ["fusion.name=late", f"fusion.{override}"])


@pytest.mark.parametrize("kind", ["multilabel", "regression", "contrastive"])
def test_logits_are_adjusted_for_classifications_only(kind):
    message = {
        "multilabel": "logit_adjustment needs one class per record, and this task's type is multilabel: use class",
        "regression": "imbalance belongs to type: .*, and type is regression; leave it out",
        "contrastive": "imbalance belongs to type: .*, and type is contrastive; leave it out",
    }
    refused(make_job(**{"tasks.product": {"type": kind, "imbalance": "logit_adjustment"}}), message[kind])


def test_a_balanced_sampler_and_adjusted_logits_exclude_each_other_across_tasks():
    tasks = {"a": {"imbalance": "balanced_sampler"}, "b": {"imbalance": "logit_adjustment"}}
    refused(
        make_job(tasks=tasks),
        "tasks.a wants balanced_sampler, which changes how often the classes of tasks.b are drawn",
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("transfer.l2_sp", -1),
        ("transfer.distill", -0.1),
        ("transfer.average", "mean"),
        ("transfer.soup_size", 1),
        ("transfer.ema_decay", 1.0),
        ("transfer.two_phase.learning_rate", 0),
        ("transfer.two_phase.momentum", 1.0),
        ("inputs.image.new_layers", -1),
    ],
)
def test_settings_of_transfer_out_of_range_are_refused_with_their_place(key, value):
    refused(make_job(**{key: value}), rf"^config: {key}: ")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (["train.epochs=two"], "train.epochs: is 'two'; input should be a valid integer"),
        (["train.epochs=-2"], "train.epochs: is -2; input should be greater than 0"),
        (["tasks.k.type=clasification"], "tasks.k.type: there is no task type 'clasification'; did you mean classif"),
        (["tasks.k.type=poem"], "there is no task type 'poem'; there are classification, multilabel, regression, "),
        (["tasks.k.type=[a]"], "tasks.k.type: is a list; input should be a valid string"),
        (["tasks.k.options={a: 1}"], "tasks.k: options: unknown key 'a'; classification has none"),
    ],
)
def test_a_wrong_value_is_quoted_beside_what_is_allowed(changes, reason):
    with pytest.raises(ConfigError, match=re.escape(reason)):
        parse_job({"inputs": {"text": {"encoder": "compact/text"}}, "tasks": {"k": {}}}, changes)
