"""Range coding of images by the frequencies of a session: exact whole numbers on both sides."""

import importlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gencore.compression.container import CompressedFileError
from gencore.compression.session import TOTAL_FREQUENCY, Code, LevelFrequencies
from gencore.extras import compress_extra

__all__ = [
    "LevelReader",
    "LevelWriter",
    "StreamReader",
    "StreamWriter",
    "decode_images",
    "encode_images",
    "streams_and_family",
]

# Frequencies that a session gives at a time while images are encoded, and those of them that go
# through the coder at a time, in cache.
_SESSION_CHUNK = 2**24
_CODER_CHUNK = 2**16


def encode_images(session: LevelFrequencies, x: Tensor) -> bytes:
    r"""One stream of the levels of N images, of about :math:`-\log_2 p(x)` bits.

    The images are coded side by side: a position of all of them, then the next.

    Args:
        session: of N images.
        x: levels [N, C, H, W], uint8 or int64, where the session takes them.

    Raises:
        ImportError: constriction is not installed.
        TypeError: x holds no levels.
        ValueError: x has another shape or levels that there are none of, or frequencies of the
            session do not have the sum that they shall have.

    Example:
        >>> import torch
        >>> class Uniform:
        ...     levels, positions = 16, 4
        ...     def frequencies(self, x, begin, end):
        ...         return torch.full((len(x), end - begin, 16), 2**20, dtype=torch.int32)
        >>> x = torch.tensor([[[[3, 14], [15, 9]]]])
        >>> data = encode_images(Uniform(), x)
        >>> len(data), bool((decode_images(Uniform(), 1, (1, 2, 2), data) == x).all())
        (4, True)
    """
    writer = StreamWriter()
    writer(session, tuple(x.shape) if isinstance(x, Tensor) else (), x)
    return writer.stream()


