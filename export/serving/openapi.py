"""What OpenAPI says of bodies that are read without FastAPI's models, and of refusals."""

from typing import Any

_REASON = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_RECORD = {
    "type": "object",
    "description": "Input -> value: a text, or a file as base64. What is missing is left out, or null.",
    "additionalProperties": {"type": ["string", "null"]},
}
_FORM = {
    "type": "object",
    "description": "One record: a part an input, files with a file name, texts as fields.",
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


def refusals(reasons: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """Status -> why, as FastAPI takes them."""
    content = {"application/json": {"schema": _REASON}}
    return {status: {"description": reason, "content": content} for status, reason in reasons.items()}


ERRORS = refusals(
    {
        400: "The body is not what it should be.",
        401: "The bearer token is missing or wrong.",
        408: "The body was not sent in time.",
        413: "The body, a file or the list of records is too large.",
        415: "The body, or a file in it, is of a kind that is not taken.",
        422: "A record cannot be used; `record` and `input` say which.",
        429: "Too many records are waiting; `Retry-After` says for how long.",
        503: "The bundle is still being checked.",
        504: "There was no answer in time.",
    }
)
