"""A server in a process of its own, for tests."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from support.waiting import wait_until


class Running:
    """A server in a process of its own, which logs no requests unless told: nobody reads its stdout until it ends."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        command = [
            sys.executable,
            "-m",
            "multimodal",
            "serve",
            str(folder),
            "--port",
            "0",
            "--no-access-log",
            *arguments,
        ]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:(\d+) ", self.line)
        assert address is not None, self.line
        self.port = int(address[1])

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=240)

    def wait_until_ready(self) -> None:
        """Until the golden records have passed."""

        def is_ready() -> bool:
            with self.connect() as connection:
                connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                return connection.recv(100).startswith(b"HTTP/1.1 200")

        wait_until(is_ready, "ready", seconds=120, every=0.05)

    def wait_until_waiting(self, records: int) -> None:
        """Until so many records have a place in the queue."""

        def are_waiting() -> bool:
            with self.connect() as connection:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                with connection.makefile("rb") as reply:
                    return b"multimodal_queue_records %.1f\n" % records in reply.read()

        wait_until(are_waiting, f"{records} records in the queue")

    def stop(self, how: int = signal.SIGTERM) -> tuple[int, str]:
        """Its exit status and what it wrote to stderr."""
        self.process.send_signal(how)
        _, written = self.process.communicate(timeout=240)
        return self.process.returncode, written
