"""Nothing that is sent makes the server fail, hang or grow."""

import http.client
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from support.request_faults import Request, requests
from support.server_process import Running

SEED = 7
SECONDS = 1.0
"""Of the server's processor time, for one request: who else computes here must not fail a test."""
GROWTH = 300_000  # kB
PEAK = 400_000
"""kB for a moment: 40 megapixels with transparency are 160 MB, and their copy without it 120 MB."""
QUICK, ALL = 160, 1200


def test_a_seed_names_its_requests() -> None:
    first, second = (list(requests(SEED, 40, model="fruit")) for _ in range(2))
    assert first == second
    assert len({(request.path, request.body) for request in first}) > 30


@pytest.mark.parametrize("part", range(4))
def test_hostile_requests_get_an_answer_or_a_reason(client: TestClient, part: int) -> None:
    for index, request in enumerate(requests(SEED + part, QUICK // 4, model="fruit")):
        headers = {name: value.encode("latin-1") for name, value in request.headers.items()}
        reply = client.request(request.method, request.path, content=request.body, headers=headers)
        assert reply.status_code < 500, (index, request.name, reply.text)
        if reply.status_code >= 400 and request.method != "HEAD":
            assert reply.json()["error"], (index, request.name)


@pytest.mark.slow
def test_a_thousand_hostile_requests_leave_the_server_as_it_was(running: Running) -> None:
    running.wait_until_ready()
    send(running, Request("honest", b'{"text": "red"}'))
    before, slowest = resident(running), (0.0, "")
    for index, request in enumerate(requests(SEED, ALL, model="fruit")):
        start = processor_seconds(running)
        status, body = send(running, request)
        slowest = max(slowest, (processor_seconds(running) - start, f"{index} {request.name}"))
        assert status < 500, (index, request.name, body[:300])
    assert running.process.poll() is None
    assert slowest[0] <= SECONDS, slowest
    assert resident(running) - before < GROWTH
    assert peak(running) - before < PEAK
    assert send(running, Request("honest", b'{"text": "red"}'))[0] == 200


def send(running: Running, request: Request) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=240)
    try:
        connection.putrequest(request.method, request.path, skip_host="host" in request.headers)
        for name, value in request.headers.items():
            connection.putheader(name, value.encode("latin-1"))
        connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def processor_seconds(running: Running) -> float:
    """User and system."""
    with open(f"/proc/{running.process.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(running: Running) -> int:
    """kB."""
    return memory(running, "VmRSS:")


def peak(running: Running) -> int:
    """kB."""
    return memory(running, "VmHWM:")


def memory(running: Running, key: str) -> int:
    with open(f"/proc/{running.process.pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=12,
)
in_slots = st.dictionaries(st.sampled_from(["photo", "text", "sound"]), json_values | st.binary().map(bytes.hex))
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(content=json_values | in_slots | st.lists(in_slots, max_size=3))
def test_any_json_gets_an_answer_or_a_reason(client: TestClient, content: object) -> None:
    body = json.dumps(content).encode()
    reply = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert reply.status_code in (200, 400, 413, 415, 422), reply.text


@quick
@given(body=st.binary(max_size=300), kind=st.sampled_from(["application/json", "multipart/form-data; boundary=x"]))
def test_any_bytes_get_an_answer_or_a_reason(client: TestClient, body: bytes, kind: str) -> None:
    reply = client.post("/predict", content=body, headers={"content-type": kind})
    assert reply.status_code in (200, 400, 413, 415, 422), reply.text


tensor = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["text.input_ids", "text.attention_mask", "photo.present", "sound.waveform"])
        | st.text(),
        "datatype": st.sampled_from(["INT64", "FP32", "BOOL", "UINT8"]),
        "shape": st.lists(st.integers(-1, 5), max_size=3) | json_values,
        "data": st.lists(st.integers(-3, 9) | st.floats() | st.booleans(), max_size=9) | json_values,
    },
)


@quick
@given(tensors=st.lists(tensor, max_size=3))
def test_any_tensors_get_an_answer_or_a_reason(client: TestClient, tensors: list[dict[str, object]]) -> None:
    body = json.dumps({"inputs": tensors}).encode()
    reply = client.post("/v2/models/fruit/infer", content=body)
    assert reply.status_code in (200, 400, 413), reply.text
