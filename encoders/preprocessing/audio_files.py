"""Audio files, decoded to their end whatever their headers guess, within limits. Never imports torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
import soundfile

from encoders.preprocessing.audio_parts import Part, parts_of, too_long
from encoders.preprocessing.base import UnreadableValueError
from encoders.preprocessing.files import file_name, open_file

FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3")
MAX_SECONDS = 60
MAX_CHANNELS = 8
MIN_RATE, MAX_RATE = 8_000, 192_000

_BLOCK = 65_536  # samples decoded at a time, so that only one channel is ever held whole
_FLAC_BEGINS = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")  # with STREAMINFO, alone or not, RFC 9639 section 8


def read_audio(file: BinaryIO, name: str) -> tuple[np.ndarray, int]:
    """The average of its channels, float32 ``[s]``, and its rate in Hz.

    Raises:
        UnreadableValueError: if it is no wav, flac, ogg or mp3 file, is damaged, or exceeds a limit.
    """
    waveforms: list[np.ndarray] = []
    rates: list[int] = []
    for part in parts_of(file, name, MAX_SECONDS):
        waveform, rate = _read_flac(part, file, name) if part.is_flac else _read_part(part, name)
        waveforms.append(waveform)
        rates.append(rate)
        if rate != rates[0]:
            raise UnreadableValueError(f"{name}: changes from {rates[0]} to {rate} Hz within; convert it to one rate")
        check_length(sum(map(len, waveforms)), rate, name)
    return np.concatenate(waveforms) if len(waveforms) > 1 else waveforms[0], rates[0]


def audio_size(data: bytes, most: int) -> tuple[int, int]:
    """Samples and channels of an audio file; decoded is only what its structure does not tell, up to about ``most``.

    Raises:
        UnreadableValueError: if it is no wav, flac, ogg or mp3 file.
    """
    name = file_name(data)
    frames = channels = 0
    with open_file(data) as file:
        for part in parts_of(file, name, MAX_SECONDS):
            with _opened(part, name) as handle:
                told = handle.frames if part.frames is None else part.frames
                if not told or (part.is_flac and _goes_on(handle, told)):
                    told += bool(told) + sum(map(len, _blocks(handle, most // handle.channels)))
                frames, channels = frames + told, max(channels, handle.channels)
    return frames, channels


def loudest_channel(file: BinaryIO, name: str) -> float:
    """Peak of the loudest channel of a file that ``read_audio`` reads."""
    peak = 0.0
    for part in parts_of(file, name, MAX_SECONDS):
        with _opened(part, name) as handle:
            while len(block := handle.read(_BLOCK, dtype="float32", always_2d=True)) > 0:
                peak = max(peak, float(np.abs(block).max()))
    return peak


def check_form(channels: int, rate: int, name: str) -> None:
    """Refuses what has a rate or a number of channels that is not read."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise UnreadableValueError(f"{name}: has {rate} Hz; {MIN_RATE} to {MAX_RATE} Hz are read, resample it first")
    if not 1 <= channels <= MAX_CHANNELS:
        raise UnreadableValueError(
            f"{name}: has {channels} channels; 1 to {MAX_CHANNELS} are read (an array is [s, channels]), mix it down"
        )


def check_length(frames: int, rate: int, name: str) -> None:
    """Refuses what lasts longer than is read."""
    if frames > MAX_SECONDS * rate:
        raise UnreadableValueError(
            f"{name}: lasts {frames / rate:.1f} s; at most {MAX_SECONDS} s are read, cut it into parts"
        )


class _Forward(soundfile.SoundFile):
    """Read from its start to its end: to seek after each block, as ``SoundFile`` does, needs a known length."""

    def seekable(self) -> bool:
        return False


@contextmanager
def _opened(part: Part, name: str) -> Iterator[soundfile.SoundFile]:
    """The part's header; what reading it raises becomes one error."""
    try:
        part.stream.seek(0)
        with (_Forward if part.is_flac else soundfile.SoundFile)(part.stream) as handle:
            if handle.format not in FORMATS:
                raise UnreadableValueError(f"{name}: is a {handle.format} file; convert it to wav, flac, ogg or mp3")
            yield handle
    except UnreadableValueError:
        raise
    except Exception as error:  # soundfile's own, and what reading a damaged file raises in its callbacks
        reason = getattr(error, "error_string", error)
        raise UnreadableValueError(
            f"{name}: is not a readable wav, flac, ogg or mp3 file ({reason}); copy it again or convert it"
        ) from error


def _read_part(part: Part, name: str) -> tuple[np.ndarray, int]:
    with _opened(part, name) as handle:
        frames, rate = handle.frames if part.frames is None else part.frames, handle.samplerate
        check_form(handle.channels, rate, name)
        check_length(frames, rate, name)
        blocks = list(_blocks(handle, MAX_SECONDS * rate))
    waveform = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if len(waveform) > MAX_SECONDS * rate:  # what the header allows is not all that is there
        raise too_long(name, MAX_SECONDS)
    if len(waveform) < frames:
        raise UnreadableValueError(
            f"{name}: {len(waveform)} of its {frames} samples can be decoded; it is truncated or damaged, copy it again"
        )
    return waveform, rate


def _blocks(handle: soundfile.SoundFile, most: int) -> Iterator[np.ndarray]:
    """The average of its channels, a block at a time, until one goes beyond ``most`` samples.

    Not by ``SoundFile.blocks``, which returns old memory where a file ends too early.
    """
    length = 0
    while length <= most and len(block := handle.read(_BLOCK, dtype="float32", always_2d=True)) > 0:
        length += len(block)
        yield block.mean(axis=1)


def _read_flac(part: Part, file: BinaryIO, name: str) -> tuple[np.ndarray, int]:
    """All of it; or as much as the header says, where other bytes follow, at which a decoder without length fails."""
    try:
        return _read_part(part, name)
    except UnreadableValueError as error:
        if not part.frames or not isinstance(error.__cause__, soundfile.LibsndfileError):
            raise
    decoded = _read_part(Part(file), name)
    with _opened(part, name) as handle:
        if _goes_on(handle, part.frames) or _number_of_flacs(file) > 1:
            raise UnreadableValueError(
                f"{name}: continues after the end that its header says, and not as one flac; split it, or convert it"
            )
    return decoded


def _goes_on(handle: soundfile.SoundFile, frames: int) -> bool:
    """True if there are samples after that many."""
    try:
        soundfile.SoundFile.seek(handle, frames - 1)
        return len(handle.read(2)) > 1
    except soundfile.LibsndfileError:
        return False


def _number_of_flacs(file: BinaryIO) -> int:
    number, end = 0, b""
    file.seek(0)
    while block := file.read(1 << 20):
        content = end + block
        number += sum(map(content.count, _FLAC_BEGINS))
        end = content[1 - len(_FLAC_BEGINS[0]) :]
    return number
