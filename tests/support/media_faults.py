"""Images and audio that nobody honest sends."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import soundfile
from PIL import Image
from support.audio_faults import flac_claiming, without_length

_PAGE = b"OggS" + bytes(23)


def one_of(rng: np.random.Generator, values: list[Any]) -> Any:
    """One of the values."""
    return values[int(rng.integers(len(values)))]


def image_file(form: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    """A small image file."""
    noise = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, form, **options)
    return file.getvalue()


def audio_file(form: str = "WAV", subtype: str | None = None, samples: Any = None, rate: int = 8000) -> bytes:
    """A small audio file."""
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
            data[at : at + 4] = one_of(rng, [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
        elif kind == 3 and len(data) > 50:
            del data[at : at + int(rng.integers(1, 40))]
        else:
            data[at:at] = data[at : at + int(rng.integers(1, 400))]
    return bytes(data[: int(rng.integers(1, len(data) + 1))] if rng.random() < 0.3 else data) or b"\0"


@cache
def honest(slot: str, number: int) -> bytes:
    """A whole file, the same whenever it is asked for: libsndfile writes times and random numbers into some."""
    return _FILES[slot][number]()


_FILES: dict[str, list[Callable[[], bytes]]] = {
    "photo": [
        lambda: image_file("JPEG"),
        lambda: image_file("JPEG", progressive=True),
        lambda: image_file("PNG"),
        lambda: image_file("PNG", "RGBA"),
        lambda: image_file("PNG", "P"),
        lambda: image_file("WEBP"),
        lambda: image_file("WEBP", lossless=True),
    ],
    "sound": [
        lambda: audio_file(),
        lambda: audio_file(subtype="FLOAT"),
        lambda: audio_file(subtype="PCM_24"),
        lambda: audio_file("FLAC"),
        lambda: audio_file("OGG"),
        lambda: audio_file("MP3"),
    ],
}


def damaged(rng: np.random.Generator) -> tuple[str, str, bytes]:
    """What it is, for which input, and its bytes."""
    slot = one_of(rng, list(_FILES))
    content = mutated(rng, honest(slot, int(rng.integers(len(_FILES[slot])))))
    if rng.random() < 0.3:
        slot = one_of(rng, ["photo", "sound", "text"])  # also in another's place
    return f"damaged {slot}", slot, content


def png(block: int, height: int, *, depth: int = 8, color: int = 2, data: bytes = b"", chunks: bytes = b"") -> bytes:
    """A PNG as its parts say it, true or not."""
    head = struct.pack(">IIBBBBB", block, height, depth, color, 0, 0, 0)
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
    block = channels * bits // 8
    head = struct.pack("<HHIIHH", kind, channels, rate, (rate * block) % 2**32, block % 2**16, bits)
    size = len(data) if claimed is None else claimed
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", (4 + len(body)) % 2**32) + body


def _floats(*values: float) -> bytes:
    return wav(bits=32, kind=3, data=np.tile(np.array(values, "<f4"), 500).tobytes())


_BOMBS: list[tuple[str, str, Callable[[], bytes]]] = [
    ("photo", "400 megapixels of one bit", lambda: png(20000, 20000, depth=1, color=0, data=zeros(20000 * 2501))),
    ("photo", "says 2^31 pixels a side", lambda: png(2**31 - 1, 2**31 - 1)),
    ("photo", "says no pixels", lambda: png(0, 0)),
    ("photo", "a hair", lambda: png(60000, 1, data=zeros(180001))),
    ("photo", "says more than it holds", lambda: png(3900, 4000, data=zeros(100))),
    ("photo", "holds more than it says", lambda: png(2, 2, data=zeros(50_000_000))),
    ("photo", "a text of 30 MB", lambda: png(2, 2, data=zeros(14), chunks=_packed(b"zTXt"))),
    ("photo", "a profile of 30 MB", lambda: png(2, 2, data=zeros(14), chunks=_packed(b"iCCP"))),
    ("photo", "20,000 chunks", lambda: png(2, 2, data=zeros(14), chunks=chunk(b"tEXt", b"a\0b") * 20_000)),
    ("photo", "16 megapixels of one bit", lambda: png(4000, 4000, depth=1, color=0, data=zeros(4000 * 501))),
    ("photo", "16 megapixels with alpha", lambda: png(4000, 4000, color=6, data=zeros(4000 * 16001))),
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
    ("sound", "an hour of FLAC", lambda: audio_file("FLAC", samples=np.zeros(8000 * 3600, np.int16))),
    ("sound", "half an hour of MP3", lambda: audio_file("MP3", samples=np.zeros(8000 * 1800))),
    ("sound", "half an hour of MP3 that does not say so", lambda: _stream(8000 * 1800)),
    ("sound", "8 channels of FLAC that say a second", lambda: flac_claiming(_wide_flac(), 192_000)),
    ("sound", "8 channels of FLAC that say nothing", lambda: flac_claiming(_wide_flac(), 0)),
    ("sound", "1,000 links of OGG", lambda: audio_file("OGG", samples=np.zeros(80)) * 1000),
    ("sound", "a million pages of OGG", lambda: audio_file("OGG", samples=np.zeros(80)) + _PAGE * 1_000_000),
    ("sound", "a million chunks", lambda: b"RIFF\0\0\0\0WAVE" + b"JUNK\0\0\0\0" * 1_000_000),
    ("sound", "a million tags", lambda: b"ID3\4\0\0\0\0\0\0" * 1_000_000),
    ("sound", "a million tags in an MP3", lambda: _stream(3000) + b"ID3\4\0\0\0\0\0\0" * 1_000_000),
    ("sound", "a million beginnings of MP3", lambda: _stream(3000) + b"\xff\xfb\x90\0" * 1_000_000),
]  # fmt: skip
_made: dict[str, bytes] = {}


def _stream(samples: int) -> bytes:
    return without_length(audio_file("MP3", samples=np.zeros(samples)))


def _wide_flac() -> bytes:
    return audio_file("FLAC", samples=np.zeros((192_000 * 50, 8), np.int16), rate=192_000)


def _packed(kind: bytes) -> bytes:
    return chunk(kind, b"a\0\0" + zeros(30_000_000))


def _flat(form: str, side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(file, form, lossless=True, method=0, quality=50)
    return file.getvalue()


def _many_scans() -> bytes:
    content = image_file("JPEG", progressive=True, size=(2000, 2000))
    start, end = content.index(b"\xff\xda"), content.rindex(b"\xff\xda")
    return content[:end] + content[start : content.index(b"\xff\xda", start + 2)] * 2000 + content[end:]


def bomb(rng: np.random.Generator, index: int) -> tuple[str, str, bytes]:
    """The same, of what is small until it is decoded; damaged ones after the list's end."""
    slot, name, make = _BOMBS[index % len(_BOMBS)]
    if name not in _made:
        _made[name] = make()
    content = _made[name] if index < len(_BOMBS) else mutated(rng, _made[name][:200_000])
    return name, slot, content


