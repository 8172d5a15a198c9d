"""The server's log: what operators need is in it, and nothing that a stranger writes at will."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.server_process import Running
from support.waiting import wait_until

from export import Bundle, Predictor
from export.serving.app import create_app
from export.serving.logs import LogFormat, RequestLine, log_shown
from export.serving.service import Service
from export.serving.settings import Settings

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"  # of the examples in https://www.w3.org/TR/trace-context/
LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info request request_id=(?P<request_id>\S+)( trace_id=(?P<trace_id>\S+))? "
    r"peer=(?P<peer>\S+) method=(?P<method>\S+) path=(?P<path>\S+) status=(?P<status>\d+) "
    r"milliseconds=(?P<milliseconds>[\d.]+)"
)


class Streams:
    """Lines that were written since the last look, as ``str.splitlines`` and terminals see them."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured

    def both(self) -> tuple[list[str], list[str]]:
        """Of stdout and of stderr."""
        out, err = self._captured.readouterr()
        return out.splitlines(), err.splitlines()

    def lines(self) -> list[str]:
        """Of stdout; stderr has none."""
        out, err = self.both()
        assert err == []
        return out


@pytest.fixture
def streams(capsys: pytest.CaptureFixture[str]) -> Streams:
    return Streams(capsys)


@pytest.fixture(scope="module")
def service(bundle: Bundle) -> Service:
    return Service(
        bundle.folder,
        Settings(timeout_seconds=120),
        load=lambda folder: Predictor.load(folder, device="cpu", threads=1),
    )


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    client = TestClient(create_app(service), base_url="http://127.0.0.1", client=("192.0.2.7", 4242))
    with client:
        wait_until(lambda: service.state == "ready", "ready")
        yield client


def facts(line: str) -> dict[str, Any]:
    """Of a plain line."""
    match = LINE.fullmatch(line)
    assert match is not None, line
    return {name: value for name, value in match.groupdict().items() if value is not None}


