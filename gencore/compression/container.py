"""The file format: what a compressed file says about its images, and how damage is noticed.

Numbers of a fixed size are little-endian. The others have 7 bits a byte, the lowest first, and all
bytes but the last have the highest bit set (LEB128).

| bytes | what |
|---|---|
| 4 | magic: ``\\x89gcz`` |
| 1 | version of the format, 1 |
| 8 | fingerprint of the model |
| 1 to 10 each | C, H, W; images N; images a stream, of which the last stream may have fewer |
| 1 to 10 a stream | words of 4 bytes in the stream |
| 4 a stream | CRC-32 of its levels [N, C, H, W], 4 bytes each |
| 4 | CRC-32 of all before |
| … | the streams |
| 4 | CRC-32 of the streams |
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from gencore.compression.session import TOTAL_FREQUENCY

__all__ = ["CompressedFile", "CompressedFileError", "read_container", "write_container"]

_MAGIC = b"\x89gcz"
_VERSION = 1
_FINGERPRINT = 8

# There are two levels at least, of a frequency of 1 or more each: what is most probable takes
# −log₂(1 − 1/TOTAL_FREQUENCY) bits.
_BITS_OF_A_VALUE = -math.log1p(-1 / TOTAL_FREQUENCY) / math.log(2)


class CompressedFileError(ValueError):
    """A compressed file cannot be read: it is damaged, another program's or another model's.

    Example:
        >>> read_container(b"GIF89a, or so")
        Traceback (most recent call last):
            ...
        gencore.compression.container.CompressedFileError: no file of gencore compress: it starts \
with b'GIF8'
    """


@dataclass(frozen=True)
class CompressedFile:
    """The content of a file.

    Attributes:
        fingerprint: of the model, 8 bytes.
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
        >>> content = CompressedFile(b"of model", (1, 8, 8), 1, 64, [b"abcd"], [7])
        >>> data = write_container(content)
        >>> len(data), read_container(data) == content
        (35, True)
    """
    numbers = (*content.image_shape, content.num, content.images_per_stream)
    head = [_MAGIC, bytes([_VERSION]), content.fingerprint, *map(_number, numbers)]
    for stream, check in zip(content.streams, content.checks, strict=True):
        head += [_number(len(stream) // 4), check.to_bytes(4, "little")]
    parts = b"".join(head), b"".join(content.streams)
    return b"".join(part + _crc(part) for part in parts)


def read_container(data: bytes) -> CompressedFile:
    """The content of a file's bytes.

    Raises:
        CompressedFileError: they are another program's, of another version of the format, cut
            short or damaged, something follows them, or they claim more images than a file of their
            length can hold.
    """
    if not data:
        raise CompressedFileError("the file is empty")
    if not data.startswith(_MAGIC[: len(data)]):
        raise CompressedFileError(f"no file of gencore compress: it starts with {data[:4]!r}")
    reader = _Reader(data)
    reader.take(len(_MAGIC))
    (version,) = reader.take(1)
    if version != _VERSION:
        raise CompressedFileError(
            f"the file has version {version} of the format, or is damaged; this version of gencore "
            f"reads {_VERSION}"
        )
    fingerprint = reader.take(_FINGERPRINT)
    channels, height, width, num, images_per_stream = (reader.number() for _ in range(5))
    if not images_per_stream:
        raise CompressedFileError("the file is damaged: it has 0 images a stream")
    # Where damage makes it too many, the file ends before them, or the check sum differs.
    num_streams = -(-num // images_per_stream)
    lengths, checks = [], []
    for _ in range(num_streams):
        lengths.append(4 * reader.number())
        checks.append(int.from_bytes(reader.take(4), "little"))
    reader.check("head", 0)
    shape = channels, height, width
    for index, length in enumerate(lengths):
        images = min(images_per_stream, num - index * images_per_stream)
        if images * math.prod(shape) > 8 * length / _BITS_OF_A_VALUE:
            raise CompressedFileError(
                f"the file is damaged: a stream of {length} bytes cannot hold {images} images of "
                f"{channels}x{height}x{width}"
            )
    begin = reader.place
    streams = [reader.take(length) for length in lengths]
    reader.check("streams", begin)
    if reader.place < len(data):
        raise CompressedFileError(
            f"{len(data) - reader.place} bytes follow the end of the compressed file"
        )
    return CompressedFile(fingerprint, shape, num, images_per_stream, streams, checks)


class _Reader:
    """Bytes from first to last."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, length: int) -> bytes:
        """The next bytes."""
        end = self.place + length
        if end > len(self.data):
            raise CompressedFileError(
                f"the file is cut short or damaged: it ends after {len(self.data)} bytes, in the "
                "middle"
            )
        self.place, begin = end, self.place
        return self.data[begin:end]

    def number(self) -> int:
        """The number of 7 bits a byte that is next."""
        value = shift = 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128 or shift == 70:
                return value

    def check(self, what: str, begin: int) -> None:
        """Compare the bytes from `begin` on with the check sum that is next."""
        expected = _crc(self.data[begin : self.place])
        if self.take(4) != expected:
            raise CompressedFileError(f"the file is damaged: the check sum of its {what} differs")


def _number(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")
