"""POST /predict: answers as the Predictor gives them, and reasons where there is none."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from support.assertions import near

from export import Bundle, Predictor


def sent(row: dict[str, Any], media: Path) -> dict[str, Any]:
    """A row of the table as JSON takes it."""
    record = {"text": row["text"]}
    for name, column in (("photo", "image"), ("sound", "sound")):
        if row[column] is not None:
            record[name] = base64.b64encode((media / row[column]).read_bytes()).decode()
    return record


def test_a_list_gets_the_answers_of_the_predictor(
    client: TestClient, bundle: Bundle, table: list[dict[str, Any]], media: Path
) -> None:
    reply = client.post("/predict", json=[sent(row, media) for row in table])
    assert reply.status_code == 200, reply.text
    rows = [{"photo": row["image"] and media / row["image"], "text": row["text"],
             "sound": row["sound"] and media / row["sound"]} for row in table]  # fmt: skip
    expected = Predictor.load(bundle.folder, device="cpu").predict(rows)
    for found, answer in zip(reply.json()["predictions"], expected, strict=True):
        assert found["color"]["label"] == answer["color"].label
        assert found["color"]["probabilities"] == near(answer["color"].probabilities, "batches")
        assert found["linear"]["labels"] == list(answer["linear"].labels)
        assert found["price"] == {
            "value": near(answer["price"].value, "onnx"),
            "unit": "EUR",
            "missing": list(answer["price"].missing),
        }


def test_one_record_gets_a_list_of_one(client: TestClient) -> None:
    reply = client.post("/predict", json={"text": "red round thing"})
    assert reply.status_code == 200
    (answers,) = reply.json()["predictions"]
    assert set(answers) == {"color", "linear", "price"}
    assert answers["color"]["missing"] == ["photo", "sound"]


def test_a_form_gets_the_answer_of_the_same_json(client: TestClient, table: list[dict[str, Any]], media: Path) -> None:
    row = table[0]
    files = {"photo": (media / row["image"]).read_bytes(), "sound": (media / row["sound"]).read_bytes()}
    form = client.post("/predict", data={"text": row["text"]}, files=files)
    assert form.status_code == 200, form.text
    expected = client.post("/predict", json=sent(row, media)).json()["predictions"][0]
    (found,) = form.json()["predictions"]
    assert found["color"]["probabilities"] == near(expected["color"]["probabilities"], "batches")
    assert found["color"]["missing"] == []


def test_vectors_are_sent_where_they_are_asked_for(client: TestClient) -> None:
    reply = client.post("/predict?embedding=true", json={"text": "red"})
    vector = reply.json()["predictions"][0]["embedding"]["embedding"]
    assert sum(value * value for value in vector) == near(1.0, "onnx")


def test_contributions_add_up_to_the_answer(client: TestClient, table: list[dict[str, Any]], media: Path) -> None:
    reply = client.post("/predict?explain=true", json=sent(table[0], media))
    assert reply.status_code == 200, reply.text
    answers = reply.json()["predictions"][0]
    for task in ("color", "price"):
        shares = answers[task]["contributions"]
        assert shares["none"] + sum(shares["inputs"].values()) == near(shares["all"], "batches")
    assert answers["color"]["contributions"]["all"] == near(answers["color"]["probability"], "batches")


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 30).decode()


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "is not JSON"),
        (b"{", 400, "is not JSON"),
        (b"\xff", 400, "is not UTF-8"),
        (b"[]", 400, "0 records; send 1 to 64"),
        (b"3", 400, "is a int; give an object"),
        (b'{"text": NaN}', 400, "holds NaN"),
        (b'{"text": 1, "text": "b"}', 400, "a key twice, near 'text'"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b"{}", 422, "every input is missing; give at least photo or text or sound"),
        (b'{"tex": "a"}', 422, "did you mean 'text'"),
        (b'{"text": 3}', 422, "a text cannot be a int"),
        (b'{"text": null}', 422, "every input is missing"),
        (b'{"photo": "a.jpg"}', 422, "is not base64 .*a path or a web address is not read"),
        (b'{"photo": "/etc/passwd"}', 422, "a path or a web address is not read"),
        (b'{"photo": "/etc/pas"}', 415, "which is no image in JPEG, PNG or WebP"),
        (b'{"photo": 3}', 422, "give base64 of a file"),
        (b'{"photo": " "}', 422, "every input is missing"),
        (b'{"sound": "AAAA"}', 415, "which is no audio in wav"),
        (f'{{"photo": "{PNG}"}}'.encode(), 422, "is not a readable JPEG"),
        (b'{"' + b"k" * 50 + b'": 1}', 422, "has a key of 50 characters"),
        (b'{"text": "' + b"a" * 100_001 + b'"}', 413, "has 100001 characters; at most 100000 are allowed"),
        (b"[" + b",".join([b"{}"] * 65) + b"]", 413, "65 records; send 1 to 64"),
        (b"[" + b",".join([b"1"] * 1_000_001) + b"]", 413, "more than 1000000 values"),
    ],
)  # fmt: skip
def test_a_bad_body_is_refused_with_the_reason(client: TestClient, body: bytes, status: int, reason: str) -> None:
    reply = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == status, reply.text
    import re

    assert re.search(reason, reply.json()["error"]), reply.text


@pytest.mark.parametrize(
    "body",
    ['{"text": "red"}', ' {"text": "red"}', '[{"text": "red"}]', '\n[{"text": "round"}]', '{"text": "\ufeffred"}'],
)
def test_a_byte_order_mark_before_json_changes_nothing(client: TestClient, body: str) -> None:
    plain, marked = (
        client.post("/predict", content=body.encode(encoding), headers={"content-type": "application/json"})
        for encoding in ("utf-8", "utf-8-sig")
    )
    assert (marked.status_code, marked.content) == (200, plain.content)


@pytest.mark.parametrize(
    "mark", [b"\xef\xbb", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf\xef\xbb\xbf", b"\xef\xbb\xbf\xff"]
)
def test_another_mark_is_refused(client: TestClient, mark: bytes) -> None:
    reply = client.post("/predict", content=mark + b'{"text": "red"}', headers={"content-type": "application/json"})
    assert (reply.status_code, "the body is not" in reply.json()["error"]) == (400, True)


def test_a_refusal_names_the_record_and_the_input(client: TestClient) -> None:
    reply = client.post("/predict", json=[{"text": "red"}, {"photo": "AAAA"}])
    assert (reply.json()["record"], reply.json()["input"]) == (1, "photo")


def test_another_content_type_is_refused(client: TestClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        reply = client.post("/predict", content=b"{}", headers={"content-type": kind})
        assert reply.status_code == 415
    compressed = {"content-type": "application/json", "content-encoding": "gzip"}
    assert "is encoded as 'gzip'" in client.post("/predict", content=b"{}", headers=compressed).json()["error"]
    other = {"content-type": "multipart/form-data; boundary=x; charset=punycode"}
    assert "send UTF-8" in client.post("/predict", content=b"--x--", headers=other).json()["error"]


def test_a_body_beyond_the_limit_is_not_read(client: TestClient) -> None:
    headers = {"content-type": "application/json", "content-length": "32000001"}
    reply = client.post("/predict", content=b"{}", headers=headers)
    assert (reply.status_code, "more than 32 MB" in reply.text) == (413, True)
    wrong = client.post("/predict", content=b"{}", headers={**headers, "content-length": "-1"})
    assert "give a number of bytes" in wrong.json()["error"]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 422, "every input is missing"),
        (b"nonsense", 400, "no form of one record"),
        (b'--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n', 400, "no form of one record"),
        (b'--x\r\nContent-Disposition: form-data; name="photo"\r\n\r\na\r\n--x--\r\n', 422, "send a file"),
        (b'--x\r\nContent-Disposition: form-data; name="text"; filename="t"\r\n\r\n\xff\r\n--x--\r\n', 422, "UTF-8"),
        (b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\na\r\n' * 2 + b"--x--\r\n", 422, "is there twice"),
        (b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\na\r\n' * 9 + b"--x--\r\n", 400, "Too many fields"),
        (b'--x\r\nContent-Disposition: form-data; name="photo"; filename=""\r\n\r\n\r\n--x--\r\n', 422, "every input"),
        (b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\n\r\n--x--\r\n', 415, "no bytes"),
    ],
)  # fmt: skip
def test_a_bad_form_is_refused_with_the_reason(client: TestClient, body: bytes, status: int, reason: str) -> None:
    reply = client.post("/predict", content=body, headers={"content-type": "multipart/form-data; boundary=x"})
    assert reply.status_code == status, reply.text
    assert reason in reply.json()["error"]


def test_explaining_several_records_is_refused(client: TestClient) -> None:
    reply = client.post("/predict?explain=true", json=[{"text": "red"}] * 2)
    assert (reply.status_code, reply.json()["error"]) == (400, "the body has 2 records; explain one at a time")
    assert client.post("/predict?explain=perhaps", json={"text": "red"}).status_code == 400


def test_an_answer_is_json_also_where_the_question_is_no_text(client: TestClient) -> None:
    reply = client.post("/predict", content=b'{"text": "\\ud800", "\\ud800": 1}')
    assert reply.status_code == 415
    reply = client.post("/predict", content=b'{"\\ud800": 1}', headers={"content-type": "application/json"})
    assert reply.status_code == 422
    json.loads(reply.content)
