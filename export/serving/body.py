"""Body of a request, within limits: bytes, and strict JSON."""

import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import ClientDisconnect, Request

from export.serving.responses import RequestError


def announced_bytes(request: Request, limit: int) -> int:
    """Size of the body by its header, before it is read; the limit if there is none.

    Raises:
        RequestError: 413 above the limit; 400 for an invalid size; 415 for a compressed body.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise RequestError(415, f"the body is encoded as {encoding!r}; send it as it is")
    length = request.headers.get("content-length")
    if length is None:
        return limit
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        raise RequestError(400, f"the Content-Length is {length!r}; give a number of bytes")
    if int(length) > limit:
        raise _too_large(limit)
    return int(length)


async def stream_body(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """Body in pieces.

    Raises:
        RequestError: 413 as soon as it is longer than the limit; 400 if the client disconnects.
    """
    read = 0
    try:
        async for piece in request.stream():
            read += len(piece)
            if read > limit:
                raise _too_large(limit)
            yield piece
    except ClientDisconnect as error:
        raise RequestError(400, "the connection ended before the body did; send it again") from error


async def read_body(request: Request, limit: int) -> bytes:
    """Whole body; raises as ``stream_body``."""
    body = bytearray()
    async for piece in stream_body(request, limit):
        body += piece
    return bytes(body)


def parse_json(body: bytes, max_values: int) -> Any:
    """Content of JSON in UTF-8, with or without its byte order mark, without NaN and without duplicate keys.

    >>> parse_json(b'{"text": "red"}', 10)
    {'text': 'red'}

    Raises:
        RequestError: 400 if it is not that; 413 if it may hold more than ``max_values`` values.
    """
    # every value but the first follows one of these; commas inside texts count too, which only rejects earlier
    if len(body) > max_values and sum(map(body.count, (b",", b"[", b"{"))) > max_values:
        raise RequestError(413, f"the JSON holds more than {max_values} values; send fewer a request")
    try:
        return json.loads(body.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise RequestError(
            400, f"the body is not UTF-8 ({error.reason} at byte {error.start}); encode it so"
        ) from error
    except RecursionError as error:
        raise RequestError(400, "the JSON is nested too deeply; a record is an object of values") from error
    except ValueError as error:
        raise RequestError(400, f"the body is not JSON ({error}); correct it") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1) if len(keys) <= 100 else keys[0]
        raise RequestError(400, f"the JSON has a key twice, near {twice[:40]!r}; give each key once")
    return content


def _refuse_constant(name: str) -> Any:
    raise RequestError(400, f"the JSON holds {name}, which is no JSON; leave out what is missing, or send null")


def _too_large(limit: int) -> RequestError:
    return RequestError(413, f"the body has more than {limit / 1e6:g} MB, the limit of this server; send less at once")
