"""Log of the server: a line per request, plain or as JSON. What a stranger sent is escaped and cut."""

import json
import logging
import re
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from starlette.types import Scope

LogFormat = Literal["plain", "json"]
access_logger = logging.getLogger(f"{__name__}.access")

_MAX_PATH, _MAX_METHOD = 200, 10
_MAX_TEXT = 8_000  # characters of a message or of a traceback
_ASKED_ALL_THE_TIME = ("/v2/health/live", "/v2/health/ready", "/metrics")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}")
_TRACEPARENT = re.compile(  # version 00 ends there, later ones may be longer
    rb"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.DOTALL
)


@dataclass(frozen=True)
class RequestLine:
    """Facts of a request in the log, of which none can break a line or fill a disk."""

    request_id: str
    trace_id: str | None
    peer: str
    method: str
    path: str
    """As it was sent, without its query, which may hold what is private."""

    @classmethod
    def of(cls, scope: Scope) -> "RequestLine":
        """Facts of an ASGI request.

        Its ``X-Request-ID`` is taken if it is one, else one is drawn; the trace is that of ``traceparent``
        (https://www.w3.org/TR/trace-context/).
        """
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        trace = _TRACEPARENT.fullmatch(headers.get(b"traceparent", b""))
        path = scope.get("raw_path") or scope["path"].encode()
        host, port = scope.get("client") or ("-", 0)
        return cls(
            request_id=given.decode() if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16),
            trace_id=trace[1].decode() if trace is not None else None,
            peer=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            method=_word(scope["method"], _MAX_METHOD),
            path=_word(path.decode("utf-8", "backslashreplace"), _MAX_PATH),
        )

    def fields(self, **more: Any) -> dict[str, Any]:
        """Facts for ``extra`` of a log call."""
        return {"fields": {name: value for name, value in (asdict(self) | more).items() if value is not None}}

    def log(self, status: int, seconds: float) -> None:
        """Logs the response, unless it is a success that probes and Prometheus ask for all the time."""
        if access_logger.isEnabledFor(logging.INFO) and not (status == 200 and self.path in _ASKED_ALL_THE_TIME):
            access_logger.info("request", extra=self.fields(status=status, milliseconds=round(1000 * seconds, 1)))


@contextmanager
def log_shown(form: LogFormat = "plain", *, access: bool = True) -> Iterator[None]:
    """Writes the log inside the block: progress and requests to stdout, warnings and errors to stderr.

    Args:
        access: includes a line per request.
    """
    handler = _Handler()
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.startswith("export.serving"))
    handler.setFormatter(_Json() if form == "json" else _Plain())
    levels = {logging.getLogger("export.serving"): logging.INFO}
    levels[access_logger] = logging.INFO if access else logging.WARNING
    before = {logger: logger.level for logger in levels}
    for logger, level in levels.items():
        logger.setLevel(level)
    logging.root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        logging.root.removeHandler(handler)
        for logger, level in before.items():
            logger.setLevel(level)


class _Handler(logging.Handler):
    """A full disk, or a reader who has gone, ends no server."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stdout if record.levelno < logging.WARNING else sys.stderr
        with suppress(OSError):
            stream.write(self.format(record) + "\n")
            stream.flush()


class _Plain(logging.Formatter):
    """Time, level, message, and facts as ``name=value``; further lines are indented, so that none seems a first."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a record."""
        facts = "".join(f" {name}={_word(str(value), _MAX_TEXT)}" for name, value in _fields(record).items())
        lines = [line for text in _texts(record) for line in _cut(text, _MAX_TEXT).split("\n")]
        first, *rest = map(_escaped, lines)
        return "\n    ".join([f"{_time(record)} {record.levelname.lower()} {first}{facts}", *rest])


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        message, *traceback = (_cut(text, _MAX_TEXT) for text in _texts(record))
        content = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name, "message": message}
        found = {"traceback": traceback[0]} if traceback else {}
        return json.dumps({**content, **_fields(record), **found})


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    return getattr(record, "fields", {})


def _texts(record: logging.LogRecord) -> list[str]:
    """Its message and, if it has one, its traceback."""
    error = record.exc_info
    return [record.getMessage(), *([logging.Formatter().formatException(error)] if error and error[0] else [])]


def _cut(text: str, most: int) -> str:
    """A long text without its middle: a traceback ends with its error."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def _word(text: str, most: int) -> str:
    r"""A text without white space or control characters, cut.

    >>> _word("a b\n", 10), _word("abcdef", 3)
    ('a\\x20b\\n', 'abc...')
    """
    return _escaped(text if len(text) <= most else f"{text[:most]}...").replace(" ", r"\x20")


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