def decode_images(
    session: LevelFrequencies,
    num: int,
    image_shape: tuple[int, ...],
    data: bytes,
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """The images that `encode_images` made the stream of.

    Args:
        session: of as many images, whose model is the encoder's.
        num: images N.
        image_shape: [C, H, W].
        data: the stream.
        device: where the session takes levels.

    Returns:
        Levels, int64 [N, C, H, W], on that device.

    Raises:
        CompressedFileError: the stream goes on after the last level, or is no stream of the coder.
            Most damage shows only as other levels, for which a file has check sums.
        ImportError: constriction is not installed.
        ValueError: as of `encode_images`.
    """
    reader = StreamReader(data, device)
    x = reader(session, (num, *image_shape), None)
    reader.finish()
    return x


class LevelWriter(Code):
    """Hands levels to an encoder of constriction, or one with its `encode`."""

    def __init__(self, encoder: Any) -> None:
        self._encoder, self._family = encoder, streams_and_family()[1]
        self._is_empty = True

    def __call__(
        self,
        session: LevelFrequencies,
        shape: tuple[int, ...],
        x: Tensor | None,
        start: Tensor | None = None,
    ) -> Tensor:
        assert x is not None
        values, coded = _in_order(session, x), _coded_positions(session, start)
        levels = x.to(torch.int64).contiguous()
        num, positions = values.shape
        if not num:
            return levels
        self._is_empty = False
        for begin, end in _ranges(positions, _SESSION_CHUNK // (num * session.levels)):
            frequencies = session.frequencies(levels, begin, end)
            some = values[:, begin:end]
            if start is not None:
                here = coded[begin:end].nonzero()[:, 0]
                frequencies, some = frequencies[:, here], some[:, here]
            length = some.shape[1]
            for first, last in _ranges(length, _CODER_CHUNK // (num * session.levels)):
                table = _weights(session, frequencies[:, first:last], num, last - first)
                symbols = some[:, first:last].T.reshape(-1)
                self._encoder.encode(symbols.to(torch.int32).cpu().numpy(), self._family, table)
        return levels


class StreamWriter(LevelWriter):
    """A stream in the making: a call adds levels to it (see `Code`).

    The range coder of the package constriction narrows an interval by the part that each level has
    of all frequencies. Of 64 bits of state at least 8 are left below the frequencies' 24, so that
    rounding costs a few ten-thousandths of a bit a value; the end costs at most 33 bits, for whole
    words of 32.

    References:
        Martin, "Range encoding: an algorithm for removing redundancy from a digitised message",
        1979; Bamler, "Understanding entropy coding with asymmetric numeral systems (ANS): a
        statistician's perspective", 2022, for constriction.
    """

    def __init__(self) -> None:
        super().__init__(streams_and_family()[0].queue.RangeEncoder())

    def stream(self) -> bytes:
        """All that was written; no bytes where nothing was."""
        if self._is_empty:
            return b""
        words: NDArray[np.uint32] = self._encoder.get_compressed()
        return words.astype("<u4").tobytes()


class LevelReader(Code):
    """Takes levels from a decoder of constriction, and puts them on a device."""

    def __init__(self, decoder: Any, device: torch.device | str) -> None:
        self._decoder, self._family = decoder, streams_and_family()[1]
        self.device = device

    def __call__(
        self,
        session: LevelFrequencies,
        shape: tuple[int, ...],
        x: Tensor | None,
        start: Tensor | None = None,
    ) -> Tensor:
        num, channels, _, width = shape
        if session.positions != math.prod(shape[1:]):
            raise ValueError(_other_positions("decode_images", session, shape[1:]))
        coded = _coded_positions(session, start).tolist()
        read = torch.zeros(shape, dtype=torch.int64, device=self.device)
        if start is not None:
            read.copy_(start.clamp(min=0))
        for position in range(session.positions if num else 0):
            if not coded[position]:
                continue
            table = _weights(session, session.frequencies(read, position, position + 1), num, 1)
            try:
                symbols = self._decoder.decode(self._family, table)
            except AssertionError as error:  # constriction's, for data that no encoder makes
                raise CompressedFileError("the stream is damaged: no encoder makes it") from error
            pixel, channel = divmod(position, channels)
            row, column = divmod(pixel, width)
            read[:, channel, row, column] = torch.from_numpy(symbols).to(self.device)
        return read


class StreamReader(LevelReader):
    """A stream that is read: a call returns the next levels (see `Code`).

    Args:
        data: the stream.
        device: where sessions take levels.

    Raises:
        CompressedFileError: it does not consist of whole words.
    """

    def __init__(self, data: bytes, device: torch.device | str = "cpu") -> None:
        if len(data) % 4:
            raise CompressedFileError(f"a stream of {len(data)} bytes is none of whole words of 4")
        words = np.frombuffer(data, "<u4").astype(np.uint32)
        super().__init__(streams_and_family()[0].queue.RangeDecoder(words), device)

    def finish(self) -> None:
        """Raises a CompressedFileError unless the stream ends here."""
        if not self._decoder.maybe_exhausted():
            raise CompressedFileError("the stream is damaged: it does not end with the last level")


def _coded_positions(session: LevelFrequencies, start: Tensor | None) -> Tensor:
    """Which positions are coded, bool [positions], the same of all images."""
    if start is None:
        return torch.ones(session.positions, dtype=torch.bool)
    return (start.permute(0, 2, 3, 1).flatten(1) < 0).any(0).cpu()


def _in_order(session: LevelFrequencies, x: Tensor) -> Tensor:
    """The values [N, H·W·C] in the order of coding."""
    if not isinstance(x, Tensor) or x.dtype not in (torch.uint8, torch.int64):
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"encode_images: x is {kind}; expected levels, uint8 or int64")
    if x.dim() != 4:
        raise ValueError(f"encode_images: x has shape {list(x.shape)}; expected [N, C, H, W]")
    values = x.permute(0, 2, 3, 1).flatten(1)
    if values.shape[1] != session.positions:
        raise ValueError(_other_positions("encode_images", session, x.shape[1:]))
    if x.numel() and not 0 <= int(x.min()) <= int(x.max()) < session.levels:
        raise ValueError(
            f"encode_images: x has levels from {int(x.min())} to {int(x.max())}; expected 0 to "
            f"{session.levels - 1}"
        )
    return values


def _ranges(num: int, size: int) -> Iterator[tuple[int, int]]:
    size = max(size, 1)
    for begin in range(0, num, size):
        yield begin, min(begin + size, num)


def _other_positions(owner: str, session: LevelFrequencies, shape: tuple[int, ...]) -> str:
    return f"{owner}: images of shape {list(shape)} do not have {session.positions} positions"


def _weights(
    session: LevelFrequencies, frequencies: Tensor, num: int, length: int
) -> NDArray[np.float32]:
    """The frequencies [N, P, L] as constriction takes them: [P·N, L].

    It gives each level 1 and then, of the 2^24 − L that are left, the part that its weight has of
    all weights, rounded down at every cumulative sum. Weights f − 1 have just this sum. Their
    cumulative sums are whole numbers below 2^24, which float32 holds, and their scale is 1: nothing
    is ever rounded, and the level has exactly the frequency f.
    """
    shape = (num, length, session.levels)
    if frequencies.shape != shape or frequencies.dtype != torch.int32:
        raise ValueError(
            f"{type(session).__name__}.frequencies: got {frequencies.dtype} "
            f"{list(frequencies.shape)}; expected int32 {list(shape)}"
        )
    table = frequencies.transpose(0, 1).reshape(-1, session.levels).cpu().numpy()
    if table.size and (table.min() < 1 or (table.sum(1, dtype=np.int64) != TOTAL_FREQUENCY).any()):
        raise ValueError(
            f"{type(session).__name__}.frequencies: expected positive ones, of the sum "
            f"{TOTAL_FREQUENCY} over the levels"
        )
    return (table - 1).astype(np.float32)


def streams_and_family() -> tuple[Any, Any]:
    """constriction's coders, and the family of distributions that are given by weights."""
    with compress_extra("compression of images"):
        stream = importlib.import_module("constriction").stream
    return stream, stream.model.Categorical(perfect=False)
