"""Checks of image and audio files before decoding, by their first bytes and headers."""

from encoders.preprocessing import UnreadableValueError
from encoders.preprocessing.audio_files import audio_size
from encoders.preprocessing.image_files import image_size
from export.serving.responses import RequestError
from export.serving.settings import Limits

_SCAN = b"\xff\xda"  # starts a scan of a JPEG; inside a scan's data 0xff is always followed by 0x00 or a restart
_MAX_SCANS = 100  # a progressive JPEG has about 10, and each goes over all pixels


def check_image(data: bytes, limits: Limits) -> int:
    """Number of pixels of an image that may be decoded.

    Raises:
        RequestError: 415 if it is no JPEG, PNG or WebP file; 413 if it is too large; 422 if its header is damaged.
    """
    is_jpeg = data.startswith(b"\xff\xd8\xff")
    if not (is_jpeg or data.startswith(b"\x89PNG\r\n\x1a\n") or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")):
        raise RequestError(415, f"{_begins(data)}, which is no image in JPEG, PNG or WebP; convert it to one")
    try:
        width, height = image_size(data)
    except UnreadableValueError as error:
        raise RequestError(422, str(error)) from error
    if width * height > limits.max_pixels:
        most = limits.max_pixels / 1e6
        raise RequestError(
            413, f"the image has {width} x {height} pixels; this server allows {most:g} megapixels, send it smaller"
        )
    if is_jpeg and data.count(_SCAN) > _MAX_SCANS:
        raise RequestError(413, f"the JPEG has more than {_MAX_SCANS} scans; save it again, without or with usual ones")
    return width * height


def check_audio(data: bytes, limits: Limits) -> None:
    """Checks that an audio file may be decoded.

    Raises:
        RequestError: 415 if it is no wav, flac, ogg or mp3 file; 413 if it is too long; 422 if its header is damaged.
    """
    is_mp3 = data[:3] == b"ID3" or (len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0)
    is_wav = data[:4] in (b"RIFF", b"RIFX") and data[8:12] == b"WAVE"
    if not (is_wav or is_mp3 or data[:4] in (b"fLaC", b"OggS")):
        raise RequestError(415, f"{_begins(data)}, which is no audio in wav, flac, ogg or mp3; convert it to one")
    try:
        frames, channels = audio_size(data, limits.max_samples)
    except UnreadableValueError as error:
        raise RequestError(422, str(error)) from error
    if frames * channels > limits.max_samples:
        raise RequestError(
            413,
            f"the audio has {channels} channels of {frames} samples; this server allows {limits.max_samples} samples "
            "in all, cut it, or send one channel at a lower rate",
        )


def _begins(data: bytes) -> str:
    return f"begins with {data[:8].hex(' ')}" if data else "has no bytes"
