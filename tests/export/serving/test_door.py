"""Who may enter, what is counted, and what is said while the server is not ready."""

import hashlib
import json
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from support.server_process import Running
from support.waiting import wait_until

from export import Bundle, BundleError, Predictor
from export.serving.app import create_app
from export.serving.readiness import load_verified
from export.serving.service import Service
from export.serving.settings import Settings

TOKEN = "0123456789abcdef"


def opened(bundle: Bundle, **settings: object) -> tuple[TestClient, Service]:
    """A client of a server that loads without checking, so that a test is quick."""
    service = Service(bundle.folder, Settings(**settings), load=quick)  # type: ignore[arg-type]
    return TestClient(create_app(service), base_url="http://127.0.0.1"), service


def quick(folder: Path) -> Predictor:
    return Predictor.load(folder, device="cpu", threads=1)


def ready(client: TestClient) -> None:
    wait_until(lambda: client.get("/v2/health/ready").status_code == 200, "ready")


def test_a_token_is_asked_of_all_that_says_something_of_the_model(bundle: Bundle) -> None:
    client, _ = opened(bundle, token=TOKEN)
    with client:
        ready(client)
        assert client.get("/").status_code == 200
        for path in ("/model", "/metrics", "/openapi.json", "/v2/models/fruit", "/nothing"):
            reply = client.get(path)
            assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
        assert client.post("/predict", json={"text": "red"}, headers={"authorization": "Bearer x"}).status_code == 401
        right = {"authorization": f"Bearer {TOKEN}"}
        assert client.post("/predict", json={"text": "red"}, headers=right).status_code == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer "])
