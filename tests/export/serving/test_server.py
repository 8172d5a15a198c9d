"""The command: a process that listens, drains and ends."""

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn
from support.server_process import Running
from support.waiting import wait_until
from uvicorn.server import ServerState

from export import Bundle
from export.serving import protocol
from export.serving.server import GracefulServer, _refuse_new, _uninterrupted, serve
from export.serving.service import Service
from export.serving.settings import Settings


def request(path: str, body: bytes = b"", *, method: str = "POST") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answer(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of one answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        assert piece, "closed without an answer"
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65536)
    return int(lines[0].split()[1]), headers, json.loads(body)


def refuses(running: Running) -> bool:
    """Whether it has stopped listening."""
    try:
        running.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_after_sigterm_what_was_accepted_is_answered_and_the_process_ends_well(running: Running) -> None:
    running.wait_until_ready()
    body = b'{"text": "red round thing"}'
    with running.connect() as slow, running.connect() as next_one:
        slow.sendall(request("/predict", body)[:-5])  # accepted, and not all here
        running.wait_until_waiting(1)
        running.process.send_signal(signal.SIGTERM)

        def drains() -> bool:
            next_one.sendall(request("/v2/health/ready", method="GET"))
            status, headers, content = answer(next_one)
            return (status, headers.get("connection"), content["state"]) == (503, "close", "draining")

        wait_until(drains, "draining")
        wait_until(lambda: refuses(running), "closed to others")
        slow.sendall(body[-5:])
        assert answer(slow)[0] == 200
    _, written = running.process.communicate(timeout=240)
    assert (running.process.returncode, written) == (0, "")
    assert refuses(running)


def test_requests_sent_all_the_time_are_all_answered_when_it_ends(running: Running) -> None:
    running.wait_until_ready()
    statuses: list[int] = []

    def ask() -> None:
        with running.connect() as connection:
            while True:
                connection.sendall(request("/predict", b'{"text": "red"}'))
                status, headers, _ = answer(connection)
                statuses.append(status)
                if headers.get("connection") == "close":
                    return

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(statuses) >= 30, "30 answers")
    code, _ = running.stop()
    for thread in threads:
        thread.join(240)
    assert code == 0
    assert not any(thread.is_alive() for thread in threads)
    assert set(statuses) == {200}
    assert len(statuses) >= 36


@pytest.mark.parametrize("connections", [1, 2, 10, 100, 300])
def test_connections_that_only_the_kernel_has_accepted_are_answered_at_the_end(bundle: Any, connections: int) -> None:
    service = Service(bundle.folder, Settings(timeout_seconds=120))
    server = GracefulServer(service)
    server.should_exit = True  # it ends as soon as it has started
    with ExitStack() as opened:
        sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
        clients = [opened.enter_context(socket.create_connection(sock.getsockname())) for _ in range(connections)]
        for client in clients:
            client.sendall(request("/v2/health/live", method="GET"))
        service.drain()
        server.run(sockets=[sock])
        replies = [answer(client) for client in clients]
    assert {(status, headers["connection"]) for status, headers, _ in replies} == {(200, "close")}


def test_requests_that_begin_or_end_after_it_stopped_listening_are_answered(running: Running) -> None:
    running.wait_until_ready()
    whole = request("/predict", b'{"text": "red"}')
    begun = [b"", b"\r\n", b"P", b"POST /pred", whole[:-20], whole[:-4]]
    with ExitStack() as opened:
        fresh, kept = ([opened.enter_context(running.connect()) for _ in begun] for _ in range(2))
        for connection in kept:
            connection.sendall(whole)
            assert answer(connection)[0] == 200
        cases = [*zip(fresh, begun, strict=True), *zip(kept, begun, strict=True)]
        for connection, before in cases:
            connection.sendall(before)
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(running), "closed to others")
        for connection, before in cases:
            connection.sendall(whole.removeprefix(before))
        replies = [answer(connection) for connection, _ in cases]
    assert {(status, headers["connection"]) for status, headers, _ in replies} == {(200, "close")}
    assert running.process.communicate(timeout=240)[1] == ""


