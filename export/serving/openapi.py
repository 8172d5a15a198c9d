"""OpenAPI of bodies that are read without FastAPI's models, and of error responses."""

from typing import Any

_REASON = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_RECORD = {
    "type": "object",
    "description": "Input -> value: a text, or a file as base64. A missing input is left out, or null.",
    "additionalProperties": {"type": ["string", "null"]},
}
_FORM = {
    "type": "object",
    "description": "One record: one part per input, files with a file name, texts as fields.",
    "additionalProperties": {"type": "string"},
}

PREDICT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"oneOf": [_RECORD, {"type": "array", "items": _RECORD}]}},
            "multipart/form-data": {"schema": _FORM},
        },
    }
}


def error_responses(reasons: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """Responses by status, as FastAPI takes them."""
    content = {"application/json": {"schema": _REASON}}
    return {status: {"description": reason, "content": content} for status, reason in reasons.items()}


ERRORS = error_responses(
    {
        400: "The body is invalid.",
        401: "The bearer token is missing or wrong.",
        408: "The body was not sent in time.",
        413: "The body, a file or the list of records is too large.",
        415: "The body, or a file in it, is of an unsupported type.",
        422: "A record cannot be used; `record` and `input` say which.",
        429: "Too many records are waiting; `Retry-After` says for how long.",
        503: "The bundle is still being checked.",
        504: "There was no response in time.",
    }
)
