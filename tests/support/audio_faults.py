"""Audio files whose headers do not tell how long they are."""

import io
import struct
import zlib
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import soundfile


@cache
def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Quiet, then loud, so that a variable bit rate varies."""
    values = 0.1 * np.random.default_rng(seed).standard_normal(samples)
    values[: samples // 2] *= 0.01
    return values


def encoded(samples: np.ndarray, rate: int, form: str = "WAV", subtype: str | None = None, **options: Any) -> bytes:
    """The file that soundfile writes."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype, **options)
    return file.getvalue()


def read(data: bytes) -> np.ndarray:
    """What soundfile reads of a file whose header is right."""
    return soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].mean(axis=1)


# --- mp3 ---------------------------------------------------------------------------------------------------------


def info_frame(mp3: bytes) -> tuple[int, int]:
    """Offset of the number of frames in the first frame, and where the second begins."""
    offset = max(mp3.find(b"Xing"), mp3.find(b"Info")) + 8
    return offset, mp3.index(mp3[:2], 4)


def without_length(mp3: bytes) -> bytes:
    """The frames alone, as a stream has them."""
    return mp3[info_frame(mp3)[1] :]


def claiming(mp3: bytes, frames: int) -> bytes:
    """Another number of frames in its header."""
    offset, _ = info_frame(mp3)
    return mp3[:offset] + struct.pack(">I", frames) + mp3[offset + 4 :]


def claimed(mp3: bytes) -> int:
    """The number of frames in its header."""
    offset, _ = info_frame(mp3)
    return int(struct.unpack(">I", mp3[offset : offset + 4])[0])


def id3(size: int) -> bytes:
    """An empty ID3v2 tag with that many bytes of padding."""
    return b"ID3\x04\0\0" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0)) + bytes(size)


def ape(content: bytes) -> bytes:
    """An APEv2 tag with header and footer."""
    head, foot = (
        b"APETAGEX" + struct.pack("<IIII", 2000, len(content) + 32, 1, flags) + bytes(8)
        for flags in (0xA000_0000, 0x8000_0000)
    )
    return head + content + foot


# --- wav, flac, ogg ----------------------------------------------------------------------------------------------


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a wav."""
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def sized(wav: bytes, data: int | None = None, riff: int | None = None) -> bytes:
    """A wav with other sizes in its header."""
    order, place = "<" if wav[:4] == b"RIFF" else ">", wav.index(b"data") + 4
    if data is not None:
        wav = wav[:place] + struct.pack(order + "I", data) + wav[place + 4 :]
    return wav if riff is None else wav[:4] + struct.pack(order + "I", riff) + wav[8:]


def mpeg_wav(mp3: bytes, rate: int) -> bytes:
    """A wav whose samples are an mp3."""
    form = struct.pack("<HHIIHHHHIHHH", 0x55, 1, rate, 16_000, 1, 0, 12, 1, 2, 1152, 1, 1393)
    body = b"WAVE" + chunk(b"fmt ", form) + chunk(b"fact", bytes(4)) + chunk(b"data", mp3)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def flac_claiming(flac: bytes, samples: int) -> bytes:
    """Another number of samples in its header; 0 is unknown."""
    return flac[:21] + bytes([flac[21] & 0xF0 | samples >> 32]) + struct.pack(">I", samples % 2**32) + flac[26:]


def ogg_pages(ogg: bytes) -> list[bytes]:
    """Its pages."""
    starts = [0]
    while (place := starts[-1]) < len(ogg):
        starts.append(place + 27 + ogg[place + 26] + sum(ogg[place + 27 : place + 27 + ogg[place + 26]]))
    return [ogg[start:end] for start, end in pairwise(starts)]


def last_page_claiming(ogg: bytes, granule: int) -> bytes:
    """Another end on its last page, which stays valid."""
    *pages, last = ogg_pages(ogg)
    page = bytearray(last)
    page[6:14], page[22:26] = struct.pack("<q", granule), bytes(4)
    page[22:26] = struct.pack("<I", _ogg_checksum(bytes(page)))
    return b"".join(pages) + bytes(page)


def _ogg_checksum(page: bytes) -> int:
    """The polynomial of zlib's, with bits the other way round, and nothing inverted."""
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in page)
    value = zlib.crc32(mirrored, 0xFFFF_FFFF) ^ 0xFFFF_FFFF  # cancels what zlib inverts, before and after
    return int(f"{value:032b}"[::-1], 2)
