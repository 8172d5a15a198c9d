"""A server of the small bundle, in this process and in one of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from export import Bundle
from export.serving.app import create_app
from export.serving.service import Service
from export.serving.settings import Settings


def start(folder: Path, settings: Settings | None = None) -> tuple[TestClient, Service]:
    """A client of a server that is not started yet."""
    service = Service(folder, Settings() if settings is None else settings)
    return TestClient(create_app(service), base_url="http://127.0.0.1"), service


def wait_until_ready(client: TestClient) -> None:
    """Until the golden records have passed."""
    end = time.monotonic() + 60
    while client.get("/v2/health/ready").status_code != 200:
        assert time.monotonic() < end, "not ready within 60 s"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def client(bundle: Bundle) -> Iterator[TestClient]:
    """Of a server that is ready."""
    client, _ = start(bundle.folder)
    with client:
        wait_until_ready(client)
        yield client


class Running:
    """A server in a process of its own."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        command = [sys.executable, "-m", "multimodal", "serve", str(folder), "--port", "0", *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        self.port = int(self.line.partition(" ")[0].rpartition(":")[2])

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def wait_until_ready(self) -> None:
        """Until the golden records have passed."""
        for _ in range(1200):
            with self.connect() as connection:
                connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                if connection.recv(100).startswith(b"HTTP/1.1 200"):
                    return
            time.sleep(0.05)
        raise AssertionError("not ready within 60 s")

    def stop(self, how: int = signal.SIGTERM) -> tuple[int, str]:
        """Its exit status and what it wrote to stderr."""
        self.process.send_signal(how)
        _, written = self.process.communicate(timeout=60)
        return self.process.returncode, written


@pytest.fixture
def running(bundle: Bundle) -> Iterator[Running]:
    """The small bundle's, on a free port."""
    server = Running(bundle.folder)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()
