"""Open Inference Protocol, version 2, over REST: health, metadata, and tensors in JSON or as bytes.

https://github.com/open-inference/open-inference-protocol, without model repositories.
"""

from typing import Any

import numpy as np
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from export.serving.admission import Permit
from export.serving.body import announced_bytes, parse_json, read_body
from export.serving.openapi import GUARDED, MAX_ID, MODEL, OPEN, PREDICTION, READINESS, TENSORS
from export.serving.responses import RequestError, json_response, to_bytes
from export.serving.service import PredictionResponse, Service
from export.serving.tensor_records import samples_of_tensors, tensor_metadata
from export.serving.tensors import parameter_of, to_binary_tensor, to_tensor
from multimodal.inference.sources import Sample

_VERSION = "1"
_JSON_LENGTH = "Inference-Header-Content-Length"


def add_inference_protocol(app: FastAPI, service: Service) -> None:
    """Adds its routes to an application."""
    _add_health(app, service)
    model = "/v2/models/{name}"

    @app.get(model, summary="Tensors of the model", response_class=Response, responses=MODEL)
    @app.get(f"{model}/versions/{{version}}", include_in_schema=False, response_class=Response)
    async def metadata(request: Request, name: str) -> Response:
        _check_name(service, request)
        return json_response({"name": name, "versions": [_VERSION], **tensor_metadata(service.predictor)})

    @app.get(f"{model}/ready", summary="Readiness of the model", response_class=Response, responses=MODEL)
    @app.get(f"{model}/versions/{{version}}/ready", include_in_schema=False, response_class=Response)
    async def ready(request: Request, name: str) -> Response:
        _check_name(service, request)
        return _ready(service)

    @app.post(
        f"{model}/infer",
        summary="Tensors in, tensors out",
        response_class=Response,
        responses=MODEL | PREDICTION,
        openapi_extra=TENSORS,
    )
    @app.post(f"{model}/versions/{{version}}/infer", include_in_schema=False, response_class=Response)
    async def infer(request: Request, name: str) -> Response:
        _check_name(service, request)
        limits = service.settings.limits
        async with service.request(announced_bytes(request, limits.max_body_bytes)) as permit:
            length = _json_length(request)
            body = await read_body(request, limits.max_body_bytes)
            permit.mark_read()
            content, samples = await service.in_reader(lambda: _samples(body, length, service))
            permit.grow(len(samples))
            wanted = _wanted(content, service)
            responses = await _predict(service, samples, permit)
            head = {"model_name": name, "model_version": _VERSION}
            return _response(head | ({"id": content["id"]} if "id" in content else {}), responses, wanted)


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/v2", summary="Metadata of the server", response_class=Response, responses=GUARDED)
    async def server() -> Response:
        from importlib.metadata import version

        return json_response(
            {
                "name": "multimodal-transfer",
                "version": version("multimodal-transfer"),
                "extensions": ["binary_tensor_data"],
            }
        )

    @app.get("/v2/health/live", summary="Liveness of the server", response_class=Response, responses=OPEN)
    async def live() -> Response:
        return json_response({"live": True})

    @app.get("/v2/health/ready", summary="Readiness of the server", response_class=Response, responses=READINESS)
    async def ready() -> Response:
        return _ready(service)


def _ready(service: Service) -> Response:
    is_ready = service.state == "ready"
    return json_response({"ready": is_ready, "state": service.state}, 200 if is_ready else 503)


def _check_name(service: Service, request: Request) -> None:
    name, version = request.path_params["name"], request.path_params.get("version", _VERSION)
    if name != service.name or version != _VERSION:
        raise RequestError(404, f"there is no model {name[:100]!r} of version {version[:20]!r}; there is "
                                f"{service.name!r} of version {_VERSION}")  # fmt: skip


def _json_length(request: Request) -> int | None:
    """Bytes of the body that are JSON, before those of the tensors; None for all."""
    length = request.headers.get(_JSON_LENGTH)
    if length is None:
        return None
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        raise RequestError(400, f"the {_JSON_LENGTH} is {length[:40]!r}; give the number of bytes of the JSON")
    return int(length)


def _samples(body: bytes, length: int | None, service: Service) -> tuple[dict[str, Any], list[Sample]]:
    limits = service.settings.limits
    if length is not None and length > len(body):
        raise RequestError(400, f"the {_JSON_LENGTH} is {length}, and the body has {len(body)} bytes; correct it")
    content = parse_json(body[:length], limits.max_tensor_values)
    if not isinstance(content, dict) or not isinstance(content.get("inputs"), list):
        raise RequestError(400, 'the body is no inference request; send {"inputs": [tensor, ...]}')
    identity = content.get("id", "")
    if not isinstance(identity, str) or len(identity) > MAX_ID:
        raise RequestError(400, f"the id is not a text of at most {MAX_ID} characters; shorten it")
    data = b"" if length is None else body[length:]
    return content, samples_of_tensors(service.predictor, content["inputs"], data, limits)


def _wanted(content: dict[str, Any], service: Service) -> dict[str, bool]:
    """Output that is asked for -> True if as bytes."""
    given = [output.name for output in service.predictor.session.get_outputs()]
    all_binary = parameter_of(content, "the request", "binary_data_output", bool) or False
    outputs = content.get("outputs", [{"name": name} for name in given])
    entries = outputs if isinstance(outputs, list) and outputs else [outputs]
    wanted: dict[str, bool] = {}
    for entry in entries:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name not in given:
            raise RequestError(400, f"there is no output {str(name)[:100]!r}; there are {', '.join(given)}")
        if name in wanted:
            raise RequestError(400, f"the output {name!r} is asked for twice; ask for each once")
        binary = parameter_of(entry, name, "binary_data", bool)
        wanted[name] = all_binary if binary is None else binary
    return wanted


def _response(head: dict[str, Any], responses: list[PredictionResponse], wanted: dict[str, bool]) -> Response:
    outputs, data = [], []
    for name, is_binary in wanted.items():
        array = np.stack([response.outputs[name] for response in responses])
        if is_binary:
            tensor, piece = to_binary_tensor(name, array)
            data.append(piece)
        else:
            tensor = to_tensor(name, array)
        outputs.append(tensor)
    content = to_bytes(head | {"outputs": outputs})
    if not data:
        return Response(content, media_type="application/json")
    headers = {_JSON_LENGTH: str(len(content))}
    return Response(b"".join([content, *data]), headers=headers, media_type="application/octet-stream")


async def _predict(service: Service, samples: list[Sample], permit: Permit) -> list[PredictionResponse]:
    """Responses of the model; tensors that it rejects are the client's to correct, so 400."""
    try:
        return await service.predict(samples, permit)
    except (RequestError, TimeoutError):
        raise
    except Exception as error:  # onnxruntime's own have no base class in common
        raise RequestError(400, f"the model rejects these tensors ({error}); compare them with its inputs") from error
