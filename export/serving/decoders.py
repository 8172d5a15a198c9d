"""Decoders that keep their remarks on damaged files to themselves."""

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import encoders.preprocessing.audio_files  # noqa: F401  # the library has to be loaded

_LIBRARIES = re.compile(r"lib(sndfile|mpg123)[^/]*\.so[^/]*$")  # a wheel's libsndfile has the other one inside
_READ, _READ_WRITE = 1, 3  # PROT_READ, and with PROT_WRITE, of Linux


@contextmanager
def decoders_muted() -> Iterator[None]:
    """Keeps libmpg123 from writing to stderr inside the block, and nobody else (Linux; elsewhere it does nothing).

    It writes several lines for each damaged mp3, from C, past every log: libsndfile does not ask it to be quiet
    (MPG123_QUIET) and has no option for it. To close or redirect file descriptor 2, or C's ``stderr``, would take away
    what others say there, too, such as the last words of a process. But each library finds C's ``stderr`` by a pointer
    of its own, and that of these libraries leads to /dev/null inside the block.
    """
    pointers = list(_pointers_to_stderr()) if sys.platform == "linux" else []
    before = [_set(address, mode, ctypes.addressof(_nowhere())) for address, mode in pointers]
    try:
        yield
    finally:
        for (address, mode), value in zip(pointers, before, strict=True):
            _set(address, mode, value)


@cache
def _nowhere() -> ctypes.c_void_p:
    """What ``stderr`` is in C, for /dev/null; never freed, as a decoding thread may outlive the block."""
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    return ctypes.c_void_p(libc.fopen(os.devnull.encode(), b"w"))


def _pointers_to_stderr() -> Iterator[tuple[int, str]]:
    """Addresses of the libraries' pointers to ``stderr`` (in global offset tables), and the mode of that memory."""
    try:
        wanted = bytes(ctypes.c_void_p(ctypes.addressof(ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stderr"))))
        lines = Path("/proc/self/maps").read_text().splitlines()
    except (OSError, ValueError):  # no /proc, or a libc without that name
        return
    for line in lines:
        span, mode, *_ = line.split(maxsplit=2)
        if mode.startswith("r") and "x" not in mode and _LIBRARIES.search(line):
            begin, end = (int(number, 16) for number in span.split("-"))
            content = ctypes.string_at(begin, end - begin)
            for match in re.finditer(re.escape(wanted), content):
                yield begin + match.start(), mode


def _set(address: int, mode: str, value: int) -> int:
    """Changes a pointer, which the loader may have made read-only; returns what it was."""
    pointer = ctypes.c_void_p.from_address(address)
    before = pointer.value
    assert before is not None
    libc, size = ctypes.CDLL(None), os.sysconf("SC_PAGE_SIZE")
    page = ctypes.c_void_p(address - address % size), ctypes.c_size_t(size)
    is_open = "w" in mode or libc.mprotect(*page, _READ_WRITE) == 0  # a sandbox may forbid it
    if is_open:
        pointer.value = value
    if is_open and "w" not in mode:
        libc.mprotect(*page, _READ)
    return before
