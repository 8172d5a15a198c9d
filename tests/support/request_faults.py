"""Requests that nobody honest sends, drawn from a seed: every one of them must get an answer or a reason."""

import base64
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from support.media_faults import bomb, damaged, honest, image_file, mutated, odd, one_of

JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=x"}


@dataclass(frozen=True)
class Request:
    """One request."""

    name: str
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))
    path: str = "/predict"
    method: str = "POST"


def requests(seed: int, number: int, *, model: str) -> Iterator[Request]:
    """``number`` requests, of all kinds in turn; equal seeds give equal requests (of one process).

    Args:
        model: its name in addresses.
    """
    rng = np.random.default_rng(seed)
    kinds = itertools.cycle((_media, _bomb, _odd, _text, _json, _form, _tensors, _address))
    for index, kind in zip(range(number), kinds, strict=False):
        yield kind(rng, index // 8, model)


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _record(name: str, **values: Any) -> Request:
    return Request(name, json.dumps(values).encode())


def _media(rng: np.random.Generator, index: int, model: str) -> Request:
    name, slot, content = damaged(rng)
    return _record(name, **{slot: _b64(content)})


def _bomb(rng: np.random.Generator, index: int, model: str) -> Request:
    name, slot, content = bomb(rng, index)
    return _record(name, **{slot: _b64(content)})


def _odd(rng: np.random.Generator, index: int, model: str) -> Request:
    name, slot, content = odd(rng)
    return _record(name, **{slot: _b64(content)})


# --- texts and JSON ----------------------------------------------------------------------------------------------

_PIECES = ["red", " ", "\0", "\n", "\u202e", "\u0301", "\ud83d\ude00", "\ufeff", "\u6f22", "[PAD]", "'; DROP TABLE",
           "<script>", "%s%n", "../", "{{7*7}}", "\x1b[2J", "a" * 300, "\uffff", "\u0130", "0" * 50]  # fmt: skip


def _text(rng: np.random.Generator, index: int, model: str) -> Request:
    piece, times = one_of(rng, _PIECES), int(rng.choice([1, 7, 300, 5_000, 33_000]))
    if rng.random() < 0.15:
        return Request("half a pair", b'{"text": "' + b"\\ud800" * min(times, 5000) + b'"}')
    if rng.random() < 0.1:
        return _record("a megabyte", text="a " * 500_000)
    pieces = [one_of(rng, _PIECES) for _ in range(min(times, 300))] if rng.random() < 0.5 else [piece] * times
    return _record("odd text", text="".join(pieces))


_VALUES: list[Any] = [None, True, 0, -1, 1e308, 10**30, "", " ", "red", [], {}, [1, 2], {"a": {"b": []}}, "AAAA", "A",
                      "A===", "QUJD\n", "-_-_", "\u0665", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/x",
                      "data:image/png;base64,AAAA", [[1, 2], [3]], "NaN"]  # fmt: skip
_ENCODINGS = ["utf-16", "utf-32", "latin-1", "utf-8-sig"]
_NAMES = [
    "photo",
    "text",
    "sound",
    "Text",
    "price",
    "",
    "__proto__",
    "photo.pixels",
    "../x",
    "k" * 1000,
    "\0",
    "\ud800",
]


def _json(rng: np.random.Generator, index: int, model: str) -> Request:
    depth = int(rng.choice([10, 500, 20_000, 300_000]))
    bodies: list[tuple[str, Callable[[], bytes]]] = [
        ("deep lists", lambda: b"[" * depth + b"]" * depth),
        ("deep objects", lambda: b'{"text":' * depth + b"1" + b"}" * depth),
        ("many records", lambda: json.dumps([{"text": "red"}] * int(rng.choice([2, 64, 65, 5000]))).encode()),
        ("many fields", lambda: json.dumps({f"f{number}": number for number in range(20_000)}).encode()),
        ("a key twice", lambda: b'{"text": "a", "text": "b"}'),
        ("many keys twice", lambda: b"{" + b",".join([b'"text": 1'] * 20_000) + b"}"),
        ("a long number", lambda: b'{"text": ' + b"9" * int(rng.choice([20, 5000, 500_000])) + b"}"),
        ("no numbers", lambda: b'{"text": ' + one_of(rng, [b"NaN", b"Infinity", b"-Infinity", b"1e999"]) + b"}"),
        ("a huge list", lambda: b"[" + b",".join([b"0"] * 900_000) + b"]"),
        ("empty lists", lambda: b"[" + b",".join([b"[]"] * 400_000) + b"]"),
        ("other encodings", lambda: '{"text": "r\u00e9d"}'.encode(one_of(rng, _ENCODINGS))),
        ("cut", lambda: mutated(rng, json.dumps({"text": "red", "photo": _b64(image_file("PNG"))}).encode())),
        ("noise", lambda: rng.integers(0, 256, int(rng.integers(0, 3000)), np.uint8).tobytes()),
        ("a slot", lambda: json.dumps({one_of(rng, _NAMES): one_of(rng, _VALUES)}).encode()),
        ("slots", lambda: json.dumps([{name: one_of(rng, _VALUES) for name in _NAMES[:3]}] * 3).encode()),
        ("no record", lambda: json.dumps(one_of(rng, _VALUES)).encode()),
    ]  # fmt: skip
    name, make = bodies[int(rng.integers(len(bodies)))]
    query = one_of(rng, ["", "", "?explain=true", "?explain=x", "?embedding=true", "?" + "a=b&" * 500])
    return Request(name, make(), path=f"/predict{query}")


# --- forms, tensors, addresses -----------------------------------------------------------------------------------


def part(name: str, content: bytes, extra: str = "") -> bytes:
    """One of a form."""
    return (
        f'--x\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode("utf-8", "replace")
        + content
        + b"\r\n"
    )


def _form(rng: np.random.Generator, index: int, model: str) -> Request:
    file = '; filename="a"'
    bodies: list[Callable[[], bytes]] = [
        lambda: b"".join(part(f"f{number}", b"1") for number in range(3000)) + b"--x--\r\n",
        lambda: b"".join(part("photo", b"1", file) for _ in range(500)) + b"--x--\r\n",
        lambda: part("photo", mutated(rng, honest("photo", 2)), file) + b"--x--\r\n",
        lambda: part("sound", mutated(rng, honest("sound", 0)), file) + b"--x--\r\n",
        lambda: part("text", b"a" * int(rng.choice([10, 90_000, 500_000]))) + b"--x--\r\n",
        lambda: part("text", rng.integers(0, 256, 200, np.uint8).tobytes(), one_of(rng, ["", file])) + b"--x--\r\n",
        lambda: part(one_of(rng, _NAMES), b"red") + b"--x--\r\n",
        lambda: part("text", b"red") + b"--x" * 5000,
        lambda: mutated(rng, part("text", b"red") + part("photo", image_file("PNG"), file) + b"--x--\r\n"),
        lambda: b"--x\r\n" + b"A: b\r\n" * 5000 + b"\r\n\r\n--x--\r\n",
        lambda: b"--x\r\n" + b"A" * 100_000 + b": b\r\n\r\n--x--\r\n",
        lambda: b"\r\n--x" * 20_000,
    ]
    headers = dict(FORM)
    if rng.random() < 0.2:
        kinds = [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            f"multipart/form-data; boundary={'b' * 5000}",
            "multipart/form-data; boundary=x; charset=idna",
            "multipart/mixed; boundary=x",
            "multipart/form-data;;;",
        ]
        headers = {"content-type": one_of(rng, kinds)}
    return Request("form", bodies[int(rng.integers(len(bodies)))](), headers)


def _tensor(rng: np.random.Generator) -> dict[str, Any]:
    name, kind, shape = one_of(rng, [
        ("text.input_ids", "INT64", [1, 4]), ("text.attention_mask", "INT64", [1, 4]), ("text.present", "BOOL", [1]),
        ("photo.pixels", "UINT8", [1, 3, 16, 16]), ("photo.present", "BOOL", [1]),
        ("sound.waveform", "FP32", [1, 900]), ("sound.waveform_mask", "BOOL", [1, 900]), ("nothing", "FP32", [1]),
    ])  # fmt: skip
    values: list[Any] = {
        "INT64": [1, -5, 10**6, 2**63, 10**25, 1.5, "1", None],
        "BOOL": [True, False, 1, "true"],
        "UINT8": [0, 255, 256, -1, True],
        "FP32": [0.1, 3, 3.4e38, 1e300, -1.0, None, True],
    }[kind]
    value, count = one_of(rng, values), int(np.prod(shape))
    changed: list[dict[str, Any]] = [
        {},
        {},
        {
            "shape": one_of(
                rng, [[], [0], [-1, 4], [2**40, 2**40], [1] * 40, "x", None, [1.0, 4], [True, 4], [1, 10**6]]
            )
        },
        {"datatype": one_of(rng, ["FP16", "", None, "BYTES", 3])},
        {"data": one_of(rng, [[], None, "x", [[1], [2, 3]], [["a"] * 4], [[[[[1, 1, 1, 1]]]]], {"a": 1}])},
        {"shape": [64, *shape[1:]], "data": [value] * (64 * count)},
        {"shape": [shape[0], 9000], "data": [value] * 9000},
    ]
    tensor = {"name": name, "datatype": kind, "shape": shape, "data": [value] * count}
    return tensor | one_of(rng, changed)


def _tensors(rng: np.random.Generator, index: int, model: str) -> Request:
    path = f"/v2/models/{model}/infer"
    if rng.random() < 0.2:
        bodies = [b"{}", b"[]", b'{"inputs": 3}', b'{"inputs": [3]}', b'{"inputs": [], "outputs": [{}]}',
                  b'{"id": {}, "inputs": []}', b'{"inputs": [{"name": []}]}',
                  b'{"inputs": [{"name": "text.input_ids", "shape": [1, 1], "datatype": "INT64", "data": '
                  + b"[" * 800 + b"1" + b"]" * 800 + b"}]}",
                  b'{"inputs": [' + b",".join([b"{}"] * 100_000) + b"]}"]  # fmt: skip
        return Request("no tensors", one_of(rng, bodies), path=path)
    content: dict[str, Any] = {"inputs": [_tensor(rng) for _ in range(int(rng.integers(1, 5)))]}
    if rng.random() < 0.4:  # a text that is whole but for its values
        ids = [one_of(rng, [0, 1, 7, 8, -1, 2**40]) for _ in range(4)]
        content["inputs"] = [
            {"name": "text.input_ids", "datatype": "INT64", "shape": [1, 4], "data": ids},
            {"name": "text.attention_mask", "datatype": "INT64", "shape": [1, 4],
             "data": one_of(rng, [[0] * 4, [1] * 4, [5] * 4, [1, 0, 1, 0]])},
        ]  # fmt: skip
    if rng.random() < 0.3:
        content["outputs"] = one_of(rng, [3, [], [{"name": "nothing"}], [{"name": "color"}] * 3, [None]])
    if rng.random() < 0.3:
        return _as_bytes(rng, content, path)
    return Request("tensors", json.dumps(content).encode(), path=path)


def _as_bytes(rng: np.random.Generator, content: dict[str, Any], path: str) -> Request:
    data = rng.bytes(int(one_of(rng, [0, 1, 7, 32, 64, 100_000])))
    for tensor in content["inputs"]:
        tensor.pop("data", None)
        tensor["parameters"] = {"binary_data_size": one_of(rng, [len(data), 32, 0, -1, 2**70, "8", None, 1.5])}
    content["parameters"] = one_of(
        rng, [{}, {"binary_data_output": True}, {"binary_data_output": 3}, [], {"timeout": 1}]
    )
    body = json.dumps(content).encode()
    length = one_of(rng, [len(body), len(body), len(body), 0, len(body) + 1, 2**70, "", "-1", "0x10"])
    return Request("tensors as bytes", body + data, {"inference-header-content-length": str(length)}, path)


def _address(rng: np.random.Generator, index: int, model: str) -> Request:
    path = one_of(
        rng,
        [
            "/",
            "/predict",
            "/predict/",
            "//predict",
            "/../../etc/passwd",
            "/%2e%2e/x",
            "/v2",
            "/v2/models/",
            "/v2/models/x/infer",
            f"/v2/models/{model}/versions/9/infer",
            "/v2/models/%00/infer",
            "/metrics",
            "/openapi.json",
            "/docs",
            "/model",
            "/" + "a" * 4000,
            "/v2/health/ready",
            "/predict?explain=%ff",
        ],
    )
    method = one_of(rng, ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"])
    headers = dict(
        one_of(
            rng,
            [
                JSON,
                FORM,
                {},
                {"content-type": "\u00e9" * 9},
                {"content-type": "text/plain"},
                {**JSON, "content-encoding": "gzip"},
                {**JSON, "authorization": "Bearer " + "a" * 5000},
                {**JSON, "origin": "http://evil.example"},
                {**JSON, "host": "evil.example"},
                {**JSON, "host": ""},
                {**JSON, "x": "y" * 9000},
            ],
        )
    )
    return Request(f"{method} {path[:30]}", b'{"text": "red"}', headers, path, method)
