"""The Open Inference Protocol: the same numbers as onnxruntime's, and reasons for what is none of them."""

import json
from collections.abc import Collection
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from support.assertions import assert_close

from export import Bundle, Predictor
from export.golden import read_golden
from export.serving.responses import RequestError
from export.serving.tensors import from_bytes, to_array, to_binary_tensor, to_tensor

INFER = "/v2/models/fruit/infer"


def test_health_and_metadata_say_what_the_protocol_asks_for(client: TestClient, bundle: Bundle) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True, "state": "ready"}
    for address in ("/v2/models/fruit/ready", "/v2/models/fruit/versions/1/ready"):
        assert client.get(address).json() == {"ready": True, "state": "ready"}
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
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


def sound(samples: int) -> list[dict[str, Any]]:
    waveform = {"name": "sound.waveform", "datatype": "FP32", "shape": [1, samples], "data": [0.5] * samples}
    mask = {"name": "sound.waveform_mask", "datatype": "BOOL", "shape": [1, samples], "data": [True] * samples}
    return [waveform, mask]


def binary_request(
    feed: dict[str, np.ndarray], in_json: Collection[str] = (), **more: Any
) -> tuple[bytes, dict[str, str]]:
    """Body and headers as the protocol's extension for binary data has them (and tritonclient sends them)."""
    tensors, data = [], b""
    for name, array in feed.items():
        tensor = to_tensor(name, array)
        if name not in in_json:
            del tensor["data"]
            tensor["parameters"] = {"binary_data_size": array.nbytes}
            data += array.astype(array.dtype.newbyteorder("<")).tobytes()
        tensors.append(tensor)
    content = json.dumps({"inputs": tensors, **more}).encode()
    return content + data, {"Inference-Header-Content-Length": str(len(content))}


def outputs_of(reply: Any) -> dict[str, np.ndarray]:
    """Outputs of an answer, whichever are in its JSON and whichever behind it."""
    length = int(reply.headers.get("inference-header-content-length", len(reply.content)))
    data, found = reply.content[length:], {}
    for tensor in json.loads(reply.content[:length])["outputs"]:
        assert tensor["datatype"] == "FP32"
        if "data" in tensor:
            values = np.array(tensor["data"], np.float32)
        else:
            size = tensor["parameters"]["binary_data_size"]
            values, data = np.frombuffer(data[:size], "<f4"), data[size:]
        found[tensor["name"]] = values.reshape(tensor["shape"])
    assert data == b""
    return found


