"""A server of the small bundle, in this process and in one of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from support.server_process import Running
from support.waiting import wait_until

from export import Bundle
from export.serving.app import create_app
from export.serving.service import Service
from export.serving.settings import Settings


def start(folder: Path, settings: Settings | None = None) -> tuple[TestClient, Service]:
    """A client of a server that is not started yet."""
    service = Service(folder, Settings() if settings is None else settings)
    return TestClient(create_app(service), base_url="http://127.0.0.1"), service


@pytest.fixture(scope="session")
def client(bundle: Bundle) -> Iterator[TestClient]:
    """Of a server that is ready."""
    client, _ = start(bundle.folder, Settings(timeout_seconds=120))
    with client:
        wait_until(lambda: client.get("/v2/health/ready").status_code == 200, "ready")
        yield client


@pytest.fixture
def running(bundle: Bundle) -> Iterator[Running]:
    """The small bundle's, on a free port."""
    server = Running(bundle.folder, "--timeout", "120", "--threads", "1")
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()
