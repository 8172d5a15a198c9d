"""Frames of an mp3, counted: most mp3 files do not say how long they are, or only guess. Never imports torch."""

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

_KBITS = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""(MPEG-1, layer) -> kbit/s by index, ISO/IEC 11172-3 and 13818-3."""
_HALVINGS = {3: 0, 2: 1, 0: 2}
"""Version bits -> how often the rates of MPEG-1 are halved: MPEG-1, MPEG-2, MPEG-2.5."""
_SYNC = re.compile(rb"\xff[\xe2-\xff][\x10-\xef]")
_MOST_GAPS, _MOST_GUESSES = 50, 2_000  # between frames, and what looks like one in each; else it takes long to count


class _Frame(NamedTuple):
    kind: tuple[int, bool]
    """Version, layer and rate; whether it is mono: one decoder reads frames of one kind."""
    size: int
    samples: int
    rate: int


@dataclass(frozen=True)
class Frames:
    """Frames of an mp3.

    Args:
        count: whole frames, without the one that describes the others.
        samples: of one channel, in these frames.
        rate: Hz.
        begin: offset of the first of them.
        end: offset after the last.
        is_scattered: whether they are counted no further, because so often other bytes lie between them.
        changes: whether frames of another rate, layer or number of channels follow there.
        claimed: how many the frame before them says there are (Xing, Info); None if it does not.
    """

    count: int
    samples: int
    rate: int
    begin: int
    end: int
    is_scattered: bool
    changes: bool
    claimed: int | None


def count_frames(data: bytes, max_seconds: float) -> Frames | None:
    """Frames over tags and other bytes between them; not many more than ``max_seconds`` hold.

    None where ``data`` begins with no frame, or with one of free format, whose size is not said.
    """
    first = _frame(data[:4])
    if first is None:
        return None
    is_described, claimed = _described(data)
    begin = first.size if is_described else 0
    place: int | None = begin
    count = samples = gaps = 0
    end, most, changes = begin, max_seconds * first.rate, False
    while place is not None and samples <= most and gaps <= _MOST_GAPS:
        frame = _frame(data[place : place + 4])
        if frame is not None and frame.kind == first.kind and place + frame.size <= len(data):
            count, samples, place = count + 1, samples + frame.samples, place + frame.size
            end = place
        elif frame is not None and frame.kind != first.kind and _is_followed(data, place, frame):
            changes, place = True, None
        else:
            gaps, place = gaps + 1, _next_frame(data, place)
    return Frames(count, samples, first.rate, begin, end, gaps > _MOST_GAPS, changes, claimed)


def tag_size(head: bytes) -> int:
    """Bytes of the ID3v1, ID3v2 or APE tag that begins with ``head``; 0 if none does.

    >>> tag_size(b"ID3" + bytes([4, 0, 0, 0, 0, 1, 2])), tag_size(b"TAG"), tag_size(b"RIFF")
    (140, 128, 0)
    """
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 128:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        return 10 + size + (10 if head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) >= 16:
        return 32 + int.from_bytes(head[12:16], "little")
    return 128 if head[:3] == b"TAG" else 0


@lru_cache(4096)
def _frame(header: bytes) -> _Frame | None:
    bits = int.from_bytes(header, "big")
    version, layer, bitrate, rate = bits >> 19 & 3, 4 - (bits >> 17 & 3), bits >> 12 & 15, bits >> 10 & 3
    if len(header) < 4 or bits >> 21 != 0x7FF or version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    hertz = (44_100, 48_000, 32_000)[rate] >> _HALVINGS[version]
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    slot = 4 if layer == 1 else 1
    kbits = _KBITS[version == 3, layer][bitrate]
    size = (samples // 8 // slot * kbits * 1000 // hertz + (bits >> 9 & 1)) * slot
    return _Frame((bits & 0xFFFE_0C00, bits >> 6 & 3 == 3), size, samples, hertz)


def _described(data: bytes) -> tuple[bool, int | None]:
    """True if the first frame describes the others instead of holding samples; and the count that it gives."""
    is_mono, is_first_version = data[3] >> 6 == 3, data[1] >> 3 & 3 == 3
    side = {(True, True): 17, (True, False): 32, (False, True): 9, (False, False): 17}[is_first_version, is_mono]
    info = data[4 + side : 4 + side + 12]
    if info[:4] not in (b"Xing", b"Info") or len(info) < 12 or any(data[6 : 4 + side]):
        return False, None
    number = int.from_bytes(info[8:], "big")
    return True, number if info[7] & 1 and number else None


def _is_followed(data: bytes, place: int, frame: _Frame) -> bool:
    """True if another frame of its kind, or the end, follows at once: four bytes may look like a frame."""
    after = _frame(data[place + frame.size : place + frame.size + 4])
    return place + frame.size == len(data) or (after is not None and after.kind == frame.kind)


def _next_frame(data: bytes, place: int) -> int | None:
    """Place of the next frame after what is none at ``place``."""
    if size := tag_size(data[place : place + 16]):
        return place + size if place + size < len(data) else None
    for match in islice(_SYNC.finditer(data, place + 1), _MOST_GUESSES):
        frame = _frame(data[match.start() : match.start() + 4])
        if frame is not None and _is_followed(data, match.start(), frame):
            return match.start()
    return None
