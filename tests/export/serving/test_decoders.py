"""Decoders of the server: damaged files write nothing past its log, and everything else still may."""

import base64
import ctypes
import io
import json
import os
import subprocess
import sys
from contextlib import closing, suppress
from http.client import HTTPConnection

import numpy as np
import pytest
import soundfile
from support.server_process import Running

from encoders.preprocessing import UnreadableValueError
from encoders.preprocessing.audio_files import read_audio
from export.serving.decoders import _pointers_to_stderr, decoders_muted

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="it does nothing elsewhere")


def mp3() -> bytes:
    """Three seconds of noise."""
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, 48_000), 16_000, format="MP3")
    return file.getvalue()


def scattered(seed: int) -> bytes:
    """The file with bytes exchanged all over."""
    rng, content = np.random.default_rng(seed), bytearray(mp3())
    for place in rng.integers(200, len(content), 60):
        content[place] = rng.integers(256)
    return bytes(content)


DAMAGED = {
    "bytes exchanged": scattered(1),
    "more bytes exchanged": scattered(2),
    "a hole": mp3()[:4_000] + mp3()[5_001:],
    "zeros": mp3()[:4_000] + bytes(1_000) + mp3()[5_000:],
    "ones": mp3()[:4_000] + b"\xff" * 1_000 + mp3()[5_000:],
    "text inside": mp3()[:4_000] + b"2026-12-01T00:00:00.000Z info forged\n" * 30 + mp3()[5_000:],
    "cut off": mp3()[:7_001],
}


def decode(content: bytes) -> None:
    with suppress(UnreadableValueError):
        read_audio(io.BytesIO(content), "clip.mp3")


@on_linux
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_mp3_writes_nothing(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with decoders_muted():
        decode(DAMAGED[name])
    assert capfd.readouterr() == ("", "")


@on_linux
def test_what_is_muted_does_write_and_does_so_again_afterwards(capfd: pytest.CaptureFixture[str]) -> None:
    written = []
    for muted in (False, True, False):
        if muted:
            with decoders_muted():
                list(map(decode, DAMAGED.values()))
        else:
            list(map(decode, DAMAGED.values()))
        written.append(capfd.readouterr().err)
    assert "mpg123" in written[0]
    assert written == [written[0], "", written[0]]


@on_linux
def test_everything_else_still_reaches_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with decoders_muted():
        ctypes.CDLL(None).perror(b"from C")
        os.write(2, b"from the descriptor\n")
        print("from Python", file=sys.stderr)
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["from C", "from the descriptor", "from Python"]


@on_linux
def test_the_table_of_the_library_is_left_as_it_was() -> None:
    before = list(_pointers_to_stderr())
    assert len(before) >= 1
    with decoders_muted():
        assert list(_pointers_to_stderr()) == []
        with decoders_muted():
            decode(mp3())
    assert list(_pointers_to_stderr()) == before


@on_linux
def test_a_good_file_is_decoded_as_ever() -> None:
    expected = read_audio(io.BytesIO(mp3()), "clip.mp3")[0]
    with decoders_muted():
        np.testing.assert_array_equal(read_audio(io.BytesIO(mp3()), "clip.mp3")[0], expected)


@on_linux
def test_a_fatal_error_still_says_its_last_words() -> None:
    program = (
        "import ctypes\nfrom export.serving.decoders import decoders_muted\n"
        "with decoders_muted():\n    ctypes.pythonapi.Py_FatalError(b'the last words')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "the last words" in done.stderr
    assert done.returncode < 0


@on_linux
def test_a_server_writes_nothing_of_damaged_mp3s(running: Running) -> None:
    running.wait_until_ready()
    for content in DAMAGED.values():
        with closing(HTTPConnection("127.0.0.1", running.port, timeout=240)) as connection:
            body = json.dumps({"sound": base64.b64encode(content).decode()})
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            assert connection.getresponse().status in (200, 422)
    assert running.stop() == (0, "")
