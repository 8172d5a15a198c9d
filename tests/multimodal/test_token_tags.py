"""A task type that is registered by somebody else needs no change anywhere: trained, exported, served."""

import csv
import json

import pytest
from support.tiny_pretrained import plant
from support.token_tags import NAME, TagsPrediction, TokenLabels, TokenTags

import multimodal as mm
from export.predictions import write_predictions
from multimodal.task_types import TASK_TYPES

TAGS = {"red": "color", "green": "color", "round": "shape", "square": "shape", "thing": "noun"}
TEXTS = ["red thing", "green round thing", "thing", "square", "red square thing", "round thing green red", "green"]


def rows(count: int = 24):
    texts = [TEXTS[row % len(TEXTS)] for row in range(count)]
    return [
        {"text": text, "tags": " ".join(TAGS[word] for word in text.split()), "kind": "ab"[row % 2]}
        for row, text in enumerate(texts)
    ]


def make_job(**tags):
    return mm.Job(
        inputs={"text": mm.Input(encoder="planted/words")},
        tasks={"tags": mm.Task(type=TokenTags, **tags), "kind": mm.Task()},
        train=mm.Train(epochs=40, batch_size=8, learning_rate=0.05, metric="tags.accuracy"),
        transfer=mm.Transfer(strategy="linear_probe"),
        data=mm.Data(workers=0),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        yield mm.fit(make_job(), train=rows(), valid=rows(), out=tmp_path_factory.mktemp("tags") / "run", cache=False)


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    return run.export(tmp_path_factory.mktemp("bundle") / "bundle", records=rows())


def test_it_is_trained_and_evaluated(run):
    assert run.metrics["tasks"]["tags"]["accuracy"]["value"] == 1.0
    assert run.metrics["tasks"]["tags"]["n"] == sum(len(row["text"].split()) for row in rows())
    assert run.evaluate(rows())["tasks"]["tags"] == run.metrics["tasks"]["tags"]


def test_it_is_named_in_yaml_and_its_options_are_checked():
    job = mm.Job.model_validate({"inputs": {"text": {"encoder": "a/b"}}, "tasks": {"t": {"type": NAME}}})
    assert job.tasks["t"].kind.all_options(job.tasks["t"]) == {"smoothing": 0.0}
    assert make_job().tasks["tags"].type == NAME
    with pytest.raises(ValueError, match=r"options: unknown key 'smothing'; did you mean 'smoothing'\?"):
        make_job(options={"smothing": 0.1})
    with pytest.raises(
        ValueError, match="threshold belongs to type: classification or multilabel, and type is tests/tags"
    ):
        make_job(threshold=0.1)


def test_its_lengths_vary_in_the_graph_and_predictions_are_those_of_the_model(bundle):
    predictor = mm.Predictor.load(bundle.folder, allow_plugins=[NAME])
    (axes,) = (output.shape for output in predictor.session.get_outputs() if output.name == "tags")
    assert (type(axes[1]), axes[2]) == (str, 3)
    found = predictor.predict([{"text": "red round thing"}, {"text": "thing"}])
    assert [answer["tags"] for answer in found] == [
        TagsPrediction(tags=("color", "shape", "noun")),
        TagsPrediction(tags=("noun",)),
    ]
    assert predictor.predict([{"text": "thing"}])[0]["tags"] == found[1]["tags"]
    assert mm.verify_bundle(bundle.folder, allow_plugins=[NAME]) == []


def test_its_table_of_predictions_has_its_columns(bundle, tmp_path):
    predictor = mm.Predictor.load(bundle.folder, allow_plugins=[NAME])
    write_predictions(predictor, rows(), tmp_path / "out.csv")
    lines = list(csv.DictReader((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()))
    assert [line["tags"] for line in lines] == [row["tags"] for row in rows()]
    assert list(lines[0]) == ["tags", "kind", "kind_probability", "error"]


def test_a_bundle_loads_only_the_types_that_are_allowed(bundle, monkeypatch):
    with pytest.raises(mm.BundleError, match=r"wants the task type 'tests/tags'.*allow_plugins=\('tests/tags',\)"):
        mm.Predictor.load(bundle.folder)
    monkeypatch.setattr(TASK_TYPES, "registered", {})
    with pytest.raises(mm.BundleError, match="the task type 'tests/tags' is not registered; import the module"):
        mm.Predictor.load(bundle.folder, allow_plugins=[NAME])


def test_the_type_of_another_distribution_is_named_with_what_to_install(bundle, monkeypatch):
    monkeypatch.setattr(TASK_TYPES, "registered", {})
    content = json.loads((bundle.folder / "tasks" / "tags.json").read_text(encoding="utf-8"))
    assert content == {
        "type": NAME,
        "decoding": {"kind": "token_labels", "labels": ["color", "noun", "shape"]},
        "distribution": None,
    }
    with pytest.raises(LookupError, match="the task type 'tests/tags' is not installed; run: pip install tagger"):
        TASK_TYPES.load(NAME, distribution="tagger", allowed=[NAME])
    assert TokenLabels.from_config(content["decoding"]).labels == ("color", "noun", "shape")


@pytest.mark.slow
def test_it_is_served(bundle):
    pytest.importorskip("fastapi")
    from functools import partial

    from starlette.testclient import TestClient

    from export.serving.app import create_app
    from export.serving.readiness import load_verified
    from export.serving.service import Service
    from export.serving.settings import Settings

    service = Service(bundle.folder, Settings(), load=partial(load_verified, allow_plugins=[NAME]))
    with TestClient(create_app(service), base_url="http://127.0.0.1") as client:
        while service.state == "starting":
            client.get("/v2/health/ready")
        response = client.post("/predict", json={"text": "green square"})
    assert response.json()["predictions"][0]["tags"] == {"tags": ["color", "shape"], "missing": []}
