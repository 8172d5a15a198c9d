"""Requests that nobody honest sends, drawn from a seed: every one of them must get an answer or a reason."""

import base64
import io
import itertools
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
from PIL import Image

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
    """``number`` requests, of all kinds in turn; equal seeds give equal requests.

    Args:
        model: its name in addresses.
    """
    rng = np.random.default_rng(seed)
    kinds = itertools.cycle((_media, _bomb, _odd_media, _text, _json, _form, _tensors, _address))
    for index, kind in zip(range(number), kinds, strict=False):
        yield kind(rng, index // 8, model)


def _one_of(rng: np.random.Generator, values: list[Any]) -> Any:
    return values[int(rng.integers(len(values)))]


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _record(name: str, **values: Any) -> Request:
    return Request(name, json.dumps(values).encode())


# --- media -------------------------------------------------------------------------------------------------------


def picture(form: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    """A small picture file."""
    noise = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, form, **options)
    return file.getvalue()


def sound(form: str = "WAV", subtype: str | None = None, samples: Any = None, rate: int = 8000) -> bytes:
    """A small sound file."""
    values = np.sin(np.arange(3000) / 9) * 0.3 if samples is None else samples
    file = io.BytesIO()
    soundfile.write(file, values, rate, format=form, subtype=subtype)
    return file.getvalue()


def mutated(rng: np.random.Generator, content: bytes) -> bytes:
    """The content cut, with bytes changed, repeated, or taken out."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 12))):
        at, kind = int(rng.integers(len(data))), int(rng.integers(5))
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at : at + 4] = rng.integers(0, 256, 4, np.uint8).tobytes()
        elif kind == 2:
            data[at : at + 4] = _one_of(rng, [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
        elif kind == 3 and len(data) > 50:
            del data[at : at + int(rng.integers(1, 40))]
        else:
            data[at:at] = data[at : at + int(rng.integers(1, 400))]
    return bytes(data[: int(rng.integers(1, len(data) + 1))] if rng.random() < 0.3 else data) or b"\0"


_FILES: dict[str, list[Callable[[], bytes]]] = {
    "photo": [
        lambda: picture("JPEG"),
        lambda: picture("JPEG", progressive=True),
        lambda: picture("PNG"),
        lambda: picture("PNG", "RGBA"),
        lambda: picture("PNG", "P"),
        lambda: picture("WEBP"),
        lambda: picture("WEBP", lossless=True),
    ],
    "sound": [
        lambda: sound(),
        lambda: sound(subtype="FLOAT"),
        lambda: sound(subtype="PCM_24"),
        lambda: sound("FLAC"),
        lambda: sound("OGG"),
        lambda: sound("MP3"),
    ],
}


def _media(rng: np.random.Generator, index: int, model: str) -> Request:
    slot = _one_of(rng, list(_FILES))
    content = mutated(rng, _one_of(rng, _FILES[slot])())
    if rng.random() < 0.3:
        slot = _one_of(rng, ["photo", "sound", "text"])  # also in another's place
    return _record(f"damaged {slot}", **{slot: _b64(content)})


def png(width: int, height: int, *, depth: int = 8, color: int = 2, data: bytes = b"", chunks: bytes = b"") -> bytes:
    """A PNG as its parts say it, true or not."""
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunks + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    """One of a PNG's parts."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def zeros(count: int) -> bytes:
    """Very many, compressed."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(min(2**20, count - at))) for at in range(0, count, 2**20)) + packer.flush()


def wav(rate: int = 8000, channels: int = 1, bits: int = 16, kind: int = 1, claimed: int | None = None,
        data: bytes = b"\0\0" * 2000) -> bytes:  # fmt: skip
    """A WAV as its header says it, true or not."""
    width = channels * bits // 8
    head = struct.pack("<HHIIHH", kind, channels, rate, (rate * width) % 2**32, width % 2**16, bits)
    size = len(data) if claimed is None else claimed
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", (4 + len(body)) % 2**32) + body


def _floats(*values: float) -> bytes:
    return wav(bits=32, kind=3, data=np.tile(np.array(values, "<f4"), 500).tobytes())


_BOMBS: list[tuple[str, str, Callable[[], bytes]]] = [
    ("photo", "16 megapixels of one bit", lambda: png(4000, 4000, depth=1, color=0, data=zeros(4000 * 501))),
    ("photo", "16 megapixels with alpha", lambda: png(4000, 4000, color=6, data=zeros(4000 * 16001))),
    ("photo", "400 megapixels of one bit", lambda: png(20000, 20000, depth=1, color=0, data=zeros(20000 * 2501))),
    ("photo", "says 2^31 pixels a side", lambda: png(2**31 - 1, 2**31 - 1)),
    ("photo", "says no pixels", lambda: png(0, 0)),
    ("photo", "a hair", lambda: png(60000, 1, data=zeros(180001))),
    ("photo", "says more than it holds", lambda: png(3900, 4000, data=zeros(100))),
    ("photo", "holds more than it says", lambda: png(2, 2, data=zeros(50_000_000))),
    ("photo", "a text of 30 MB", lambda: png(2, 2, data=zeros(14), chunks=chunk(b"zTXt", b"a\0\0" + zeros(30_000_000)))),
    ("photo", "a profile of 30 MB", lambda: png(2, 2, data=zeros(14), chunks=chunk(b"iCCP", b"a\0\0" + zeros(30_000_000)))),
    ("photo", "20,000 chunks", lambda: png(2, 2, data=zeros(14), chunks=chunk(b"tEXt", b"a\0b") * 20_000)),
    ("photo", "16 megapixels of WebP", lambda: _flat("WEBP", 4000)),
    ("photo", "16 megapixels of JPEG", lambda: _flat("JPEG", 4000)),
    ("photo", "2,000 scans", lambda: _many_scans()),
    ("sound", "NaN", lambda: _floats(0.0, float("nan"))),
    ("sound", "infinite", lambda: _floats(0.0, float("inf"))),
    ("sound", "the largest floats", lambda: _floats(3e38, -3e38)),
    ("sound", "says 4 GB", lambda: wav(claimed=2**32 - 1)),
    ("sound", "no samples", lambda: wav(data=b"")),
    ("sound", "0 Hz", lambda: wav(rate=0)),
    ("sound", "1 Hz", lambda: wav(rate=1)),
    ("sound", "4 GHz", lambda: wav(rate=2**32 - 1)),
    ("sound", "60,000 channels", lambda: wav(channels=60_000)),
    ("sound", "8 channels of 192 kHz", lambda: wav(rate=192_000, channels=8, data=bytes(12_000_000))),
    ("sound", "a minute", lambda: wav(rate=48_000, data=bytes(2 * 48_000 * 60))),
    ("sound", "an hour", lambda: wav(rate=8_000, data=bytes(8_000 * 3600 // 2))),
    ("sound", "an hour of FLAC", lambda: sound("FLAC", samples=np.zeros(8000 * 3600, np.int16))),
    ("sound", "half an hour of MP3", lambda: sound("MP3", samples=np.zeros(8000 * 1800))),
]  # fmt: skip
_made: dict[str, bytes] = {}


def _flat(form: str, side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(file, form, lossless=True, method=0, quality=50)
    return file.getvalue()


def _many_scans() -> bytes:
    content = picture("JPEG", progressive=True, size=(2000, 2000))
    start, end = content.index(b"\xff\xda"), content.rindex(b"\xff\xda")
    return content[:end] + content[start : content.index(b"\xff\xda", start + 2)] * 2000 + content[end:]


def _bomb(rng: np.random.Generator, index: int, model: str) -> Request:
    slot, name, make = _BOMBS[index % len(_BOMBS)]
    if name not in _made:
        _made[name] = make()
    content = _made[name] if index < len(_BOMBS) else mutated(rng, _made[name][:200_000])
    return _record(name, **{slot: _b64(content)})


def _odd_media(rng: np.random.Generator, index: int, model: str) -> Request:
    name, make = _one_of(rng, [
        ("16 bits", lambda: png(30, 30, depth=16, color=0, data=zeros(30 * 61))),
        ("16 bits RGB", lambda: png(30, 30, depth=16, color=2, data=zeros(30 * 181))),
        ("CMYK", lambda: picture("JPEG", "CMYK")),
        ("grey", lambda: picture("JPEG", "L")),
        ("GIF", lambda: picture("GIF", "P")),
        ("BMP", lambda: picture("BMP")),
        ("TIFF", lambda: picture("TIFF")),
        ("ICO", lambda: picture("ICO")),
        ("PPM", lambda: picture("PPM")),
        ("SVG", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
        ("PDF", lambda: b"%PDF-1.7\n"),
        ("EPS", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ("ZIP", lambda: b"PK\3\4" + bytes(60)),
        ("pickle", lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR."),
        ("animated", lambda: _animated("WEBP")),
        ("animated PNG", lambda: _animated("PNG")),
        ("AIFF", lambda: sound("AIFF")),
        ("AU", lambda: sound("AU")),
        ("8 bits", lambda: sound(subtype="PCM_U8")),
        ("A-law", lambda: sound(subtype="ALAW")),
        ("ADPCM", lambda: sound(subtype="IMA_ADPCM")),
        ("nothing", lambda: b""),
        ("a byte", lambda: b"\xff"),
        ("a magic number alone", lambda: _one_of(rng, [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"fLaC", b"OggS", b"ID3"])),
        ("RIFF alone", lambda: b"RIFF" + bytes(4) + _one_of(rng, [b"WAVE", b"WEBP"])),
    ])  # fmt: skip
    slot = _one_of(rng, ["photo", "sound"])
    return _record(f"{name} as {slot}", **{slot: _b64(make())})


def _animated(form: str) -> bytes:
    file = io.BytesIO()
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue", "green")]
    frames[0].save(file, form, save_all=True, append_images=frames[1:])
    return file.getvalue()


# --- texts and JSON ----------------------------------------------------------------------------------------------

_PIECES = ["red", " ", "\0", "\n", "\u202e", "\u0301", "\ud83d\ude00", "\ufeff", "\u6f22", "[PAD]", "'; DROP TABLE",
           "<script>", "%s%n", "../", "{{7*7}}", "\x1b[2J", "a" * 300, "\uffff", "\u0130", "0" * 50]  # fmt: skip


def _text(rng: np.random.Generator, index: int, model: str) -> Request:
    piece, times = _one_of(rng, _PIECES), int(rng.choice([1, 7, 300, 5_000, 33_000]))
    if rng.random() < 0.15:
        return Request("half a pair", b'{"text": "' + b"\\ud800" * min(times, 5000) + b'"}')
    if rng.random() < 0.1:
        return _record("a megabyte", text="a " * 500_000)
    pieces = [_one_of(rng, _PIECES) for _ in range(min(times, 300))] if rng.random() < 0.5 else [piece] * times
    return _record("odd text", text="".join(pieces))


_VALUES: list[Any] = [None, True, 0, -1, 1e308, 10**30, "", " ", "red", [], {}, [1, 2], {"a": {"b": []}}, "AAAA", "A",
                      "A===", "QUJD\n", "-_-_", "\u0665", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/x",
                      "data:image/png;base64,AAAA", [[1, 2], [3]], "NaN"]  # fmt: skip
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
        ("no numbers", lambda: b'{"text": ' + _one_of(rng, [b"NaN", b"Infinity", b"-Infinity", b"1e999"]) + b"}"),
        ("a huge list", lambda: b"[" + b",".join([b"0"] * 900_000) + b"]"),
        ("empty lists", lambda: b"[" + b",".join([b"[]"] * 400_000) + b"]"),
        ("other encodings", lambda: '{"text": "r\u00e9d"}'.encode(_one_of(rng, ["utf-16", "utf-32", "latin-1", "utf-8-sig"]))),
        ("cut", lambda: mutated(rng, json.dumps({"text": "red", "photo": _b64(picture("PNG"))}).encode())),
        ("noise", lambda: rng.integers(0, 256, int(rng.integers(0, 3000)), np.uint8).tobytes()),
        ("a slot", lambda: json.dumps({_one_of(rng, _NAMES): _one_of(rng, _VALUES)}).encode()),
        ("slots", lambda: json.dumps([{name: _one_of(rng, _VALUES) for name in _NAMES[:3]} for _ in range(3)]).encode()),
        ("no record", lambda: json.dumps(_one_of(rng, _VALUES)).encode()),
    ]  # fmt: skip
    name, make = bodies[int(rng.integers(len(bodies)))]
    query = _one_of(rng, ["", "", "?explain=true", "?explain=x", "?embedding=true", "?" + "a=b&" * 500])
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
        lambda: part("photo", mutated(rng, picture("PNG")), file) + b"--x--\r\n",
        lambda: part("sound", mutated(rng, sound()), file) + b"--x--\r\n",
        lambda: part("text", b"a" * int(rng.choice([10, 90_000, 500_000]))) + b"--x--\r\n",
        lambda: part("text", rng.integers(0, 256, 200, np.uint8).tobytes(), _one_of(rng, ["", file])) + b"--x--\r\n",
        lambda: part(_one_of(rng, _NAMES), b"red") + b"--x--\r\n",
        lambda: part("text", b"red") + b"--x" * 5000,
        lambda: mutated(rng, part("text", b"red") + part("photo", picture("PNG"), file) + b"--x--\r\n"),
        lambda: b"--x\r\n" + b"A: b\r\n" * 5000 + b"\r\n\r\n--x--\r\n",
        lambda: b"--x\r\n" + b"A" * 100_000 + b": b\r\n\r\n--x--\r\n",
        lambda: b"\r\n--x" * 20_000,
    ]
    headers = dict(FORM)
    if rng.random() < 0.2:
        kinds = ["multipart/form-data", "multipart/form-data; boundary=", f"multipart/form-data; boundary={'b' * 5000}",
                 "multipart/form-data; boundary=x; charset=idna", "multipart/mixed; boundary=x", "multipart/form-data;;;"]  # fmt: skip
        headers = {"content-type": _one_of(rng, kinds)}
    return Request("form", bodies[int(rng.integers(len(bodies)))](), headers)


def _tensor(rng: np.random.Generator) -> dict[str, Any]:
    name, kind, shape = _one_of(rng, [
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
    value, count = _one_of(rng, values), int(np.prod(shape))
    changed: list[dict[str, Any]] = [
        {},
        {},
        {
            "shape": _one_of(
                rng, [[], [0], [-1, 4], [2**40, 2**40], [1] * 40, "x", None, [1.0, 4], [True, 4], [1, 10**6]]
            )
        },
        {"datatype": _one_of(rng, ["FP16", "", None, "BYTES", 3])},
        {"data": _one_of(rng, [[], None, "x", [[1], [2, 3]], [["a"] * 4], [[[[[1, 1, 1, 1]]]]], {"a": 1}])},
        {"shape": [64, *shape[1:]], "data": [value] * (64 * count)},
        {"shape": [shape[0], 9000], "data": [value] * 9000},
    ]
    tensor = {"name": name, "datatype": kind, "shape": shape, "data": [value] * count}
    return tensor | _one_of(rng, changed)


def _tensors(rng: np.random.Generator, index: int, model: str) -> Request:
    path = f"/v2/models/{model}/infer"
    if rng.random() < 0.2:
        bodies = [b"{}", b"[]", b'{"inputs": 3}', b'{"inputs": [3]}', b'{"inputs": [], "outputs": [{}]}',
                  b'{"id": {}, "inputs": []}', b'{"inputs": [{"name": []}]}',
                  b'{"inputs": [{"name": "text.input_ids", "shape": [1, 1], "datatype": "INT64", "data": '
                  + b"[" * 800 + b"1" + b"]" * 800 + b"}]}",
                  b'{"inputs": [' + b",".join([b"{}"] * 100_000) + b"]}"]  # fmt: skip
        return Request("no tensors", _one_of(rng, bodies), path=path)
    content: dict[str, Any] = {"inputs": [_tensor(rng) for _ in range(int(rng.integers(1, 5)))]}
    if rng.random() < 0.4:  # a text that is whole but for its values
        ids = [_one_of(rng, [0, 1, 7, 8, -1, 2**40]) for _ in range(4)]
        content["inputs"] = [
            {"name": "text.input_ids", "datatype": "INT64", "shape": [1, 4], "data": ids},
            {"name": "text.attention_mask", "datatype": "INT64", "shape": [1, 4],
             "data": _one_of(rng, [[0] * 4, [1] * 4, [5] * 4, [1, 0, 1, 0]])},
        ]  # fmt: skip
    if rng.random() < 0.3:
        content["outputs"] = _one_of(rng, [3, [], [{"name": "nothing"}], [{"name": "color"}] * 3, [None]])
    return Request("tensors", json.dumps(content).encode(), path=path)


def _address(rng: np.random.Generator, index: int, model: str) -> Request:
    path = _one_of(rng, ["/", "/predict", "/predict/", "//predict", "/../../etc/passwd", "/%2e%2e/x", "/v2", "/v2/models/",
                         "/v2/models/x/infer", f"/v2/models/{model}/versions/9/infer", "/v2/models/%00/infer", "/metrics",
                         "/openapi.json", "/docs", "/model", "/" + "a" * 4000, "/v2/health/ready", "/predict?explain=%ff"])  # fmt: skip
    method = _one_of(rng, ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"])
    headers = dict(_one_of(rng, [JSON, FORM, {}, {"content-type": "\u00e9" * 9}, {"content-type": "text/plain"},
                                 {**JSON, "content-encoding": "gzip"}, {**JSON, "authorization": "Bearer " + "a" * 5000},
                                 {**JSON, "origin": "http://evil.example"}, {**JSON, "host": "evil.example"},
                                 {**JSON, "host": ""}, {**JSON, "x": "y" * 9000}]))  # fmt: skip
    return Request(f"{method} {path[:30]}", b'{"text": "red"}', headers, path, method)