def test_a_line_has_what_operators_ask_for(client: TestClient, streams: Streams) -> None:
    sent = {"x-request-id": "order-7", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    with log_shown():
        client.post("/predict", json={"text": "red"}, headers=sent)
    (line,) = streams.lines()
    found = facts(line)
    assert float(found.pop("milliseconds")) > 0
    assert found == {
        "request_id": "order-7",
        "trace_id": TRACE,
        "peer": "192.0.2.7:4242",
        "method": "POST",
        "path": "/predict",
        "status": "200",
    }


def test_json_has_one_object_a_line(client: TestClient, streams: Streams) -> None:
    with log_shown("json"):
        client.post("/predict", json={"text": "red"}, headers={"x-request-id": "a"})
        client.get("/nothing", headers={"x-request-id": "b"})
        logging.getLogger("export.serving").warning("two\nlines \x1b[2J %s", "\u2028")
    out, err = streams.both()
    first, second = map(json.loads, out)
    assert (
        first.keys()
        == second.keys()
        == {
            *("time", "level", "logger", "message"),
            *("request_id", "peer", "method", "path", "status", "milliseconds"),
        }
    )
    assert [(line["request_id"], line["path"], line["status"]) for line in (first, second)] == [
        ("a", "/predict", 200),
        ("b", "/nothing", 404),
    ]
    (warning,) = map(json.loads, err)
    assert (warning["level"], warning["message"]) == ("warning", "two\nlines \x1b[2J \u2028")


@pytest.mark.parametrize(
    "given", ["7", "order-7", "4b1ce68d-5a2a-4a64-9d3b-5b2c2a3a1f00", "1-67891233-abc:Root=1/+_.@", "a" * 128]
)
def test_a_request_id_is_taken_and_given_back(given: str, client: TestClient, streams: Streams) -> None:
    with log_shown():
        reply = client.get("/model", headers={"x-request-id": given})
    assert reply.headers["x-request-id"] == facts(streams.lines()[0])["request_id"] == given


HOSTILE_IDS = [
    b"",
    b" ",
    b"a" * 129,
    b"a" * 60_000,
    b"a b",
    b"x status=200",
    b"a\tb",
    b"\x1b[2J",
    b"\xff\xfe",
    "ü".encode(),
    b'"},{"level":"info"',
    b"a\nb",
    b"a\r\nset-cookie: b",
    b"a\x00",
    b"%0a",
    b"$(id)",
]


@pytest.mark.parametrize("given", HOSTILE_IDS)
def test_what_is_no_request_id_is_replaced(given: bytes, client: TestClient, streams: Streams) -> None:
    with log_shown():
        reply = client.get("/model", headers={"x-request-id": given})
    (line,) = streams.lines()
    assert reply.headers["x-request-id"] == facts(line)["request_id"]
    assert re.fullmatch("[0-9a-f]{32}", facts(line)["request_id"])


def test_every_response_has_an_id_of_its_own(client: TestClient) -> None:
    paths = ["/", "/model", "/nothing", "/v2/health/live", "/metrics", "/predict"]
    ids = [client.get(path).headers["x-request-id"] for path in paths]
    assert len(set(ids)) == len(paths)


PARENT = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("sent", "trace"),
    [
        (f"00-{TRACE}-{PARENT}-00", TRACE),
        (f"00-{TRACE}-{PARENT}-01", TRACE),
        (f"cc-{TRACE}-{PARENT}-01", TRACE),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-brings", TRACE),
        (f"00-{TRACE}-{PARENT}-01-more", None),  # version 00 ends with its flags
        (f"00-{TRACE}-{PARENT}-01x", None),
        (f"cc-{TRACE}-{PARENT}-01.more", None),
        (f"ff-{TRACE}-{PARENT}-01", None),
        (f"00-{TRACE.upper()}-{PARENT}-01", None),
        (f"00-{'0' * 32}-{PARENT}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE[:-1]}-{PARENT}-01", None),
        (f"00-{TRACE}a-{PARENT}-01", None),
        (f"00-{TRACE}-{PARENT}", None),
        ("", None),
        ("a" * 60_000, None),
    ],
)
def test_a_trace_is_taken_as_the_standard_has_it(
    sent: str, trace: str | None, client: TestClient, streams: Streams
) -> None:
    with log_shown():
        client.get("/model", headers={"traceparent": sent})
    assert facts(streams.lines()[0]).get("trace_id") == trace


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/predict?token=secret&explain=true", "/predict"),
        ("/a%0Ab%0D%1b[2J", "/a%0Ab%0D%1b[2J"),
        ("/x%20status=200", "/x%20status=200"),
        ("/%E2%80%AEevil", "/%E2%80%AEevil"),
        ("/" + "a" * 5_000, "/" + "a" * 199 + "..."),
        ("/v2/models/%00/infer?%0a", "/v2/models/%00/infer"),
        ('/","status":200}', None),
    ],
)
@pytest.mark.parametrize("form", ["plain", "json"])
def test_a_path_stays_within_its_line(
    path: str, shown: str | None, form: LogFormat, client: TestClient, streams: Streams
) -> None:
    with log_shown(form):
        status = client.get(path).status_code
    (line,) = streams.lines()
    found = facts(line) if form == "plain" else json.loads(line)
    assert int(found["status"]) == status != 200
    assert "secret" not in line
    assert len(line) < 700
    if shown is not None:
        assert found["path"] == shown


@pytest.mark.parametrize(
    "raw", [b"/a\nb", b"/a b", b"/\x1b]0;t\x07", b"/\xff\x80", "/\u202e\u2028".encode(), b"/\x00" * 5_000, b""]
)
@pytest.mark.parametrize("method", ["GET", "GE\nT", "G T", "\x1b[2J", "A" * 999, "\u2028"])
def test_what_another_server_lets_through_is_escaped_too(raw: bytes, method: str) -> None:
    scope = {"type": "http", "method": method, "path": "/", "raw_path": raw, "headers": [], "client": ("::1", 80)}
    line = RequestLine.of(scope)
    for text, most in ((line.path, 4 * 200 + 3), (line.method, 6 * 10 + 3)):
        assert text.isprintable()
        assert " " not in text
        assert len(text) <= most
    assert line.peer == "[::1]:80"


