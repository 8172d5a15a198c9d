"""OpenAPI of bodies that are read without FastAPI's models, and of error responses."""

from collections.abc import Mapping
from typing import Any

from export.serving.settings import Limits
from export.serving.tensors import DATATYPES
from multimodal.decoding import EMBEDDING, Decoding, Embedding

MAX_ID = 200
"""Characters of a request's id."""

_REASON = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_RECORD = {
    "type": "object",
    "description": "Input -> value: a text, or a file as base64. A missing input is left out, or null.",
    "minProperties": 1,
    "additionalProperties": {"type": ["string", "null"]},
}
_RECORDS = {"type": "array", "items": _RECORD, "minItems": 1, "maxItems": Limits.max_records}
_FORM = {
    "type": "object",
    "description": "One record: one part per input, files with a file name, texts as fields.",
    "minProperties": 1,
    "additionalProperties": {"type": "string"},
}

PREDICT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"oneOf": [_RECORD, _RECORDS]}},
            "multipart/form-data": {"schema": _FORM},
        },
    }
}


_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1},
        "datatype": {"enum": list(DATATYPES.values())},
        "data": {"type": "array", "description": "Flat or nested; left out where it follows as bytes."},
        "parameters": {"type": "object", "properties": {"binary_data_size": {"type": "integer", "minimum": 1}}},
    },
}
_OUTPUT = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "parameters": {"type": "object", "properties": {"binary_data": {"type": "boolean"}}},
    },
}
TENSORS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string", "maxLength": MAX_ID},
                        "inputs": {"type": "array", "items": _TENSOR, "minItems": 1},
                        "outputs": {"type": "array", "items": _OUTPUT, "minItems": 1},
                        "parameters": {"type": "object", "properties": {"binary_data_output": {"type": "boolean"}}},
                    },
                }
            },
            "application/octet-stream": {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": "The JSON, as long as the header Inference-Header-Content-Length says, then the "
                    "bytes of the inputs with binary_data_size, in their order.",
                }
            },
        },
    }
}

_REASONS = {
    400: "The body is invalid.",
    401: "The bearer token is missing or wrong.",
    403: "The name in `Host` is not this server's, or the page in `Origin` is of another site.",
    404: "There is no such model.",
    408: "The body was not sent in time.",
    413: "The body, a file or the list of records is too large.",
    415: "The body, or a file in it, is of an unsupported type.",
    422: "A record cannot be used; `record` and `input` say which.",
    429: "Too many records are waiting; `Retry-After` says for how long.",
    503: "The bundle is still being checked.",
    504: "There was no response in time.",
}


def predict_response(decodings: Mapping[str, Decoding], *, embedding: bool) -> dict[str, Any]:
    """Content of a response of ``/predict``: of every task the properties of its decoding.

    Args:
        embedding: whether the bundle has the fused vector, too.
    """
    properties = {task: decoding.schema for task, decoding in decodings.items()}
    if embedding:
        properties = {EMBEDDING: Embedding.schema} | properties
    missing = {"type": "array", "items": {"type": "string"}, "description": "Inputs that the record did not have."}
    contributions = {"type": "object", "description": "Of each input, with explain=true."}
    tasks = {
        task: {"type": "object", "properties": {**own, "missing": missing, "contributions": contributions}}
        for task, own in properties.items()
    }
    content = {
        "model": {"type": "string"},
        "predictions": {"type": "array", "items": {"type": "object", "properties": tasks}},
    }
    return {"application/json": {"schema": {"type": "object", "properties": content}}}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Error responses of these statuses and of any other, as FastAPI takes them."""
    content = {"application/json": {"schema": _REASON}}
    reasons = {status: _REASONS[status] for status in statuses} | {"default": "Another error."}
    return {status: {"description": reason, "content": content} for status, reason in reasons.items()}


OPEN = error_responses(403)
READINESS: dict[int | str, dict[str, Any]] = OPEN | {503: {"description": "Not ready; `state` says why."}}
GUARDED = error_responses(401, 403)
MODEL = error_responses(401, 403, 404, 503)
PREDICTION = error_responses(*(_REASONS.keys() - {404}))
