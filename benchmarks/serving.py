"""What serving costs, and what it bears: server and load on one core each, on this machine alone.

    multimodal demo --out build/demo
    python benchmarks/serving.py build/demo/bundle --image build/demo/data/images/FILE [--soak 1200] [--out FILE.json]

Each part ends by itself. The load comes from raw sockets in one event loop, so that it costs little beside what is
measured; every number of connections, requests and seconds is bounded. Run it on an idle machine.
"""

import argparse
import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HOST = "127.0.0.1"
WARM_UP, ALONE, CONCURRENCY = 30, 300, 32


@dataclass
class Outcome:
    """What came back."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """Of the requests that were answered with 200."""
    done_at: list[float] = field(default_factory=list)
    """When they were, on the monotonic clock."""


class Connection:
    """One connection; a request at a time."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes, bool]:
        """Status, body, and whether the server will close."""
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection(HOST, self.port, limit=2**22)
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        closes = b"connection: close" in head
        if closes:
            self.close()
        return int(head[9:12]), body, closes

    def close(self) -> None:
        """Ends it."""
        if self.reader is not None:
            self.writer.close()
            self.reader = None


def post(record: dict[str, str]) -> bytes:
    """The bytes of a request."""
    body = json.dumps(record).encode()
    head = (
        f"POST /predict HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    return f"{head}\r\n".encode() + body


@contextmanager
def server(bundle: Path, core: int, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server on one core, ready."""
    command = [sys.executable, "-m", "multimodal", "serve", str(bundle), "--port", "0", "--device", "cpu"]
    command += ["--no-access-log", *arguments]  # nobody reads its stdout
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {core})
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().partition(" ")[0].rpartition(":")[2])
        asyncio.run(_until_ready(port))
        yield process, port
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


async def _until_ready(port: int) -> None:
    request = f"GET /v2/health/ready HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    for _ in range(600):
        connection = Connection(port)
        status, _, _ = await connection.ask(request)
        connection.close()
        if status == 200:
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("the server is not ready within 60 s")


async def closed_loop(port: int, requests: list[bytes], concurrency: int, seconds: float) -> Outcome:
    """So many clients, each asking again as soon as it is answered."""
    outcome, end = Outcome(), time.monotonic() + seconds

    async def client(number: int) -> None:
        connection, index = Connection(port), number
        while time.monotonic() < end:
            start = time.perf_counter()
            try:
                status, _, closes = await connection.ask(requests[index % len(requests)])
            except (OSError, asyncio.IncompleteReadError) as error:
                outcome.statuses[type(error).__name__] += 1
                return
            _note(outcome, status, start)
            index += concurrency
            if closes:
                return
        connection.close()

    await asyncio.gather(*(client(number) for number in range(concurrency)))
    return outcome


async def open_loop(port: int, requests: list[bytes], rate: float, seconds: float, connections: int) -> Outcome:
    """So many requests a second, whatever becomes of them; one is left out where all connections are busy."""
    outcome, idle = Outcome(), [Connection(port) for _ in range(connections)]
    start, tasks = time.monotonic(), set()

    async def one(connection: Connection, request: bytes) -> None:
        begin = time.perf_counter()
        try:
            status, _, _ = await asyncio.wait_for(connection.ask(request), 20)
            _note(outcome, status, begin)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            outcome.statuses[type(error).__name__] += 1
            connection.close()
        idle.append(connection)

    for index in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, start + index / rate - time.monotonic()))
        if not idle:
            outcome.statuses["no connection free"] += 1
            continue
        task = asyncio.create_task(one(idle.pop(), requests[index % len(requests)]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for connection in idle:
        connection.close()
    return outcome


def _note(outcome: Outcome, status: int, start: float) -> None:
    outcome.statuses[str(status)] += 1
    if status == 200:
        outcome.seconds.append(time.perf_counter() - start)
        outcome.done_at.append(time.monotonic())


# --- the parts ---------------------------------------------------------------------------------------------------


def alone(bundle: Path, records: list[dict[str, Any]], requests: list[bytes], cores: tuple[int, int]) -> dict[str, Any]:
    """Latency of one client, beside that of a Predictor called directly, on the same core."""
    direct = json.loads(
        subprocess.run(
            [sys.executable, __file__, "--direct", str(bundle)],
            input=json.dumps(records), capture_output=True, text=True, check=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {cores[0]}),
        ).stdout
    )  # fmt: skip
    with server(bundle, cores[0]) as (_, port):
        asyncio.run(closed_loop(port, requests, 1, 2))
        outcome = asyncio.run(closed_loop(port, requests, 1, 10))
    served = 1000 * np.percentile(outcome.seconds, [50, 95])
    return {
        "direct p50 ms": direct,
        "served p50 ms": served[0],
        "served p95 ms": served[1],
        "over ms": served[0] - direct,
    }


def measure_directly(bundle: str) -> float:
    """Median milliseconds of ``Predictor.predict`` of one record, files as bytes."""
    from export import Predictor

    records = [{name: _raw(name, value) for name, value in record.items()} for record in json.load(sys.stdin)]
    predictor = Predictor.load(bundle, device="cpu")
    seconds = []
    for index in range(WARM_UP + ALONE):
        start = time.perf_counter()
        predictor.predict([records[index % len(records)]])
        seconds.append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds[WARM_UP:]))


def _raw(name: str, value: str) -> Any:
    return base64.b64decode(value.removeprefix("base64:")) if value.startswith("base64:") else value


def throughput(bundle: Path, requests: list[bytes], cores: tuple[int, int], *arguments: str) -> float:
    """Answers a second at concurrency 32."""
    with server(bundle, cores[0], *arguments) as (_, port):
        asyncio.run(closed_loop(port, requests, CONCURRENCY, 2))
        outcome = asyncio.run(closed_loop(port, requests, CONCURRENCY, 10))
    assert set(outcome.statuses) == {"200"}, outcome.statuses
    return len(outcome.seconds) / 10


def overload(bundle: Path, requests: list[bytes], cores: tuple[int, int]) -> dict[str, Any]:
    """Three times the requests that can be answered, then few: what is refused, what is answered, what remains.

    The peak is what the same server answers at concurrency 32, right before and right after.
    """
    with server(bundle, cores[0], "--max-queue", "64") as (_, port):
        asyncio.run(closed_loop(port, requests, CONCURRENCY, 2))
        before = len(asyncio.run(closed_loop(port, requests, CONCURRENCY, 5)).seconds) / 5
        start = time.monotonic()
        outcome = asyncio.run(open_loop(port, requests, 3 * before, 10, 400))
        good = len(outcome.seconds) / (time.monotonic() - start)
        after = asyncio.run(open_loop(port, requests, max(1.0, before / 10), 5, 20))
        peak = (before + len(asyncio.run(closed_loop(port, requests, CONCURRENCY, 5)).seconds) / 5) / 2
    return {
        "statuses": dict(outcome.statuses),
        "answered a second": good,
        "peak": peak,
        "of peak": good / peak,
        "slowest answer s": max(outcome.seconds),
        "after": dict(after.statuses),
        "after p95 ms": 1000 * float(np.percentile(after.seconds, 95)),
    }


def stopped(bundle: Path, requests: list[bytes], cores: tuple[int, int]) -> dict[str, Any]:
    """SIGTERM under load: how every request ended that was sent."""
    with server(bundle, cores[0]) as (process, port):

        async def run() -> Outcome:
            load = asyncio.create_task(closed_loop(port, requests, CONCURRENCY, 8))
            await asyncio.sleep(3)
            process.send_signal(signal.SIGTERM)
            return await load

        outcome = asyncio.run(run())
        status = process.wait(timeout=60)
    return {"statuses": dict(outcome.statuses), "exit status": status}


def soak(bundle: Path, requests: list[bytes], cores: tuple[int, int], seconds: float) -> dict[str, Any]:
    """Resident memory after a tenth of the time, and at the end."""
    with server(bundle, cores[0]) as (process, port):
        asyncio.run(closed_loop(port, requests, 8, seconds / 10))
        first = _resident(process.pid)
        outcome = asyncio.run(closed_loop(port, requests, 8, seconds * 9 / 10))
        last = _resident(process.pid)
    return {"statuses": dict(outcome.statuses), "first MB": first, "last MB": last, "growth": last / first - 1}


def _resident(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1000


def main() -> None:
    """Runs every part for texts and for pictures."""
    if sys.argv[1:2] == ["--direct"]:
        print(measure_directly(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--image", type=Path, required=True, help="a picture for the only image input")
    parser.add_argument("--soak", type=float, default=0, metavar="SECONDS", help="of both kinds together")
    parser.add_argument("--cores", type=int, nargs=2, default=(0, 1), help="of the server and of the load")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cores = (arguments.cores[0], arguments.cores[1])
    os.sched_setaffinity(0, {cores[1]})
    modalities = {entry: value["modality"] for entry, value in
                  json.loads((arguments.bundle / "bundle.json").read_text())["inputs"].items()}  # fmt: skip
    names = {kind: next(name for name, found in modalities.items() if found == kind) for kind in ("text", "image")}
    picture = base64.b64encode(arguments.image.read_bytes()).decode()
    texts = ["organic oat drink 1 l", "dark chocolate", "orange juice from Spain, half a litre", "tea"]
    kinds = {
        "text": [{names["text"]: text} for text in texts],
        "image": [{names["image"]: picture}],
    }
    report: dict[str, Any] = {}
    for kind, records in kinds.items():
        requests = [post(record) for record in records]
        marked = [{name: f"base64:{value}" if kind == "image" else value for name, value in record.items()}
                  for record in records]  # fmt: skip
        part = report[kind] = {"alone": alone(arguments.bundle, marked, requests, cores)}
        single = throughput(arguments.bundle, requests, cores, "--max-batch", "1")
        peak = throughput(arguments.bundle, requests, cores)
        part["throughput"] = {"batch 1": single, "batching": peak, "gain": peak / single}
        part["overload"] = overload(arguments.bundle, requests, cores)
        part["stopped"] = stopped(arguments.bundle, requests, cores)
        if arguments.soak:
            part["soak"] = soak(arguments.bundle, requests, cores, arguments.soak / 2)
        print(json.dumps({kind: part}, indent=1), flush=True)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