def test_the_scheme_of_a_token_has_no_case(bundle: Bundle, scheme: str) -> None:
    client, _ = opened(bundle, token=TOKEN)
    with client:
        assert client.get("/v2", headers={"authorization": f"{scheme} {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("value", [TOKEN, f"Basic {TOKEN}", f"Bearer{TOKEN}", f"Bearer {TOKEN}x", "Bearer", "Bearer "])
def test_another_scheme_or_token_is_refused(bundle: Bundle, value: str) -> None:
    client, _ = opened(bundle, token=TOKEN)
    with client:
        assert client.get("/v2", headers={"authorization": value}).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("HEAD", "/predict", "POST"),
        ("POST", "/model", "GET, HEAD"),
        ("DELETE", "/", "GET, HEAD"),
        ("PUT", "/v2/models/fruit/infer", "POST"),
        ("PATCH", "/v2/models/fruit/versions/1", "GET, HEAD"),
    ],
)
def test_an_address_says_what_it_takes(client: TestClient, method: str, path: str, allowed: str) -> None:
    reply = client.request(method, path)
    assert (reply.status_code, reply.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/", "/model", "/v2", "/v2/health/ready", "/v2/models/fruit", "/openapi.json", "/no"])
def test_head_says_what_get_does_without_a_body(running: Running, path: str) -> None:
    running.wait_until_ready()
    replies = []
    for method in ("GET", "HEAD"):
        with closing(HTTPConnection("127.0.0.1", running.port, timeout=240)) as connection:
            connection.request(method, path)
            reply = connection.getresponse()
            headers = {name: value for name, value in reply.getheaders() if name not in ("date", "x-request-id")}
            replies.append((reply.status, headers, reply.read()))
    (status, headers, body), head = replies
    assert head == (status, headers, b"")
    assert int(headers["content-length"]) == len(body) > 0


def test_pages_of_other_sites_and_other_names_are_kept_out(client: TestClient) -> None:
    other = client.post("/predict", json={"text": "red"}, headers={"origin": "http://evil.example"})
    assert (other.status_code, other.json()["error"]) == (
        403,
        "pages of other sites may not call this server: the page is of 'http://evil.example' (Origin), and the server "
        "was asked for as '127.0.0.1' (Host). If evil.example is a proxy before this server, start it with "
        "--allow-host evil.example, or let the proxy pass the Host on as it came",
    )
    rebound = client.get("/", headers={"host": "evil.example:80"})
    assert (rebound.status_code, rebound.json()["error"]) == (
        403,
        "this server is not named 'evil.example:80' (Host); if that is its name, start it with "
        "--allow-host evil.example",
    )
    own = client.post("/predict", json={"text": "red"}, headers={"origin": "http://127.0.0.1"})
    assert own.status_code == 200


@pytest.mark.parametrize("host", ["localhost:8000", "[::1]:80", "LOCALHOST", "10.2.3.4:8000", "[2001:db8::7]", "::1"])
def test_this_machine_and_addresses_need_not_be_named(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["", ":80", "10.2.3.4.evil.example", "localhost.evil.example", "[evil]", "1e1", "a\x00b"]
)
def test_a_name_that_looks_like_an_address_is_none(client: TestClient, host: str) -> None:
    reply = client.get("/", headers={"host": host})
    assert (reply.status_code, "(Host); if that is its name" in reply.text) == (403, True)


def test_what_is_not_there_is_told_as_json(client: TestClient) -> None:
    nowhere, unasked = client.get("/nothing").json()["error"], client.get("/predict").json()["error"]
    assert nowhere.startswith("GET '/nothing': Not Found; /openapi.json lists what there is")
    assert unasked.startswith("GET '/predict': Method Not Allowed; /openapi.json lists")
    assert unasked.endswith("such as POST for /predict")
    assert {"/predict", "/model"} < client.get("/openapi.json").json()["paths"].keys()


def test_metrics_count_requests_batches_and_the_queue(client: TestClient) -> None:
    client.post("/predict", json={"text": "red"})
    client.get("/secret/path")
    text = client.get("/metrics").text
    assert 'multimodal_requests_total{route="/predict",status="200"}' in text
    assert 'multimodal_requests_total{route="other",status="404"}' in text
    assert "multimodal_batch_records_bucket" in text
    assert "multimodal_queue_records 0.0" in text
    assert "process_resident_memory_bytes" in text
    assert "secret" not in text


def test_the_model_and_the_metrics_tell_which_bundle_it_is(client: TestClient, bundle: Bundle) -> None:
    digest = hashlib.sha256((bundle.folder / "bundle.json").read_bytes()).hexdigest()
    created = json.loads((bundle.folder / "provenance.json").read_text())["created"]
    assert datetime.now(UTC) - datetime.fromisoformat(created) < timedelta(days=1)
    model = client.get("/model").json()
    assert (model["name"], model["sha256"], model["created"]) == ("fruit", digest, created)
    line = f'multimodal_bundle_info{{created="{created}",name="fruit",sha256="{digest}"}} 1.0'
    assert line in client.get("/metrics").text.splitlines()


def test_openapi_describes_what_can_be_asked(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/predict", "/v2/models/{name}/infer", "/v2/health/ready", "/metrics"} <= set(paths)
    assert set(paths["/predict"]["post"]["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert "429" in paths["/predict"]["post"]["responses"]
    answers = {path: set(operation["responses"]) for path, entry in paths.items() for operation in entry.values()}
    assert all({"200", "403", "default"} <= statuses for statuses in answers.values())
    assert all(("404" in answers[path]) == path.startswith("/v2/models/") for path in answers)
    assert not {path for path, statuses in answers.items() if "422" in statuses} - {
        "/predict",
        "/v2/models/{name}/infer",
    }
    assert all(parameter["in"] == "path" for parameter in paths["/v2/models/{name}"]["get"]["parameters"])


def test_openapi_has_the_properties_of_every_response(client: TestClient) -> None:
    content = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]["200"]["content"]
    schema = content["application/json"]["schema"]
    reply = client.post("/predict?embedding=true&explain=true", json={"text": "red thing"}).json()
    described = schema["properties"]["predictions"]["items"]["properties"]
    given = reply["predictions"][0]
    assert described.keys() == given.keys() == {"color", "linear", "price", "embedding"}
    for task, found in given.items():
        assert found.keys() <= described[task]["properties"].keys()


def test_before_the_golden_records_have_passed_it_lives_but_is_not_ready(bundle: Bundle) -> None:
    checked = threading.Event()

    def slow(folder: Path) -> Predictor:
        checked.wait(60)
        return quick(folder)

    service = Service(bundle.folder, Settings(), load=slow)
    with TestClient(create_app(service), base_url="http://127.0.0.1") as client:
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").json() == {"ready": False, "state": "starting"}
        reply = client.post("/predict", json={"text": "red"})
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
        assert client.get("/model").status_code == 503
        described = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]["200"]
        assert "color" not in json.dumps(described)
        assert "multimodal_bundle_info" not in client.get("/metrics").text
        checked.set()
        ready(client)
        model = client.get("/model").json()
        assert (model["name"], model["device"], model["precision"]) == ("fruit", "cpu", "fp32")


def test_while_it_drains_it_answers_and_asks_to_connect_elsewhere(bundle: Bundle) -> None:
    client, service = opened(bundle)
    with client:
        ready(client)
        service.drain()
        assert client.get("/v2/health/ready").json() == {"ready": False, "state": "draining"}
        reply = client.post("/predict", json={"text": "red"})
        assert (reply.status_code, reply.headers["connection"]) == (200, "close")


def test_an_answer_that_takes_too_long_is_given_up(bundle: Bundle) -> None:
    client, service = opened(bundle, timeout_seconds=0.2)
    asked_in_vain = threading.Event()
    with client:
        ready(client)
        service._predictor.outputs = lambda samples: asked_in_vain.wait(60)  # type: ignore
        reply = client.post("/predict", json={"text": "red"})
        asked_in_vain.set()
        assert (reply.status_code, reply.json()["error"]) == (504, "no response within 0.2 s; try again")


def test_a_failure_of_the_model_is_ours_and_says_nothing_of_the_inside(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    client, service = opened(bundle)
    with client:
        ready(client)
        service._predictor.outputs = lambda samples: 1 / 0  # type: ignore
        reply = client.post("/predict", json={"text": "red"})
    assert (reply.status_code, reply.json()) == (500, {"error": "this server failed; its log says why"})
    assert "ZeroDivisionError" in caplog.text


def test_an_answer_that_is_not_finite_is_refused(bundle: Bundle) -> None:
    client, service = opened(bundle)
    with client:
        ready(client)
        real = service.predictor.outputs
        service._predictor.outputs = lambda samples: {k: v * float("nan") for k, v in real(samples).items()}  # type: ignore
        reply = client.post("/predict", json={"text": "red"})
    assert (reply.status_code, "no finite answer" in reply.json()["error"]) == (422, True)


def test_golden_records_with_other_answers_keep_the_server_from_starting(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = json.loads((bundle.folder / "golden" / "answers.json").read_text())["answers"]
    assert load_verified(bundle.folder, device="cpu").tasks.keys() == feed.keys()
    real = Predictor.run
    monkeypatch.setattr(Predictor, "run", lambda self, feed: {k: -v for k, v in real(self, feed).items()})
    with pytest.raises(BundleError, match="of the golden records has other labels in fp32 on cpu; serve it with"):
        load_verified(bundle.folder, device="cpu")


def test_a_damaged_bundle_is_not_served(copied: Path) -> None:
    (copied / "README.md").write_text("changed")
    with pytest.raises(BundleError, match=r"README\.md has 7 bytes"):
        load_verified(copied)