@pytest.mark.parametrize("in_json", [(), ("text.input_ids",), ("photo.pixels", "text.present"), ("sound.waveform",)])
@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({}, "application/json"),
        ({"parameters": {"binary_data_output": True, "priority": 1}}, "application/octet-stream"),
        (
            {"outputs": [{"name": "price", "parameters": {"binary_data": True}}, {"name": "color"}]},
            "application/octet-stream",
        ),
        (
            {
                "outputs": [{"name": "price", "parameters": {"binary_data": False}}],
                "parameters": {"binary_data_output": True},
            },
            "application/json",
        ),
        ({"outputs": [{"name": "linear", "parameters": {}}], "parameters": {}}, "application/json"),
    ],
)
def test_golden_tensors_as_bytes_get_the_golden_outputs(
    client: TestClient, bundle: Bundle, in_json: tuple[str, ...], more: dict[str, Any], kind: str
) -> None:
    feed, expected, _ = read_golden(bundle)
    body, headers = binary_request(feed, in_json, **more)
    reply = client.post(INFER, content=body, headers=headers)
    assert (reply.status_code, reply.headers["content-type"]) == (200, kind), reply.text
    found = outputs_of(reply)
    assert set(found) == ({output["name"] for output in more["outputs"]} if "outputs" in more else expected.keys())
    for name, array in found.items():
        assert_close(array, expected[name], "onnx")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda body, length: (body[:-1], length), "text.attention_mask: has 23 bytes, and the shape [1, 3] needs 24"),
        (lambda body, length: (body + b"x", length), "1 bytes belong to no tensor; give each its binary_data_size"),
        (lambda body, length: (body[:length], length), "text.input_ids: has 0 bytes, and the shape [1, 3] needs 24"),
        (lambda body, length: (body, length - 1), "is not JSON"),
        (lambda body, length: (body, len(body) + 1), "bytes; correct it"),
        (lambda body, length: (body, -1), "Inference-Header-Content-Length is '-1'; give the number"),
        (lambda body, length: (body, ""), "Inference-Header-Content-Length is ''"),
        (lambda body, length: (body, "1e3"), "Inference-Header-Content-Length is '1e3'"),
        (lambda body, length: (body, 10**30), "Inference-Header-Content-Length is '1"),
        (
            lambda body, length: (body.replace(b": 24}", b": 16}"), length),
            "has 16 bytes, and the shape [1, 3] needs 24",
        ),
        (lambda body, length: (body.replace(b": 24}", b": -4}"), length), "less than none"),
        (
            lambda body, length: (body.replace(b": 24}", b": %d}" % 2**70), length + 40),
            "text.input_ids: has 48 bytes, and the shape [1, 3] needs 24",
        ),
        (
            lambda body, length: (body.replace(b"[1, 3]", b"[3, 3]"), length),
            "has 24 bytes, and the shape [3, 3] needs 72",
        ),
        (lambda body, length: (body.replace(b"INT64", b"INT32"), length), "the datatype is not INT64"),
        (lambda body, length: (body[:-1] + b"\x80", length), "text.attention_mask: has values of -92"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(client: TestClient, change: Any, reason: str) -> None:
    feed = {"text.input_ids": np.array([[2, 5, 7]]), "text.attention_mask": np.ones((1, 3), np.int64)}
    body, headers = binary_request(feed)
    body, length = change(body, int(headers["Inference-Header-Content-Length"]))
    reply = client.post(INFER, content=body, headers={"Inference-Header-Content-Length": str(length)})
    assert (reply.status_code, reason in reply.json()["error"]) == (400, True), reply.text


@pytest.mark.parametrize(
    ("dtype", "data", "reason"),
    [
        ("bool", b"\x02", "bytes above 1, which are no BOOL"),
        ("bool", b"\xff", "bytes above 1"),
        ("float32", b"\0\0\xc0\x7f", "leaves the range of FP32; send finite values"),
        ("float32", b"\0\0\x80\xff", "leaves the range of FP32"),
        ("float64", b"\0\0\0\0\0\0\xf0\x7f", "leaves the range of FP64"),
        ("int32", b"\0\0\0", "has 3 bytes, and the shape [1] needs 4"),
    ],
)
def test_bytes_that_are_no_value_are_refused(dtype: str, data: bytes, reason: str) -> None:
    with pytest.raises(RequestError) as error:
        from_bytes("x", [1], data, dtype)
    assert reason in error.value.reason


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float32", "float64"])
def test_bytes_are_read_as_they_are_written(dtype: str) -> None:
    array = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    header, data = to_binary_tensor("x", array)
    assert data == array.astype(array.dtype.newbyteorder("<")).tobytes()
    found = from_bytes("x", header["shape"], data, dtype)
    assert (found.tolist(), found.dtype) == (array.tolist(), array.dtype)


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
        ({"inputs": [text([99, 1, 1]), MASK]}, 400, "text.input_ids: has values of 1 to 99; give 0 to 7"),
        ({"inputs": [text([8, 1, 1]), MASK]}, 400, "has values of 1 to 8; give 0 to 7"),
        ({"inputs": [text([-1, 1, 1]), MASK]}, 400, "has values of -1 to 1; give 0 to 7"),
        ({"inputs": [text([-8, -8, -8]), MASK]}, 400, "has values of -8 to -8; give 0 to 7"),
        ({"inputs": [text([1, 10**9, 1]), MASK]}, 400, "has values of 1 to 1000000000; give 0 to 7"),
        ({"inputs": [text([1, -(2**63), 1]), MASK]}, 400, "give 0 to 7"),
        (
            {"inputs": [text(), {**MASK, "data": [1, 2, 1]}]},
            400,
            "text.attention_mask: has values of 1 to 2; give 0 to 1",
        ),
        ({"inputs": [text(), {**MASK, "data": [1, 1, -1]}]}, 400, "text.attention_mask: has values of -1 to 1"),
        ({"inputs": [*sound(10)]}, 400, "the model rejects these tensors"),
        ({"inputs": [text(), MASK], "outputs": [{"name": "size"}]}, 400, "there is no output 'size'; there are color"),
        ({"inputs": [text(), MASK], "outputs": 3}, 400, "there is no output"),
        ({"inputs": [text(), MASK], "outputs": [{"name": "price"}] * 2}, 400, "'price' is asked for twice"),
        (
            {"inputs": [text(), MASK], "outputs": [{"name": "price", "parameters": []}]},
            400,
            "price: the parameters are no",
        ),
        ({"inputs": [text(), MASK], "parameters": 3}, 400, "the request: the parameters are no object"),
        (
            {"inputs": [text(), MASK], "outputs": [{"name": "price", "parameters": {"binary_data": 1}}]},
            400,
            "price: binary_data is '1'; give bool",
        ),
        *(
            (
                {"inputs": [text(), MASK], "outputs": [{"name": "color", "parameters": {name: 1}}]},
                400,
                f"color: the parameter '{name}' is not supported",
            )
            for name in ("classification", "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")
        ),
        ({"inputs": [text(), MASK], "parameters": {"sequence_id": 7}}, 400, "the request: the parameter 'sequence_id'"),
        (
            {"inputs": [text(parameters={"shared_memory_region": "a"}), MASK]},
            400,
            "text.input_ids: the parameter 'shared_memory_region' is not supported",
        ),
        ({"inputs": [text(parameters={"binary_data_size": 24}), MASK]}, 400, "has data beside its binary_data_size"),
        ({"inputs": [text(parameters={"binary_data_size": True}), MASK]}, 400, "binary_data_size is 'True'; give int"),
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
    for address in (
        "/v2/models/x",
        "/v2/models/fruit/versions/2",
        "/v2/models/x/ready",
        "/v2/models/fruit/versions/2/ready",
    ):
        reply = client.get(address)
        assert (reply.status_code, "there is no model" in reply.json()["error"]) == (404, True)


@pytest.mark.parametrize(
    ("shape", "data", "dtype", "reason"),
    [
        ("x", [1], "int64", "not a list of 1 to 8 whole numbers"),
        ([True], [1], "int64", "not a list of 1 to 8"),
        ([0], [], "int64", "give sizes of at least 1"),
        ([1, -1], [], "int64", "give sizes of at least 1"),
        ([2**31], [], "int64", "give sizes of at least 1, at most 2147483647"),
        ([10**4000] * 2, [], "int64", "the shape is [1000000"),
        ([2**31 - 1] * 8, [], "int64", "values; at most 100"),
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
