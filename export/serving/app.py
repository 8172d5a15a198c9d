"""Routes of the server."""

import base64
import copy
import hashlib
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from export.serving.admission import Permit
from export.serving.body import announced_bytes, read_body, stream_body
from export.serving.inference_protocol import add_inference_protocol
from export.serving.metrics import CONTENT_TYPE
from export.serving.middleware import FAILURE, RequestGuard
from export.serving.openapi import GUARDED, OPEN, PREDICT, PREDICTION, error_responses, predict_response
from export.serving.records import check_values, record_of_form, records_of_json
from export.serving.responses import RequestError, json_response, prediction_json, refusal
from export.serving.service import Service
from multimodal.inference.sources import Sample

HINTS = {
    404: "; /openapi.json lists what there is, with POST /predict and GET /model among it",
    405: "; /openapi.json lists what each address takes, such as POST for /predict",
}
"""Status -> remedy."""
PAGE = Path(__file__).with_name("page.html").read_bytes()


def _hash_of(tag: str) -> str:
    """Hash of an inline element, for the content security policy."""
    found = re.search(rf"<{tag}>(.*?)</{tag}>".encode(), PAGE, re.DOTALL)
    assert found is not None
    return "'sha256-" + base64.b64encode(hashlib.sha256(found[1]).digest()).decode() + "'"


PAGE_HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; script-src {_hash_of('script')}; style-src {_hash_of('style')}; connect-src 'self'; "
        "img-src blob:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "permissions-policy": "microphone=(self), camera=(self)",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def create_app(service: Service) -> ASGIApp:
    """FastAPI application behind the middleware."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    # its pages for /docs load scripts from elsewhere
    app = FastAPI(title="multimodal", docs_url=None, redoc_url=None, lifespan=lifespan, redirect_slashes=False)
    app.add_exception_handler(RequestError, _on_request_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_failure)
    _add_pages(app, service)
    _add_predict(app, service)
    add_inference_protocol(app, service)
    _describe_tasks(app, service)
    return RequestGuard(app, service)


def _describe_tasks(app: FastAPI, service: Service) -> None:
    """Puts the tasks of the bundle into ``/openapi.json``, as soon as it is loaded."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        content = copy.deepcopy(describe())
        with suppress(RequestError):  # it is not loaded yet
            bundle, decodings = service.predictor.bundle, service.predictor.decodings
            response = content["paths"]["/predict"]["post"]["responses"]["200"]
            response["content"] = predict_response(decodings, embedding=bundle.embedding)
        return content

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's guide has it


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/", summary="Web page", response_class=Response, responses=OPEN)
    async def page() -> Response:
        return Response(PAGE, headers=PAGE_HEADERS, media_type="text/html")

    @app.get("/metrics", summary="Metrics for Prometheus", response_class=Response, responses=GUARDED)
    async def metrics() -> Response:
        return Response(service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    @app.get(
        "/model",
        summary="Inputs and tasks of the model",
        response_class=Response,
        responses=error_responses(401, 403, 503),
    )
    async def model() -> Response:
        predictor = service.predictor
        content = {
            **service.identity,
            "device": predictor.device,
            "precision": predictor.precision,
            "inputs": predictor.modalities,
            "tasks": predictor.tasks,
        }
        return json_response(content)


def _add_predict(app: FastAPI, service: Service) -> None:
    @app.post(
        "/predict",
        summary="Predictions of records",
        response_class=Response,
        responses=PREDICTION,
        openapi_extra=PREDICT,
    )
    async def predict(
        request: Request,
        explain: bool = Query(False, description="Adds the contribution of each input; for one record."),
        embedding: bool = Query(False, description="Adds the vectors, if the model has any."),
    ) -> Response:
        predictor = service.predictor
        limits = service.settings.limits
        async with service.request(announced_bytes(request, limits.max_body_bytes)) as permit:
            deadline = time.monotonic() + service.settings.timeout_seconds
            samples = await _samples(request, service, permit, deadline)
            if explain and len(samples) != 1:
                raise RequestError(400, f"the body has {len(samples)} records; explain one at a time")
            given = sum(present for _, present in samples[0].values())
            permit.grow(len(samples) + (2**given if explain else 0))
            responses = await service.predict(samples, permit)
            content = [
                prediction_json(entry.predictions, predictor.decodings, embedding=embedding) for entry in responses
            ]
            if explain:
                for task, shares in (await service.explain(samples[0])).items():
                    content[0][task]["contributions"] = shares
            return json_response({"model": predictor.bundle.name, "predictions": content})


async def _samples(request: Request, service: Service, permit: Permit, deadline: float) -> list[Sample]:
    """Records of the request, read and preprocessed."""
    limits, modalities = service.settings.limits, service.predictor.modalities
    kind, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    if "charset" in parameters and "utf-8" not in parameters:
        raise RequestError(415, f"the Content-Type has {parameters.strip()[:60]!r}; send UTF-8")
    if kind.strip() == "application/json":
        body = await read_body(request, limits.max_body_bytes)
        parse: Callable[[], list[dict[str, Any]]] = partial(records_of_json, body, modalities, limits)
    elif kind.strip() == "multipart/form-data":
        record = await record_of_form(request, stream_body(request, limits.max_body_bytes), modalities, limits)
        parse = partial(list, [record])
    else:
        raise RequestError(
            415,
            f"the Content-Type is {kind.strip()[:60] or 'not given'!r}; send application/json or multipart/form-data",
        )
    permit.mark_read()

    def read() -> list[Sample]:
        records = parse()
        check_values(records, modalities, limits)
        return service.read(records, deadline)

    return await service.in_reader(read)


async def _on_request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return refusal(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hint = HINTS.get(error.status_code, "")
    reason = f"{request.method[:10]} {request.url.path[:100]!r}: {error.detail}{hint}"
    allow = (error.headers or {}).get("Allow")
    # the middleware asks for GET where HEAD was sent
    return refusal(RequestError(error.status_code, reason, allow="GET, HEAD" if allow == "GET" else allow))


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return refusal(RequestError(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}"))


async def _on_failure(request: Request, error: Exception) -> Response:
    return refusal(FAILURE)
