"""Streams of an Ogg file and the pages that they are made of, RFC 3533. Never imports torch."""

from collections.abc import Iterator
from typing import BinaryIO

from encoders.preprocessing.base import UnreadableValueError
from encoders.preprocessing.files import read_at

_MOST_PAGES, _MOST_LINKS = 100_000, 100  # else a file takes long before it is read
_FIRST_PAGE, _LAST_PAGE = 0x02, 0x04  # flags of a page, RFC 3533 section 6


def ogg_links(file: BinaryIO, start: int, stop: int, name: str) -> list[tuple[int, int]]:
    """Start and end of each stream of a chained file (RFC 3533 section 4): a decoder reads the first alone.

    Raises:
        UnreadableValueError: if a stream is cut off, or continues after its end.
    """
    starts, flags, is_beginning = [start], _FIRST_PAGE, True
    reached: dict[bytes, int] = {}
    for number, (place, page) in enumerate(_pages(file, start, stop, name)):
        if number > _MOST_PAGES or len(starts) > _MOST_LINKS:
            raise UnreadableValueError(f"{name}: has over {_MOST_PAGES} pages or {_MOST_LINKS} streams; convert it")
        if page[5] & _FIRST_PAGE and not is_beginning:
            _check_last_page(flags, name)
            starts.append(place)
            reached.clear()
        flags, is_beginning = page[5], bool(page[5] & _FIRST_PAGE)
        serial, samples = page[14:18], int.from_bytes(page[6:14], "little", signed=True)
        if samples == -1 and page[27:] == b"\xff" * (len(page) - 27):
            continue  # no packet ends in it
        if samples < reached.get(serial, 0):
            raise UnreadableValueError(
                f"{name}: continues after the end that one of its pages gives ({samples}, where "
                f"{reached.get(serial, 0)} has been reached); convert it"
            )
        reached[serial] = samples
    _check_last_page(flags, name)
    return list(zip(starts, [*starts[1:], stop], strict=True))


def _check_last_page(flags: int, name: str) -> None:
    if not flags & _LAST_PAGE:
        raise UnreadableValueError(f"{name}: ends before its header says; it is truncated, copy it again")


def _pages(file: BinaryIO, start: int, stop: int, name: str) -> Iterator[tuple[int, bytes]]:
    """Place and header of each page; what lies between pages is skipped."""
    place = end = start
    while end < stop:
        head = read_at(file, end, 27 + 255)
        if head[:4] == b"OggS":
            place, head = end, head[: 27 + (head[26] if len(head) > 26 else 255)]
            end = place + len(head) + sum(head[27:])
            if len(head) < 27 or len(head) < 27 + head[26] or end > stop:
                _check_last_page(0, name)
            yield place, head
            continue
        following = _find(file, b"OggS", place + 4)
        if 0 <= following < end:  # the next page begins before this one ends
            _check_last_page(0, name)
        place = end = following if following >= 0 else stop


def _find(file: BinaryIO, pattern: bytes, place: int) -> int:
    """Offset of ``pattern`` at or after ``place``; -1 if it is not there."""
    while len(block := read_at(file, place, 1 << 16)) >= len(pattern):
        if (found := block.find(pattern)) >= 0:
            return place + found
        place += len(block) - len(pattern) + 1
    return -1