@pytest.mark.skipif(sys.platform != "linux", reason="a filter of Linux")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_socket_that_refuses_new_connections_keeps_those_that_it_has(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as sock:
        address = sock.getsockname()[:2]
        with socket.create_connection(address) as old:
            _refuse_new(sock)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.1)
            accepted, _ = sock.accept()
            with accepted:
                old.sendall(b"x")
                assert accepted.recv(1) == b"x"


def test_a_port_that_is_taken_is_an_error(bundle: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} is not available .*give another --port, or 0"):
            serve(bundle.folder, Settings(port=port))


def test_a_bundle_that_is_damaged_ends_the_command_with_the_reason(copied: Path) -> None:
    (copied / "README.md").write_text("changed")
    command = [sys.executable, "-m", "multimodal", "serve", str(copied), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "README.md has 7 bytes" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_precision_that_the_bundle_lacks_ends_the_command_with_those_that_it_has(bundle: Any) -> None:
    command = [sys.executable, "-m", "multimodal", "serve", str(bundle.folder), "--port", "0", "--precision", "int8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 1
    assert "error: precision is 'int8'; this bundle holds fp32, so give one of them or 'auto'" in done.stderr


def test_a_full_server_refuses_at_once_and_keeps_the_connection(bundle: Any) -> None:
    """A slow request takes the only place; the same connection is answered when it is free again."""
    server = Running(bundle.folder, "--max-queue", "1")
    try:
        server.wait_until_ready()
        body = b'{"text": "red round thing"}'
        with server.connect() as slow, server.connect() as other:
            slow.sendall(request("/predict", body)[:-5])
            server.wait_until_waiting(1)
            for _ in range(3):
                other.sendall(request("/predict", body))
                status, headers, content = answer(other)
                assert (status, headers["retry-after"]) == (429, "1")
                assert content["error"] == "1 records are waiting, and no more are admitted; try again later"
            other.sendall(request("/v2/health/ready", method="GET"))
            assert answer(other)[0] == 200
            slow.sendall(body[-5:])
            assert answer(slow)[0] == 200
            other.sendall(request("/predict", body))
            assert answer(other)[0] == 200
    finally:
        assert server.stop()[0] == 0


def test_an_endless_head_is_cut_off(running: Running) -> None:
    running.wait_until_ready()
    with running.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        try:
            for _ in range(100):
                connection.sendall(b"a" * 4096)
        except (BrokenPipeError, ConnectionResetError):
            pass
        else:
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert protocol.MAX_HEAD_BYTES < 100 * 4096


@pytest.mark.parametrize("size", [60_000, 65_000, 70_000, 120_000, 180_000, 250_000])
@pytest.mark.parametrize("part", ["line", "lines", "address", "trailer"])
def test_a_head_or_trailer_is_bounded_in_one_read_as_in_many(size: int, part: str) -> None:
    """The parser gets it at once, as from a fast network."""
    long = {
        "line": b"GET /v2 HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * size + b"\r\n\r\n",
        "lines": b"GET /v2 HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: aaaaa\r\n" * (size // 10) + b"\r\n",
        "address": b"GET /v2?" + b"a" * size + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "trailer": b"POST /v2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: "
        + b"a" * size
        + b"\r\n\r\n",
    }[part]
    written = received_at_once(long)
    assert written.startswith(b"HTTP/1.1 400") == (size > protocol.MAX_HEAD_BYTES)
    assert (b"more than 65536 bytes" in written) == (size > protocol.MAX_HEAD_BYTES)


def received_at_once(data: bytes) -> bytes:
    """What the protocol writes by itself, before the application has run."""

    async def run() -> bytes:
        transport = Mock(spec=asyncio.Transport)
        transport.is_closing.return_value = False
        transport.get_extra_info.return_value = None
        transport.close.side_effect = lambda: setattr(transport.is_closing, "return_value", True)
        gate = Mock(spec=protocol.Gate)
        gate.refusal.return_value = None

        async def app(scope: object, receive: object, send: object) -> None:
            await asyncio.Event().wait()

        connection = protocol.BoundedProtocol(
            config=uvicorn.Config(app, log_config=None), server_state=ServerState(), app_state={}, gate=gate
        )
        connection.connection_made(transport)
        connection.data_received(data)
        return b"".join(call.args[0] for call in transport.write.call_args_list)

    return asyncio.run(run())


def test_a_slow_upload_holds_back_nobody(bundle: Bundle) -> None:
    """Records wait for those that arrive, here longer than the test may take; a body under way does not arrive."""
    server = Running(bundle.folder, "--max-wait-ms", "1e9", "--timeout", "120", "--threads", "1")
    try:
        server.wait_until_ready()
        body = b'{"text": "red"}'
        form = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        begun = [
            request("/predict", body)[:-1],
            request("/predict", body)[: -len(body)],
            request("/v2/models/fruit/infer", b'{"inputs": []}')[:-1],
            form + b'Content-Length: 99\r\n\r\n--x\r\nContent-Disposition: form-data; name="text"\r\n\r\nre',
            request("/predict").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"1\r\n{\r\n",
        ]
        with ExitStack() as opened:
            for number, beginning in enumerate(begun, start=1):
                opened.enter_context(server.connect()).sendall(beginning)
                server.wait_until_waiting(number)
                with server.connect() as other:
                    other.sendall(request("/predict", body))
                    assert answer(other)[0] == 200
    finally:
        server.stop(signal.SIGKILL)


def test_addresses_that_are_none_take_no_place_in_the_queue(bundle: Any) -> None:
    server = Running(bundle.folder, "--max-queue", "2")
    try:
        server.wait_until_ready()
        for address in ("http:///x", "http://", "http://a:99999999/"):
            with server.connect() as connection:
                connection.sendall(request(address))
                assert connection.recv(100).startswith(b"HTTP/1.1 400")
        with server.connect() as connection:
            connection.sendall(request("/predict", b'{"text": "red"}'))
            assert answer(connection)[0] == 200
    finally:
        assert server.stop()[0] == 0


@pytest.mark.parametrize("line", [b"", b"\r\na: "])
def test_endless_trailers_are_cut_off(running: Running, line: bytes) -> None:
    running.wait_until_ready()
    head = b"POST /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with running.connect() as connection:
        connection.sendall(head + b"1\r\nx\r\n0\r\na: ")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall((line + b"a" * 4096) * 10_000)


def test_a_short_trailer_harms_nothing(running: Running) -> None:
    running.wait_until_ready()
    body = b'{"text": "red"}'
    head = request("/predict").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    with running.connect() as connection:
        connection.sendall(head + b"%x\r\n%b\r\n0\r\nContent-Type: text/plain\r\n\r\n" % (len(body), body))
        assert answer(connection)[0] == 200
        connection.sendall(request("/predict", body))
        assert answer(connection)[0] == 200


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="a scheduler of Linux")
@pytest.mark.parametrize(("before", "changes"), [(0, [3, 0]), (1, []), (5, [])])  # other, real-time, idle; 3 is batch
def test_only_the_ordinary_scheduler_is_changed_and_comes_back(
    before: int, changes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    monkeypatch.setattr(os, "sched_getscheduler", lambda process: before)
    monkeypatch.setattr(os, "sched_setscheduler", lambda process, policy, parameters: found.append(policy))
    with _uninterrupted():
        pass
    assert found == changes


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="a scheduler of Linux")
def test_a_sandbox_may_forbid_to_ask_for_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "sched_getscheduler", forbid)
    with _uninterrupted():
        pass


def test_senders_who_leave_before_their_answer_leave_no_traceback(running: Running) -> None:
    running.wait_until_ready()
    at_once = struct.pack("ii", 1, 0)  # a reset, not an end
    for _ in range(100):
        with running.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            connection.sendall(request("/predict", b'{"text": "red"}') * 4)
    assert running.stop() == (0, "")


def test_what_is_no_http_is_refused(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00hello\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
