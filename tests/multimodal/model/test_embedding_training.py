"""Embedding tasks through the whole job: train, score by retrieval, export, predict."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.assertions import assert_close, changed, near
from support.logs import logged
from support.synthetic_products import CONFIG, NEW, OLD, UNKNOWN, make_photos, write_table
from typer.testing import CliRunner

import multimodal as mm
from export import write_predictions
from export.bundle_folder import read_bundle
from export.prediction_files import ResumeError
from export.serving.responses import prediction_json
from export.triton import write_triton_repository
from export.triton.stages import Postprocessing
from multimodal.check.job import check_job
from multimodal.cli import app
from multimodal.config import ConfigError, parse_job
from multimodal.run import Run
from multimodal.training import fit


def run_job(shop: Path, out: Path, **changes) -> Run:
    job = parse_job(changed(CONFIG, changes))
    with logged() as lines:
        run = fit(job, train=shop / "train.csv", valid=shop / "valid.csv", out=out)
    assert not [line for line in lines if "counted as wrong" in line]
    return run


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """Validation has products that training does not have."""
    folder = tmp_path_factory.mktemp("shop")
    write_table(folder / "train.csv", make_photos(folder, OLD, 12, seed=0))
    write_table(folder / "valid.csv", make_photos(folder, OLD + NEW + UNKNOWN, 3, seed=1))
    return folder


@pytest.fixture(scope="module")
def run(shop, tmp_path_factory) -> Run:
    return run_job(shop, tmp_path_factory.mktemp("runs") / "arcface", **{"train.metric": "product.recall_at_1"})


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    run.export(folder, embedding=True)
    return folder


def test_photos_find_those_of_their_product_and_unseen_products_count(run):
    metrics = run.metrics["tasks"]["product"]
    assert (metrics["n"], metrics["alone"]) == (18, 0)
    assert metrics["recall_at_1"]["value"] > 0.8
    assert run.metrics["modalities"]["image"]["product"] == metrics
    assert run.metrics["training"]["best_score"] == metrics["recall_at_1"]["value"]


def test_supcon_learns_it_too(shop, tmp_path):
    run = run_job(shop, tmp_path / "run", **{"tasks.product.loss": "supcon"})
    assert run.metrics["tasks"]["product"]["recall_at_1"]["value"] > 0.8


def test_a_run_that_is_read_again_gives_the_same_scores(run, shop):
    assert Run(run.folder).evaluate(shop / "valid.csv")["tasks"] == run.metrics["tasks"]


def test_centres_stay_out_of_the_graph(run, bundle):
    sizes = [list(tensor.dims) for tensor in onnx.load(bundle / "model.onnx").graph.initializer]
    assert tuple(run.model.head("product").centres.shape) == (4, 16)
    assert [16] in sizes
    assert [4, 16] not in sizes
    assert [16, 4] not in sizes


def test_predictions_hold_the_vector_and_the_table_has_no_column(bundle, shop, tmp_path):
    predictor = mm.Predictor.load(bundle)
    answer = predictor.predict([{"image": str(shop / "red-0-0.png")}])[0]["product"]
    assert answer.embedding.shape == (16,)
    assert np.linalg.norm(answer.embedding) == near(1, "batches")
    out, vectors = tmp_path / "preds.csv", tmp_path / "vectors.npy"
    command = ["predict", str(bundle), "--data", str(shop / "valid.csv"), "--out", str(out)]
    done = CliRunner().invoke(app, [*command, "--embeddings", str(vectors)])
    assert done.exit_code == 0, done.output
    assert out.read_text().splitlines()[0] == "error"
    assert np.load(vectors).shape == (18, 16)
    done = CliRunner().invoke(app, [*command, "--embeddings", str(vectors), "--task", "embedding"])
    assert done.exit_code == 0, done.output
    assert np.load(vectors).shape[1] == predictor.embedding_dim != 16
    done = CliRunner().invoke(app, ["predict", str(bundle), "--image", str(shop / "red-0-0.png")])
    assert "a vector of 16 numbers" in done.output


def test_a_killed_job_goes_on_with_the_same_vectors_alone(bundle, shop, tmp_path, monkeypatch):
    predictor = mm.Predictor.load(bundle)
    out, vectors = tmp_path / "answers.jsonl", tmp_path / "vectors.npy"

    def write(task, resume, advance=None):
        return write_predictions(
            predictor, shop / "valid.csv", out, embeddings=vectors, task=task, batch_size=4, resume=resume,
            advance=advance,
        )  # fmt: skip

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write("product", False, stop)
    with pytest.raises(ResumeError, match="was begun with another task"):
        write("embedding", True)
    assert write("product", True) == (0, 18)
    assert out.read_text().splitlines() == ['{"error": null}'] * 18
    answers = predictor.predict(shop / "valid.csv")
    assert_close(np.load(vectors), [row["product"].embedding for row in answers], "batches")


def test_a_smaller_precision_is_judged_by_how_well_photos_are_found(run, tmp_path):
    run.export(tmp_path / "bundle", precision=["fp16"])
    report = read_bundle(tmp_path / "bundle").read_json("parity.json")["models"]["model.fp16.onnx"]
    assert report["metrics"]["product"]["metric"] == "recall_at_1"
    assert report["agreement"]["product"]["passed"]


def test_triton_passes_the_vector_on(bundle, tmp_path):
    names = write_triton_repository(bundle, tmp_path / "models")
    config = (tmp_path / "models" / names["ensemble"] / "config.pbtxt").read_text()
    assert "product_probability" not in config
    outputs = np.eye(2, 16, dtype=np.float32)
    answered = Postprocessing(tmp_path / "models" / names["answer"] / "1")({"product": outputs})
    assert list(answered) == ["product"]
    np.testing.assert_array_equal(answered["product"], outputs)


def test_the_server_gives_the_vector_where_it_is_asked_for(bundle, shop):
    predictor = mm.Predictor.load(bundle)
    answer = predictor.predict([{"image": str(shop / "red-0-0.png")}])[0]
    assert prediction_json(answer, predictor.decodings) == {}
    given = prediction_json(answer, predictor.decodings, embedding=True)
    assert given["product"] == {"embedding": answer["product"].embedding.tolist(), "missing": []}
    assert len(given["embedding"]["embedding"]) == predictor.embedding_dim


def test_folds_score_vectors_and_list_no_answers(shop, tmp_path):
    job = parse_job(changed(CONFIG, {"train.epochs": 1}))
    many = write_table(shop / "many.csv", make_photos(shop, OLD, 60, seed=3))  # a tenth of a half has some label twice
    found = mm.cross_validate(job, 2, train=many, out=tmp_path / "folds")
    assert "recall_at_1" in found["tasks"]["product"]
    assert (tmp_path / "folds" / "out_of_fold.csv").read_text().splitlines()[0] == "row,fold"


def test_a_task_that_gives_no_vectors_is_refused(bundle):
    read = mm.Predictor.load(bundle).bundle
    assert read.vector_output() == "product"
    assert read.vector_output("embedding") == "embedding"
    with pytest.raises(LookupError, match="gives no vectors called 'color'; there are product, embedding"):
        read.vector_output("color")


def test_check_finds_nothing_wrong_with_new_products_but_warns_where_none_is_there_twice(shop):
    job = changed(CONFIG, {"data.train": str(shop / "train.csv"), "data.valid": str(shop / "valid.csv")})
    assert check_job(parse_job(job), shop) == []
    write_table(shop / "single.csv", make_photos(shop, OLD, 1, seed=2))
    problems = check_job(parse_job(changed(job, {"data.valid": str(shop / "single.csv")})), shop)
    assert [problem.severity for problem in problems] == ["error", "warning"]
    assert "do not define product.map (no two have the same label)" in problems[0].message
    assert "has no label twice" in problems[1].message


def test_the_transfer_gap_of_an_embedding_task_is_not_measured(shop):
    found = mm.transfer_check(parse_job(CONFIG), train=shop / "train.csv", valid=shop / "valid.csv", cache=False)
    assert "it is an embedding task" in found["tasks"]["product"]["reason"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": {"name": "late"}}, "an embedding task needs one vector of all inputs, and late fusion keeps"),
        ({"tasks.product": {"width": 8}}, "width belongs to type: embedding, and type is classification"),
        ({"tasks.product.label_smoothing": 0.1}, "label_smoothing belongs to type: classification or multilabel, and"),
        ({"tasks.product.imbalance": "class_weights"}, "an embedding task has no class weights"),
        (
            {"tasks.product.loss": "supcon", "tasks.product.margin": 0.2},
            "margin belongs to loss: arcface, and",
        ),
        ({"tasks.product.loss": "triplet"}, "arcface"),
        ({"tasks.product.imbalance": "logit_adjustment"}, "logit_adjustment needs one class per record"),
        ({"tasks.product.head": "softmax"}, "head belongs to type: classification, and type is"),
        ({"tasks.product.head": "zero_shot"}, "head belongs to type: classification, and type"),
        ({"tasks.product.zero_shot": {"labels": ["a", "b"]}}, "zero_shot belongs to head: zero_shot"),
        ({"train.metric": "product.accuracy"}, "there is no metric 'product.accuracy'"),
    ],
)
def test_what_does_not_fit_an_embedding_task_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        parse_job(changed(CONFIG, changes))
