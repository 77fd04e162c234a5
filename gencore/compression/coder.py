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
from gencore.compression.session import TOTAL_FREQUENCY, LevelFrequencies
from gencore.extras import compress_extra

__all__ = ["decode_images", "encode_images"]

# Frequencies that a session gives at a time while images are encoded, and those of them that go
# through the coder at a time, in cache.
_SESSION_CHUNK = 2**24
_CODER_CHUNK = 2**16


def encode_images(session: LevelFrequencies, x: Tensor) -> bytes:
    r"""One stream of the levels of N images, of about :math:`-\log_2 p(x)` bits.

    The range coder of the package constriction narrows an interval by the part that each level has
    of all frequencies. The images are coded side by side: a position of all of them, then the next.
    Of 64 bits of state at least 8 are left below the frequencies' 24, so that rounding costs a few
    ten-thousandths of a bit a value; the end costs at most 33 bits, for whole words of 32.

    Args:
        session: of N images.
        x: levels [N, C, H, W], uint8 or int64, where the session takes them.

    Raises:
        ImportError: constriction is not installed.
        TypeError: x holds no levels.
        ValueError: x has another shape or levels that there are none of, or frequencies of the
            session do not have the sum that they shall have.

    References:
        Martin, "Range encoding: an algorithm for removing redundancy from a digitised message",
        1979; Bamler, "Understanding entropy coding with asymmetric numeral systems (ANS): a
        statistician's perspective", 2022, for constriction.

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
    values = _in_order(session, x)
    num, positions = values.shape
    queue, family = _constriction()
    if not num:
        return b""
    encoder = queue.RangeEncoder()
    levels = x.to(torch.int64).contiguous()
    for begin, end in _ranges(positions, _SESSION_CHUNK // (num * session.levels)):
        frequencies = session.frequencies(levels, begin, end)
        for first, last in _ranges(end - begin, _CODER_CHUNK // (num * session.levels)):
            table = _weights(session, frequencies[:, first:last], num, last - first)
            symbols = values[:, begin + first : begin + last].T.reshape(-1)
            encoder.encode(symbols.to(torch.int32).cpu().numpy(), family, table)
    words: NDArray[np.uint32] = encoder.get_compressed()
    return words.astype("<u4").tobytes()


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
    channels, _, width = image_shape
    x = torch.zeros(num, *image_shape, dtype=torch.int64, device=device)
    if session.positions != math.prod(image_shape):
        raise ValueError(_other_positions("decode_images", session, image_shape))
    if len(data) % 4:
        raise CompressedFileError(f"a stream of {len(data)} bytes is none of whole words of 4")
    queue, family = _constriction()
    decoder = queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
    for position in range(session.positions if num else 0):
        table = _weights(session, session.frequencies(x, position, position + 1), num, 1)
        try:
            symbols = decoder.decode(family, table)
        except AssertionError as error:  # constriction's, for data that no encoder makes
            raise CompressedFileError("the stream is damaged: no encoder makes it") from error
        pixel, channel = divmod(position, channels)
        row, column = divmod(pixel, width)
        x[:, channel, row, column] = torch.from_numpy(symbols).to(device)
    if not decoder.maybe_exhausted():
        raise CompressedFileError("the stream is damaged: it does not end with the last level")
    return x


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


def _constriction() -> tuple[Any, Any]:
    """The package's queue, and the family of distributions that are given by weights."""
    with compress_extra("compression of images"):
        stream = importlib.import_module("constriction").stream
    return stream.queue, stream.model.Categorical(perfect=False)