@pytest.mark.parametrize(
    "message",
    [
        "a\n2026-12-01T00:00:00.000Z info request request_id=forged",
        "a\r\nb",
        "\x1b[2J\x07",
        "\u2028\u202e\x85\x0b\x0c",
        "\ud800",
        "a" * 100_000 + "\nend",
    ],
)
@pytest.mark.parametrize("form", ["plain", "json"])
def test_an_error_stays_within_its_lines(
    message: str, form: LogFormat, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])  # those of pytest: xdist cannot send a lone surrogate
    with log_shown(form):
        try:
            raise ValueError(message)
        except ValueError:
            logging.getLogger("export.serving").exception("it said %s", message)
    first, *others = streams.both()[1]
    assert len(first) + sum(map(len, others)) < 20_000
    if form == "plain":
        assert first[24:].startswith(" error it said ")
        assert others
        assert all(line.startswith("    ") and line.isprintable() for line in others)
        assert others[-1].endswith(message[-3:].encode("unicode_escape").decode().rpartition("\\n")[2][-3:])
    else:
        assert others == []
        assert json.loads(first)["traceback"].endswith(message[-20:])


def test_what_is_asked_all_the_time_is_logged_only_if_it_fails(
    client: TestClient, service: Service, streams: Streams
) -> None:
    with log_shown():
        for path in ("/v2/health/live", "/v2/health/ready", "/metrics"):
            assert client.get(path).status_code == 200
        assert streams.lines() == []
        service.state = "draining"
        client.get("/v2/health/ready")
        service.state = "ready"
        assert facts(streams.lines()[0])["status"] == "503"
        client.get("/v2/health/ready/")
        assert facts(streams.lines()[0])["status"] == "404"


def test_a_failure_has_the_id_that_its_response_has(
    client: TestClient, service: Service, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service._predictor, "outputs", lambda samples: 1 / 0)
    with log_shown("json"):
        reply = client.post("/predict", json={"text": "red"})
    assert (reply.status_code, reply.json()) == (500, {"error": "this server failed; its log says why"})
    (line,), (error,) = (map(json.loads, lines) for lines in streams.both())
    assert line["request_id"] == error["request_id"] == reply.headers["x-request-id"]
    assert (line["status"], error["level"]) == (500, "error")
    assert error["traceback"].endswith("ZeroDivisionError: division by zero")


def test_the_log_leaves_logging_as_it_was(client: TestClient, streams: Streams) -> None:
    loggers = [logging.root, logging.getLogger("export.serving"), logging.getLogger("export.serving.logs.access")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    with log_shown(access=False):
        client.get("/model")
    assert [(logger.level, list(logger.handlers)) for logger in loggers] == before
    client.get("/model")
    assert streams.lines() == []


def ask(running: Running) -> None:
    with closing(HTTPConnection("127.0.0.1", running.port, timeout=240)) as connection:
        connection.request("GET", "/model", headers={"X-Request-ID": "seven"})
        assert connection.getresponse().status == 200


def test_the_command_writes_json_only(bundle: Bundle) -> None:
    running = Running(bundle.folder, "--threads", "1", "--log-format", "json", "--access-log")
    running.wait_until_ready()
    ask(running)
    running.process.terminate()
    out, err = running.process.communicate(timeout=240)
    lines = [json.loads(line) for line in (running.line, *out.splitlines())]
    assert lines[0]["message"] == f"http://127.0.0.1:{running.port} (ready when the bundle has been checked)"
    (checked,) = (line for line in lines if line["message"] == "the bundle is checked")
    assert (checked["name"], checked["device"], checked["precision"]) == ("fruit", "cpu", "fp32")
    assert [line["path"] for line in lines if line.get("request_id") == "seven"] == ["/model"]
    assert err == ""


def test_the_command_logs_no_requests_if_told(bundle: Bundle) -> None:
    running = Running(bundle.folder, "--threads", "1", "--no-access-log")
    running.wait_until_ready()
    ask(running)
    running.process.terminate()
    (line,) = running.process.communicate(timeout=240)[0].splitlines()
    assert " info the bundle is checked name=fruit sha256=" in line


def test_the_server_goes_on_when_nobody_reads_its_log(bundle: Bundle) -> None:
    running = Running(bundle.folder, "--threads", "1", "--access-log")
    running.wait_until_ready()
    assert running.process.stdout is not None
    running.process.stdout.close()
    for _ in range(3):
        ask(running)
    running.process.terminate()
    assert running.process.stderr is not None
    with running.process.stderr as stream:
        stream.read()
    assert running.process.wait(240) in (0, 120)  # 120: Python could not write the end of its stdout
