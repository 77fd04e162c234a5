"""The file format: what a compressed file says about its images, and how damage is noticed.

All numbers are little-endian.

| bytes | what |
|---|---|
| 8 | magic: ``\\x89gcore\\r\\n`` |
| 2 | version of the format, 1 |
| 16 | fingerprint of the model |
| 2, 2, 2 | C, H, W |
| 8 | images N |
| 4 | images a stream; the last stream may have fewer |
| 12 a stream | bytes of the stream (8), CRC-32 of its levels [N, C, H, W], 4 bytes each (4) |
| 4 | CRC-32 of all before |
| … | the streams |
| 4 | CRC-32 of the streams |
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CompressedFile", "CompressedFileError", "read_container", "write_container"]

_MAGIC = b"\x89gcore\r\n"
_VERSION = 1
_START = struct.Struct("<8sH")
_FACTS = struct.Struct("<16s3HQI")
_STREAM = struct.Struct("<QI")
_CHECK = struct.Struct("<I")


class CompressedFileError(ValueError):
    """A compressed file cannot be read: it is damaged, another program's or another model's.

    Example:
        >>> read_container(b"GIF89a, or so")
        Traceback (most recent call last):
            ...
        gencore.compression.container.CompressedFileError: no file of gencore compress: it starts \
with b'GIF89a, '
    """


@dataclass(frozen=True)
class CompressedFile:
    """The content of a file.

    Attributes:
        fingerprint: of the model, 16 bytes.
        image_shape: [C, H, W].
        num: images.
        images_per_stream: but for the last stream, which may have fewer.
        streams: of `encode_images`.
        checks: CRC-32 of the levels of each stream.
    """

    fingerprint: bytes
    image_shape: tuple[int, int, int]
    num: int
    images_per_stream: int
    streams: Sequence[bytes]
    checks: Sequence[int]


def write_container(content: CompressedFile) -> bytes:
    """The bytes of a file.

    Example:
        >>> content = CompressedFile(bytes(16), (1, 8, 8), 1, 64, [b"abcd"], [7])
        >>> data = write_container(content)
        >>> len(data), read_container(data) == content
        (68, True)
    """
    facts = _FACTS.pack(
        content.fingerprint, *content.image_shape, content.num, content.images_per_stream
    )
    index = [
        _STREAM.pack(len(stream), check)
        for stream, check in zip(content.streams, content.checks, strict=True)
    ]
    head = b"".join([_START.pack(_MAGIC, _VERSION), facts, *index])
    body = b"".join(content.streams)
    return b"".join([head, _crc(head), body, _crc(body)])


def read_container(data: bytes) -> CompressedFile:
    """The content of a file's bytes.

    Raises:
        CompressedFileError: they are another program's, of another version of the format, cut
            short or damaged, or something follows them.
    """
    view = memoryview(data)
    if len(data) == 0:
        raise CompressedFileError("the file is empty")
    if not data.startswith(_MAGIC[: len(data)]):
        raise CompressedFileError(f"no file of gencore compress: it starts with {data[:8]!r}")
    end = _START.size
    _check_length(data, end)
    _, version = _START.unpack_from(data)
    if version != _VERSION:
        raise CompressedFileError(
            f"the file has version {version} of the format, or is damaged; this version of gencore "
            f"reads {_VERSION}"
        )
    begin, end = end, end + _FACTS.size
    _check_length(data, end)
    fingerprint, *numbers = _FACTS.unpack_from(data, begin)
    *shape, num, images_per_stream = numbers
    # A damaged number of images asks for a longer head; then the file is too short for it, or the
    # check sum differs.
    num_streams = -(-num // images_per_stream) if images_per_stream else 0
    begin, end = end, end + num_streams * _STREAM.size
    if end + _CHECK.size > len(data):
        raise CompressedFileError(
            f"the file is cut short or damaged: it has {len(data)} bytes, its head alone "
            f"{end + _CHECK.size}"
        )
    index = list(_STREAM.iter_unpack(view[begin:end]))
    if data[end : end + _CHECK.size] != _crc(view[:end]):
        raise CompressedFileError("the file is damaged: the check sum of its head differs")
    body = end + _CHECK.size
    end = body + sum(length for length, _ in index)
    _check_length(data, end + _CHECK.size)
    if end + _CHECK.size < len(data):
        raise CompressedFileError(
            f"{len(data) - end - _CHECK.size} bytes follow the end of the compressed file"
        )
    if data[end:] != _crc(view[body:end]):
        raise CompressedFileError("the file is damaged: the check sum of its streams differs")
    streams = []
    for length, _ in index:
        streams.append(data[body : body + length])
        body += length
    return CompressedFile(
        fingerprint,
        (shape[0], shape[1], shape[2]),
        num,
        images_per_stream,
        streams,
        [check for _, check in index],
    )


def _check_length(data: bytes, length: int) -> None:
    if len(data) < length:
        raise CompressedFileError(
            f"the file is cut short: it has {len(data)} bytes of at least {length}"
        )


def _crc(data: bytes | memoryview) -> bytes:
    return _CHECK.pack(zlib.crc32(data))
