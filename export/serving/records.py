"""Records of raw values from a request's body: no value is ever a path or an address."""

import base64
import binascii
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from export.serving.body import parse_json
from export.serving.media import check_audio, check_image
from export.serving.responses import RequestError
from export.serving.settings import Limits
from multimodal.records.cells import is_missing

MAX_KEY = 40
"""Characters of an input's name."""
Record = dict[str, Any]


def records_of_json(body: bytes, modalities: Mapping[str, str], limits: Limits) -> list[Record]:
    """Records of a JSON object, or of a list of them; files are base64.

    Args:
        modalities: input -> modality.

    Raises:
        RequestError: with the record and the input, where it is one of them.
    """
    content = parse_json(body, limits.max_values)
    records = content if isinstance(content, list) else [content]
    if not records or len(records) > limits.max_records:
        status = 413 if records else 400
        raise RequestError(status, f"the body has {len(records)} records; send 1 to {limits.max_records}")
    return [_decoded(record, number, modalities, limits) for number, record in enumerate(records)]


def _decoded(record: Any, number: int, modalities: Mapping[str, str], limits: Limits) -> Record:
    if not isinstance(record, dict):
        kind = type(record).__name__
        raise RequestError(400, f"is a {kind}; give an object with inputs as keys", record=number)
    check_names(list(record), number)
    return {name: _value(value, name, number, modalities.get(name)) for name, value in record.items()}


def _value(value: Any, name: str, number: int, modality: str | None) -> Any:
    if modality not in ("image", "audio"):
        return value
    if is_missing(value):
        return None
    if not isinstance(value, str):
        raise RequestError(422, f"is a {type(value).__name__}; give base64 of a file", record=number, input=name)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        reason = f"is not base64 ({error}); a path or a web address is not read, send the file's bytes as base64"
        raise RequestError(422, reason, record=number, input=name) from error


def check_names(names: list[str], number: int) -> None:
    """Rejects keys that are too long for a name, before similar ones are looked for."""
    long = next((name for name in names if len(name) > MAX_KEY), None)
    if long is not None:
        reason = f"has a key of {len(long)} characters, {long[:MAX_KEY]!r}..., which is no input"
        raise RequestError(422, reason, record=number)


async def record_of_form(
    request: Request, stream: AsyncGenerator[bytes, None], modalities: Mapping[str, str], limits: Limits
) -> Record:
    """Record of a form: one part per input, files as files and texts as fields.

    A file part without name and content, which browsers send if none was chosen, is a missing input.

    Raises:
        RequestError: 400 if it is no form; 422 for an input that is there twice or of the wrong kind.
    """
    most = len(modalities) + 1  # one more, so that an unknown name is reported
    parser = MultiPartParser(
        request.headers, stream, max_files=most, max_fields=most, max_part_size=4 * limits.max_text_characters
    )
    parser.spool_max_size = limits.max_body_bytes  # nothing is written to a disk
    try:
        return await _record(parser, modalities)
    finally:
        for file in parser._files_to_close_on_error:  # also of a part that did not end, which is in no form
            file.close()


async def _record(parser: MultiPartParser, modalities: Mapping[str, str]) -> Record:
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", error)
        raise RequestError(400, f"the body is no form of one record ({reason}); correct it") from error
    pairs = form.multi_items()
    check_names([name for name, _ in pairs], 0)
    record: Record = {}
    for name, part in pairs:
        if name in record:
            raise RequestError(422, "is there twice; send one record per form", record=0, input=name)
        record[name] = await _part(part, name, modalities.get(name))
    return record


async def _part(part: UploadFile | str, name: str, modality: str | None) -> Any:
    if isinstance(part, str):
        if modality in ("image", "audio"):
            raise RequestError(422, "is a field; send a file (with a file name)", record=0, input=name)
        return part
    content = await part.read()
    if not content and not part.filename:
        return None
    if modality != "text":
        return content
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(422, f"is not UTF-8 ({error.reason}); encode it so", record=0, input=name) from error


def check_values(records: list[Record], modalities: Mapping[str, str], limits: Limits) -> None:
    """Checks kinds and sizes of all values, before the first is decoded.

    Raises:
        RequestError: with the record and the input.
    """
    pixels = 0
    for number, record in enumerate(records):
        for name, value in record.items():
            try:
                pixels += _check(value, modalities.get(name), limits)
            except RequestError as error:
                raise RequestError(error.status, error.reason, record=number, input=name) from error
    if pixels > limits.max_pixels_per_request:
        most = limits.max_pixels_per_request / 1e6
        raise RequestError(413, f"the images have {pixels} pixels in all; {most:g} megapixels are allowed, send fewer")


def _check(value: Any, modality: str | None, limits: Limits) -> int:
    if isinstance(value, str) and len(value) > limits.max_text_characters:
        raise RequestError(413, f"has {len(value)} characters; at most {limits.max_text_characters} are allowed")
    if isinstance(value, bytes) and modality == "image":
        return check_image(value, limits)
    if isinstance(value, bytes) and modality == "audio":
        check_audio(value, limits)
    return 0
