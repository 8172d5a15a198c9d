"""Responses of the server: predictions as JSON, and why a request is rejected."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from multimodal.decoding import EMBEDDING, Decoding, Embedding, Prediction

MAX_REASON = 600
"""Characters; a reason may quote what was sent."""


class RequestError(Exception):
    """A rejected request; the reason is for its sender.

    >>> RequestError(413, "too large").content()
    {'error': 'too large'}
    """

    def __init__(
        self,
        status: int,
        reason: str,
        *,
        record: int | None = None,
        input: str | None = None,
        retry_after: int | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason if len(reason) <= MAX_REASON else reason[:MAX_REASON] + "..."
        self.record = record
        """Counts from 0."""
        self.input = input
        self.retry_after = retry_after
        """Seconds."""
        self.allow = allow
        """Methods that the address takes."""

    def content(self) -> dict[str, Any]:
        """Body of the response."""
        place = {"record": self.record, "input": self.input}
        return {"error": self.reason} | {key: value for key, value in place.items() if value is not None}


def prediction_json(
    predictions: Mapping[str, Prediction], decodings: Mapping[str, Decoding], *, embedding: bool = False
) -> dict[str, dict[str, Any]]:
    """Predictions of one record: task -> the fields of its type.

    Args:
        embedding: includes vectors.

    >>> from multimodal.decoding import Destandardize
    >>> prediction_json({"price": Prediction(value=2.0)}, {"price": Destandardize(0.0, 1.0, "EUR")})
    {'price': {'value': 2.0, 'unit': 'EUR', 'missing': []}}
    """
    found = {task: _task_json(predictions[task], decoding) for task, decoding in decodings.items()}
    if EMBEDDING in predictions and EMBEDDING not in decodings:
        found[EMBEDDING] = _task_json(predictions[EMBEDDING], Embedding())
    return found if embedding else {task: content for task, content in found.items() if EMBEDDING not in content}


def _task_json(prediction: Prediction, decoding: Decoding) -> dict[str, Any]:
    return {**decoding.response(prediction), "missing": list(prediction.missing)}


def to_bytes(content: Any) -> bytes:
    """JSON in ASCII: a request may hold halves of surrogate pairs, which UTF-8 cannot encode."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Response with this JSON as its body."""
    return Response(to_bytes(content), status, headers, "application/json")


def refusal(error: RequestError) -> Response:
    """Response to a rejected request."""
    headers = {
        "retry-after": None if error.retry_after is None else str(error.retry_after),
        "www-authenticate": "Bearer" if error.status == 401 else None,
        "allow": error.allow,
    }
    given = {name: value for name, value in headers.items() if value is not None}
    return json_response(error.content(), error.status, given)
