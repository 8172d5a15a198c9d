import copy
import pickle
from typing import Any

import pytest
from support.assertions import changed

import multimodal as mm
from multimodal.config import Job, parse_job
from multimodal.config.words import KEYS, VALUES
from multimodal.plugins import STRATEGIES
from multimodal.task_types import TASK_TYPES

JOB: dict[str, Any] = {"inputs": {"image": {"encoder": "compact/image"}}, "tasks": {"label": {}}}


def refusal(**changes: Any) -> str:
    with pytest.raises(mm.ConfigError) as caught:
        parse_job(changed(JOB, changes))
    return str(caught.value)


@pytest.mark.parametrize(
    ("place", "meant"),
    [
        ("train.lr", "'learning_rate'"),
        ("train.batch", "'batch_size'"),
        ("train.num_train_epochs", "'epochs'"),
        ("train.Early-Stopping", "'patience'"),
        ("train.random_state", "'seed'"),
        ("train.max_grad_norm", "'clip_norm'"),
        ("tasks.label.class_weight", "'imbalance'"),
        ("tasks.label.hidden_layer_sizes", "'tower'"),
        ("inputs.image.backbone", "'encoder'"),
        ("inputs.image.pretrained", "'weights'"),
        ("data.validation", "'valid'"),
    ],
)
def test_a_word_of_another_library_names_the_setting_of_this_section(place, meant):
    assert f"; did you mean {meant}?" in refusal(**{place: 1})


@pytest.mark.parametrize(
    ("place", "meant"),
    [
        ("epochs", "train.epochs"),
        ("lr", "train.learning_rate"),
        ("strategy", "transfer.strategy"),
        ("model", "inputs.NAME.encoder"),
        ("imbalance", "tasks.NAME.imbalance"),
        ("train.loss", "tasks.NAME.type"),
        ("train.class_weights", "tasks.NAME.imbalance"),
        ("fusion.encoder", "inputs.NAME.encoder"),
        ("transfer.rank", "transfer.lora.rank"),
    ],
)
def test_a_setting_in_the_wrong_section_names_its_place(place, meant):
    last = meant.rpartition(".")[2]
    assert f"did you mean {meant}?" in refusal(**{place: 1}) or f"did you mean lora.{last}?" in refusal(**{place: 1})


@pytest.mark.parametrize(
    ("place", "given", "meant"),
    [
        ("train.device", "gpu", "cuda"),
        ("train.device", "GPU", "cuda"),
        ("train.precision", "float16", "fp16"),
        ("train.precision", "bfloat16", "bf16"),
        ("tasks.label.imbalance", "balanced", "class_weights"),
        ("tasks.label.type", "binary", "classification"),
        ("tasks.label.head", "logistic_regression", "softmax"),
        ("transfer.strategy", "feature-extraction", "linear_probe"),
        ("fusion.name", "concatenation", "concat"),
    ],
)
def test_a_value_of_another_library_names_ours(place, given, meant):
    assert refusal(**{place: given}).replace("'", "").endswith(f"; did you mean {meant}?")


def test_every_place_in_the_table_of_words_is_a_setting_and_every_value_is_one():
    fields = {name: field.annotation for name, field in Job.model_fields.items()}
    for place in KEYS:
        section, _, key = place.partition(".")
        model = fields[section]
        model = model.__args__[1] if hasattr(model, "__args__") else model
        assert not key or key.removeprefix("NAME.") in model.model_fields, place
    schema = str(Job.model_json_schema())
    assert all(
        f"'{word}'" in schema or word in (*STRATEGIES.built_in, *TASK_TYPES.built_in, "concat", "attention")
        for word in VALUES
    )
    words = [word for listed in KEYS.values() for word in listed]
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mm.Job(**JOB, epochs=3), "unknown key 'epochs'; did you mean train.epochs?"),
        (lambda: mm.Task(typ="regression"), "unknown key 'typ'; did you mean 'type'?"),
        (lambda: mm.Train(epochs=0), "epochs: is 0; input should be greater than 0"),
        (lambda: mm.Train(device="gpu"), "did you mean 'cuda'?"),
        (lambda: mm.Job(inputs={"image": {"encodr": "x"}}, tasks={"a": {}}), "inputs.image: unknown key 'encodr'"),
        (lambda: mm.Job(), "inputs: is missing; give it\ntasks: is missing; give it"),
        (lambda: mm.Job(**{**JOB, "data": 3}), "data: is 3; a mapping of names to settings is needed"),
        (lambda: mm.Job(**{**JOB, "inputs": ["image"]}), "inputs: is a list; a mapping of names"),
        (lambda: mm.Candidate.model_validate("@random"), "'@random' names no encoder"),
        (lambda: mm.Data(workers="some"), "workers: is 'some'; input should be a valid integer"),
    ],
)
def test_a_section_that_is_wrong_in_python_is_a_config_error_in_our_words(make, message):
    with pytest.raises(mm.ConfigError) as caught:
        make()
    assert message in str(caught.value)
    assert caught.value.__suppress_context__  # a traceback would show pydantic's message
    for tail in ("pydantic", "type=", "input_value", "validation error", "constrained", "literal["):
        assert tail not in str(caught.value)


def test_the_members_of_a_union_are_one_line():
    assert refusal(**{"data.workers": "some"}).count("data.workers") == 1


def test_a_job_is_pickled_and_copied_as_any_other():
    job = parse_job(JOB)
    assert pickle.loads(pickle.dumps(job)) == copy.deepcopy(job) == mm.Job(**job.model_dump()) == job
