"""Open Inference Protocol, version 2, over REST: health, metadata and tensors in JSON.

https://github.com/open-inference/open-inference-protocol, without binary extension and model repositories.
"""

from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from export.serving.admission import Permit
from export.serving.body import announced_bytes, parse_json, read_body
from export.serving.openapi import GUARDED, MAX_ID, MODEL, OPEN, PREDICTION, READINESS, TENSORS
from export.serving.responses import RequestError, json_response
from export.serving.service import PredictionResponse, Service
from export.serving.tensor_records import output_tensors, samples_of_tensors, tensor_metadata
from multimodal.inference.sources import Sample

_VERSION = "1"


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
            body = await read_body(request, limits.max_body_bytes)
            permit.mark_read()
            content, samples = await service.in_reader(lambda: _samples(body, service))
            permit.grow(len(samples))
            wanted = _wanted(content, service)
            responses = await _predict(service, samples, permit)
            content_out = {"model_name": name, "model_version": _VERSION, "outputs": output_tensors(responses, wanted)}
            return json_response(content_out | ({"id": content["id"]} if "id" in content else {}))


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/v2", summary="Metadata of the server", response_class=Response, responses=GUARDED)
    async def server() -> Response:
        from importlib.metadata import version

        return json_response(
            {"name": "multimodal-transfer", "version": version("multimodal-transfer"), "extensions": []}
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


def _samples(body: bytes, service: Service) -> tuple[dict[str, Any], list[Sample]]:
    limits = service.settings.limits
    content = parse_json(body, limits.max_tensor_values)
    if not isinstance(content, dict) or not isinstance(content.get("inputs"), list):
        raise RequestError(400, 'the body is no inference request; send {"inputs": [tensor, ...]}')
    identity = content.get("id", "")
    if not isinstance(identity, str) or len(identity) > MAX_ID:
        raise RequestError(400, f"the id is not a text of at most {MAX_ID} characters; shorten it")
    return content, samples_of_tensors(service.predictor, content["inputs"], limits)


def _wanted(content: dict[str, Any], service: Service) -> list[str]:
    given = [output.name for output in service.predictor.session.get_outputs()]
    outputs = content.get("outputs", [{"name": name} for name in given])
    entries = outputs if isinstance(outputs, list) and outputs else [outputs]
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    for name in names:
        if name not in given:
            raise RequestError(400, f"there is no output {str(name)[:100]!r}; there are {', '.join(given)}")
    if len(names) > len(given):
        raise RequestError(400, f"{len(names)} outputs are asked for, and there are {len(given)}; ask for each once")
    return [str(name) for name in names]


async def _predict(service: Service, samples: list[Sample], permit: Permit) -> list[PredictionResponse]:
    """Responses of the model; tensors that it rejects are the client's to correct, so 400."""
    try:
        return await service.predict(samples, permit)
    except (RequestError, TimeoutError):
        raise
    except Exception as error:  # onnxruntime's own have no base class in common
        raise RequestError(400, f"the model rejects these tensors ({error}); compare them with its inputs") from error
