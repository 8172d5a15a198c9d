"""Middleware of every request: authentication, counts, a line in the log, and errors as JSON."""

import hmac
import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from export.serving.hosts import check_host, check_origin
from export.serving.logs import RequestLine
from export.serving.responses import RequestError, refusal
from export.serving.service import Service

OPEN_ROUTES = ("/", "/v2/health/live", "/v2/health/ready")
"""Routes without a token: they reveal nothing of the model."""
ROUTES = (*OPEN_ROUTES, "/predict", "/metrics", "/openapi.json", "/model", "/v2")
FAILURE = RequestError(500, "this server failed; its log says why")
"""Response to an internal error, without its details."""
_CLOSE = (b"connection", b"close")

logger = logging.getLogger(__name__)


class RequestGuard:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self.service = service
        token = service.settings.token
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, line = time.perf_counter(), 500, RequestLine.of(scope)
        request_id = (b"x-request-id", line.request_id.encode())

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                leaves = self.service.state in ("draining", "failed")  # the peer connects elsewhere next
                message["headers"] = [*message.get("headers", ()), request_id, *([_CLOSE] if leaves else ())]
            await send(message)

        try:
            self._check(scope)
            asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope  # whose body uvicorn leaves out
            await self.app(asked, receive, counted)
        except RequestError as error:
            await refusal(error)(scope, receive, counted)
        except Exception:  # FastAPI has answered with FAILURE, and hands it on
            logger.exception("a request failed", extra=line.fields())
        finally:
            route, seconds = route_of(scope["path"]), time.perf_counter() - start
            self.service.metrics.requests.labels(route, status).inc()
            self.service.metrics.seconds.labels(route).observe(seconds)
            line.log(status, seconds)

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        host, origin, fetch_site = (
            headers.get(name, b"").decode("latin-1") for name in (b"host", b"origin", b"sec-fetch-site")
        )
        settings = self.service.settings
        check_host(host, settings.allowed_hosts)
        check_origin(origin, host, fetch_site, settings.hosts)
        if self._token is None or scope["path"] in OPEN_ROUTES:
            return
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if not hmac.compare_digest(token.strip(), self._token) or scheme.lower() != b"bearer":
            raise RequestError(401, "the bearer token is missing or wrong; send the header Authorization: Bearer TOKEN")


def route_of(path: str) -> str:
    """Route in the metrics, from a closed list.

    >>> route_of("/predict"), route_of("/v2/models/fruit/infer"), route_of("/x")
    ('/predict', '/v2/models', 'other')
    """
    if path in ROUTES:
        return path
    return "/v2/models" if path.startswith("/v2/models/") else "other"
