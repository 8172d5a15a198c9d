"""Parts of an audio file, cut so that a decoder reads all that is there. Never imports torch.

The structure of the file decides, not the number in its header, which programs that write a stream guess, leave at 0
or never correct.
"""

import io
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

from encoders.preprocessing.base import UnreadableValueError
from encoders.preprocessing.files import FileView, Stream, read_at
from encoders.preprocessing.mpeg import count_frames, tag_size
from encoders.preprocessing.ogg import ogg_links

_UNKNOWN_LENGTH = 0x7FFF_F000  # programs that write into a pipe put this or more for the length (sox, ffmpeg)
_MPEG_IN_WAV = (0x50, 0x55)  # format tags, RFC 2361
_CHUNK = re.compile(rb"[A-Za-z_][A-Za-z0-9_ ]{3}")
_MOST_CHUNKS, _MOST_TAGS = 1_000, 10  # else a file takes long before it is read
_MPEG_WINDOW = 5_000_000  # bytes; a minute at 448 kbit/s has 3.4 million
_ENDLESS = 20_000_000  # bytes; at any bit rate they last longer than a minute


@dataclass(frozen=True)
class Part:
    """A stretch of a file that is decoded by itself.

    Args:
        stream: what the decoder is given.
        frames: samples of a channel that it has to give; None: as many as the decoder finds in its header.
        is_flac: whether its decoder is told no length.
    """

    stream: Stream
    frames: int | None = None
    is_flac: bool = False


def parts_of(file: BinaryIO, name: str, max_seconds: float) -> list[Part]:
    """The file's parts, in order: one, but for the links of a chained Ogg stream.

    Raises:
        UnreadableValueError: if it ends before, or continues after, what its header says: samples would be lost.
    """
    stop = file.seek(0, 2)
    start = _after_tags(file)
    magic = read_at(file, start, 12)
    if magic[:4] in (b"RIFF", b"RIFX") and magic[8:] == b"WAVE":
        return [_wav(file, start, stop, name, max_seconds)]
    if magic[:4] == b"fLaC":
        return [_flac(file, start, stop)]
    if magic[:4] == b"OggS":
        links = ogg_links(file, start, stop, name)
        return [Part(FileView(file, *link) if start or len(links) > 1 else file) for link in links]
    return [_mpeg(file, start, name, max_seconds)]


def too_long(name: str, max_seconds: float) -> UnreadableValueError:
    """The error of what is not read on, so that nobody knows how long it is."""
    return UnreadableValueError(f"{name}: lasts more than {max_seconds} s, which are read at most; cut it into parts")


def _after_tags(file: Stream, place: int = 0) -> int:
    for _ in range(_MOST_TAGS):
        place += tag_size(read_at(file, place, 16))
    return place


# --- mp3 ---------------------------------------------------------------------------------------------------------


def _mpeg(file: Stream, start: int, name: str, max_seconds: float) -> Part:
    """Frames up to the last one, however many the file says there are.

    A decoder that is not told the length guesses it from the file's size, and reads no further; so it is given a size
    from which it guesses more than may be read.
    """
    data = read_at(file, start, _MPEG_WINDOW)
    frames = count_frames(data, max_seconds)
    if frames is None:
        is_free_format = data[:1] == b"\xff"
        return Part(FileView(file, 0, file.seek(0, 2), claimed=_ENDLESS), frames=0) if is_free_format else Part(file)
    if frames.changes:
        raise UnreadableValueError(
            f"{name}: changes its sample rate or its channels after {frames.samples / frames.rate:.2f} s; files that "
            "were put one after the other have to be alike, convert them to one first"
        )
    is_long, stop = frames.samples > max_seconds * frames.rate, file.seek(0, 2)
    is_cut = not is_long and start + len(data) < stop and _after_tags(file, start + frames.end) < stop
    if frames.claimed is not None and frames.claimed >= frames.count and not is_cut:
        return Part(file)  # with the delay and the padding that are cut off
    if is_long:
        raise too_long(name, max_seconds)
    if frames.is_scattered or is_cut:
        raise UnreadableValueError(f"{name}: holds too much between its frames that is no audio; convert it")
    view = FileView(io.BytesIO(data), frames.begin, frames.end, claimed=_ENDLESS)
    return Part(view, frames=frames.samples)


# --- wav ---------------------------------------------------------------------------------------------------------