def odd(rng: np.random.Generator) -> tuple[str, str, bytes]:
    """The same, of other formats and kinds."""
    name, make = one_of(rng, [
        ("16 bits", lambda: png(30, 30, depth=16, color=0, data=zeros(30 * 61))),
        ("16 bits RGB", lambda: png(30, 30, depth=16, color=2, data=zeros(30 * 181))),
        ("CMYK", lambda: image_file("JPEG", "CMYK")),
        ("grey", lambda: image_file("JPEG", "L")),
        ("GIF", lambda: image_file("GIF", "P")),
        ("BMP", lambda: image_file("BMP")),
        ("TIFF", lambda: image_file("TIFF")),
        ("ICO", lambda: image_file("ICO")),
        ("PPM", lambda: image_file("PPM")),
        ("SVG", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
        ("PDF", lambda: b"%PDF-1.7\n"),
        ("EPS", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ("ZIP", lambda: b"PK\3\4" + bytes(60)),
        ("pickle", lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR."),
        ("animated", lambda: _animated("WEBP")),
        ("animated PNG", lambda: _animated("PNG")),
        ("AIFF", lambda: audio_file("AIFF")),
        ("AU", lambda: audio_file("AU")),
        ("8 bits", lambda: audio_file(subtype="PCM_U8")),
        ("A-law", lambda: audio_file(subtype="ALAW")),
        ("ADPCM", lambda: audio_file(subtype="IMA_ADPCM")),
        ("nothing", lambda: b""),
        ("a byte", lambda: b"\xff"),
        ("a magic number alone", lambda: one_of(rng, [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"fLaC", b"ID3"])),
        ("RIFF alone", lambda: b"RIFF" + bytes(4) + one_of(rng, [b"WAVE", b"WEBP"])),
    ])  # fmt: skip
    slot = one_of(rng, ["photo", "sound"])
    if name not in _made:
        _made[name] = make()
    return f"{name} as {slot}", slot, _made[name]


def _animated(form: str) -> bytes:
    file = io.BytesIO()
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue", "green")]
    frames[0].save(file, form, save_all=True, append_images=frames[1:])
    return file.getvalue()
