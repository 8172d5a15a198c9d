"""Predictions as JSON, and answers of the server in it."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from multimodal.decoding import EMBEDDING, Decoding, Destandardize, Prediction, Sigmoid, Softmax


def answer_json(
    prediction: Mapping[str, Prediction], decodings: Mapping[str, Decoding], *, embedding: bool = False
) -> dict[str, dict[str, Any]]:
    """One record's answers: task -> what applies to its type.

    Args:
        embedding: whether vectors are part of it.

    >>> answer_json({"price": Prediction(value=2.0)}, {"price": Destandardize(0.0, 1.0, "EUR")})
    {'price': {'value': 2.0, 'unit': 'EUR', 'missing': []}}
    """
    answers = {task: _task_json(prediction[task], decoding) for task, decoding in decodings.items()}
    if EMBEDDING in prediction and EMBEDDING not in decodings:
        answers[EMBEDDING] = _vector(prediction[EMBEDDING])
    return answers if embedding else {task: answer for task, answer in answers.items() if EMBEDDING not in answer}


def _task_json(prediction: Prediction, decoding: Decoding) -> dict[str, Any]:
    missing = list(prediction.missing)
    sure = {"probability": prediction.probability, "probabilities": prediction.probabilities, "missing": missing}
    if isinstance(decoding, Softmax):
        return {"label": prediction.label, **sure}
    if isinstance(decoding, Sigmoid):
        return {"labels": list(prediction.labels), **sure}
    if isinstance(decoding, Destandardize):
        return {"value": prediction.value, "unit": decoding.unit, "missing": missing}
    return _vector(prediction)


def _vector(prediction: Prediction) -> dict[str, Any]:
    assert prediction.embedding is not None
    return {EMBEDDING: prediction.embedding.tolist(), "missing": list(prediction.missing)}


def to_bytes(content: Any) -> bytes:
    """JSON in ASCII: what was sent may hold halves of surrogate pairs, which no UTF-8 can."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """What is sent."""
    return Response(to_bytes(content), status, headers, "application/json")
