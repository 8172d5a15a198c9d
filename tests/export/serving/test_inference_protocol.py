"""The Open Inference Protocol: the same numbers as onnxruntime's, and reasons for what is none of them."""

from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support.assertions import assert_close

from export import Bundle, Predictor
from export.golden import read_golden
from export.serving.responses import RequestError
from export.serving.tensors import to_array, to_tensor

INFER = "/v2/models/fruit/infer"


def test_health_and_metadata_say_what_the_protocol_asks_for(client: TestClient, bundle: Bundle) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True, "state": "ready"}
    assert client.get("/v2/models/fruit/ready").status_code == 200
    assert set(client.get("/v2").json()) == {"name", "version", "extensions"}
    metadata = client.get("/v2/models/fruit").json()
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == ("fruit", ["1"], "onnxruntime_onnx")
    inputs = {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in metadata["inputs"]}
    assert inputs["photo.pixels"] == ("UINT8", [-1, 3, 16, 16])
    assert inputs["text.input_ids"] == ("INT64", [-1, -1])
    assert inputs["sound.present"] == ("BOOL", [-1])
    outputs = {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in metadata["outputs"]}
    assert outputs["color"] == ("FP32", [-1, 3])
    assert client.get("/v2/models/fruit/versions/1").json() == metadata


def test_golden_tensors_get_the_golden_outputs(client: TestClient, bundle: Bundle) -> None:
    feed, expected, _ = read_golden(bundle)
    request = {"id": "7", "inputs": [to_tensor(name, array) for name, array in feed.items()]}
    reply = client.post(INFER, json=request)
    assert reply.status_code == 200, reply.text
    assert (reply.json()["model_name"], reply.json()["id"]) == ("fruit", "7")
    outputs = {tensor["name"]: tensor for tensor in reply.json()["outputs"]}
    assert set(outputs) == set(expected)
    for name, array in expected.items():
        found = np.array(outputs[name]["data"], np.float32).reshape(outputs[name]["shape"])
        assert_close(found, array, "onnx")


def text(ids: Any = None, **changes: Any) -> dict[str, Any]:
    values = [[2, 5, 7]] if ids is None else ids
    return {"name": "text.input_ids", "datatype": "INT64", "shape": [1, 3], "data": values} | changes


MASK = {"name": "text.attention_mask", "datatype": "INT64", "shape": [1, 3], "data": [1, 1, 1]}


def test_an_input_that_is_left_out_is_missing(client: TestClient, bundle: Bundle) -> None:
    reply = client.post(INFER, json={"inputs": [text(), MASK], "outputs": [{"name": "price"}]})
    assert reply.status_code == 200, reply.text
    predictor = Predictor.load(bundle.folder, device="cpu")
    sample = predictor.read({"text": "red"})
    sample["text"] = ({"input_ids": np.array([2, 5, 7]), "attention_mask": np.ones(3, np.int64)}, True)
    (output,) = reply.json()["outputs"]
    assert_close(np.array(output["data"], np.float32), predictor.outputs([sample])["price"][0], "onnx")


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        ([], 400, 'the body is no inference request; send {"inputs"'),
        ({"inputs": []}, 400, "batches of nothing"),
        ({"inputs": [3]}, 400, "there is no tensor 'None'; there are photo.pixels"),
        ({"inputs": [text()] * 20}, 400, "20 tensors, and the model has 8"),
        ({"inputs": [text(), text()]}, 400, "text.input_ids: is there twice"),
        ({"inputs": [text()]}, 400, "text: has no attention_mask"),
        ({"inputs": [text(datatype="FP32"), MASK]}, 400, "the datatype is not INT64"),
        ({"inputs": [text([2, 5, 7], shape=[3]), MASK]}, 400, "the shape is [3], and [-1, -1] is expected"),
        ({"inputs": [text([1] * 6, shape=[2, 3]), MASK]}, 400, "batches of [1, 2]; send one size"),
        ({"inputs": [text([1, 2], shape=[1, 2]), MASK]}, 400, "text: has 2 and 3 tokens"),
        ({"inputs": [text([99, 1, 1]), MASK]}, 400, "the model rejects these tensors"),
        ({"inputs": [text(), MASK], "outputs": [{"name": "size"}]}, 400, "there is no output 'size'; there are color"),
        ({"inputs": [text(), MASK], "outputs": 3}, 400, "there is no output"),
        ({"inputs": [text(), MASK], "id": "i" * 201}, 400, "the id is not a text of at most 200"),
        ({"inputs": [text([1] * 9, shape=[1, 9]), {**MASK, "shape": [1, 9], "data": [1] * 9}]}, 413, "at most 8"),
        ({"inputs": [text([1] * 65, shape=[65, 1]), {**MASK, "shape": [65, 1], "data": [1] * 65}]}, 413, "65 records"),
        (
            {"inputs": [{"name": "text.present", "datatype": "BOOL", "shape": [1], "data": [False]}]},
            400,
            "every input is missing",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(client: TestClient, content: Any, status: int, reason: str) -> None:
    reply = client.post(INFER, json=content)
    assert (reply.status_code, reason in reply.json()["error"]) == (status, True), reply.text


def test_another_model_or_version_is_not_found(client: TestClient) -> None:
    for address in ("/v2/models/x", "/v2/models/fruit/versions/2", "/v2/models/x/ready"):
        reply = client.get(address)
        assert (reply.status_code, "there is no model" in reply.json()["error"]) == (404, True)


@pytest.mark.parametrize(
    ("shape", "data", "dtype", "reason"),
    [
        ("x", [1], "int64", "not a list of 1 to 8 whole numbers"),
        ([True], [1], "int64", "not a list of 1 to 8"),
        ([0], [], "int64", "give sizes of at least 1"),
        ([101], [], "int64", "has 101 values; at most 100"),
        ([2], [1], "int64", "has 1 values, and the shape [2] needs 2"),
        ([2], None, "int64", "has no values"),
        ([2, 2], [[1, 2], [3]], "int64", "is not nested as the shape"),
        ([2], [1, True], "int64", "something else than INT64"),
        ([2], [1, 1.5], "int64", "something else than INT64"),
        ([2], ["1", "2"], "float32", "something else than FP32"),
        ([1], [256], "uint8", "leaves the range of UINT8"),
        ([1], [1e300], "float32", "leaves the range of FP32"),
    ],
)
def test_data_that_is_no_array_is_refused(shape: Any, data: Any, dtype: str, reason: str) -> None:
    with pytest.raises(RequestError) as error, np.errstate(over="ignore"):
        to_array("x", shape, data, dtype, 100)
    assert reason in error.value.reason


def test_nested_data_is_read_as_its_shape() -> None:
    assert to_array("x", [2, 2], [[1, 2], [3, 4]], "float32", 9).tolist() == [[1.0, 2.0], [3.0, 4.0]]