def _wav(file: BinaryIO, start: int, stop: int, name: str, max_seconds: float) -> Part:
    order = "<" if read_at(file, start, 4) == b"RIFF" else ">"
    kind, place, size, encoding = _data_chunk(file, start + 12, stop, order, name)
    whole = Part(FileView(file, start, stop) if start else file)
    if kind != b"data":
        return whole  # the decoder says what is wrong
    end = place + size
    if stop < end and size < _UNKNOWN_LENGTH:
        raise UnreadableValueError(f"{name}: ends before its header says; it is truncated, copy it again")
    is_unclosed = size == 0 and not _are_chunks(file, place, stop, order, is_exact=True)
    if end < stop and size and not _are_chunks(file, end, stop, order, is_odd=size % 2 == 1):
        raise UnreadableValueError(
            f"{name}: continues for {stop - end} bytes after the end that its header says, which are no part of a wav; "
            "correct the sizes in its header, or split it where two files were put together"
        )
    if encoding in _MPEG_IN_WAV:
        return _mpeg(FileView(file, place, stop if is_unclosed else min(end, stop)), 0, name, max_seconds)
    if is_unclosed:  # the program that wrote it ended before it could write the size
        head = read_at(file, start, place - start - 4) + struct.pack(order + "I", 0xFFFF_FFFE)
        return Part(FileView(file, start, stop, head))
    return whole


def _data_chunk(file: BinaryIO, place: int, stop: int, order: str, name: str) -> tuple[bytes, int, int, int]:
    """The first chunk that holds samples: ``data``, where its content begins, its size; and how they are encoded."""
    encoding = 0
    for _ in range(_MOST_CHUNKS):
        head = read_at(file, place, 10)
        if len(head) < 8:
            return b"", place, 0, encoding
        kind, size = head[:4], struct.unpack(order + "I", head[4:8])[0]
        if kind == b"data":
            return kind, place + 8, size, encoding
        if kind == b"fmt " and len(head) == 10:
            encoding = struct.unpack(order + "H", head[8:])[0]
        place += 8 + size + size % 2
    raise UnreadableValueError(f"{name}: has more than {_MOST_CHUNKS} chunks before its samples; convert it")


def _are_chunks(
    file: BinaryIO, place: int, stop: int, order: str, *, is_odd: bool = False, is_exact: bool = False
) -> bool:
    """True if the rest of a wav is chunks, a tag or padding, and no samples.

    Args:
        is_odd: whether what is before has an odd size; the byte after it, which not every program writes, is 0.
        is_exact: whether the chunks have to end where the file does.
    """
    for _ in range(_MOST_CHUNKS):
        head = read_at(file, place, 9)
        if is_odd and head[:1] == b"\0":
            place, head = place + 1, head[1:]
        if len(head) < 8:
            return not (is_exact and head)
        if not is_exact and (tag_size(read_at(file, place, 16)) or not any(head)):
            return True
        if not _CHUNK.fullmatch(head[:4]) or (not is_exact and head[:4] in (b"RIFF", b"RIFX", b"data")):
            return False
        size = struct.unpack(order + "I", head[4:8])[0]
        place, is_odd = place + 8 + size, size % 2 == 1
        if place > stop:
            return not is_exact
    return False


# --- flac --------------------------------------------------------------------------------------------------------


def _flac(file: BinaryIO, start: int, stop: int) -> Part:
    """The number of samples is taken out: the decoder reads to the end then. Format: RFC 9639 section 8.2."""
    head = bytearray(read_at(file, start, 26))
    if len(head) < 26:
        return Part(file)
    samples = int.from_bytes(head[21:26], "big") & 0xF_FFFF_FFFF
    head[21:26] = (head[21] & 0xF0, 0, 0, 0, 0)
    return Part(FileView(file, start, _before_tags(file, stop), bytes(head)), frames=samples, is_flac=True)


def _before_tags(file: BinaryIO, stop: int) -> int:
    """Start of the ID3v1 and APE tags at the end: the decoder fails at bytes that are not its own."""
    if read_at(file, max(0, stop - 128), 3) == b"TAG":
        stop -= 128
    foot = read_at(file, max(0, stop - 32), 32)
    if foot[:8] == b"APETAGEX":
        has_header = foot[23] & 0x80
        stop -= int.from_bytes(foot[12:16], "little") + (32 if has_header else 0)
    return max(0, stop)
