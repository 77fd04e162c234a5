"""Bits-back coding: what the choice of latents says is not lost, it codes the images before."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gencore.compression.coder import LevelReader, LevelWriter, streams_and_family
from gencore.compression.container import CompressedFileError
from gencore.compression.session import LatentModel

__all__ = ["decode_bits_back", "encode_bits_back"]

# Words of the stack that have to be left by what is taken from it.
_LEFT = 3

# A group has this part of the images before it, whose bits all of its latents are taken from: few
# groups are fast, small ones find enough bits.
_SHARE = 2


def encode_bits_back(model: LatentModel, x: Tensor) -> bytes:
    r"""One stream of N images, of about :math:`\sum_n \log_2 q(h_n \mid x_n) - \log_2 p(x_n, h_n)`
    bits, and those that the latents of the first image take.

    Latents are decoded from the stream of the images before, as if it were one of q, which makes it
    shorter by :math:`-\log_2 q(h \mid x)`; then the image and the latents are put on it. They are
    draws from q, so that the length is minus the variational bound in the mean. The coder is a
    stack (asymmetric numeral systems); whoever decodes takes the last image first, and puts back
    what its latents were decoded from. The stream begins with words that look random. Images come
    in growing groups, coded side by side.

    Args:
        model: gives both distributions.
        x: levels int64 [N, C, H, W].

    References:
        Hinton and van Camp, "Keeping neural networks simple by minimizing the description length
        of the weights", 1993. Townsend, Bird and Barber, "Practical lossless compression with
        latent variables using bits back coding", 2019.
    """
    stack, _ = streams_and_family()
    num_start = model.num_bits // 32 + _LEFT
    while (words := _encode(model, x, stack.stack.AnsCoder(_start(num_start), True))) is None:
        num_start += -(-num_start // 4)
    return words.astype("<u4").tobytes()


def decode_bits_back(
    model: LatentModel,
    num: int,
    data: bytes,
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """The images [num, C, H, W] that `encode_bits_back` made the stream of.

    Raises:
        CompressedFileError: the stream does not end in the words that one begins with.
    """
    if len(data) % 4:
        raise CompressedFileError(f"a stream of {len(data)} bytes is none of whole words of 4")
    stack, _ = streams_and_family()
    x = torch.zeros(num, *model.image_shape, dtype=torch.int64, device=device)
    try:
        coder = stack.stack.AnsCoder(np.frombuffer(data, "<u4").astype(np.uint32))
        for part in reversed(list(_groups(num))):
            x[part], h = model.joint(LevelReader(coder, device), part.stop - part.start)
            later = _Later()
            model.posterior(LevelWriter(later), x[part], h)
            later.push(coder)
        left: NDArray[np.uint32] = coder.get_compressed(True)
    except (AssertionError, ValueError) as error:  # constriction's, for what no encoder makes
        raise CompressedFileError("the stream is damaged: no encoder makes it") from error
    if not (left == _start(len(left))).all():
        raise CompressedFileError("the stream is damaged: it does not end with the last level")
    return x


def _encode(model: LatentModel, x: Tensor, coder: Any) -> "NDArray[np.uint32] | None":
    """The words, or none if there are too few of them to take latents from."""
    for part in _groups(len(x)):
        h = model.posterior(LevelReader(coder, x.device), x[part])
        if coder.num_words() < _LEFT:
            return None
        later = _Later()
        model.joint(LevelWriter(later), len(x[part]), x[part], h)
        later.push(coder)
    words: NDArray[np.uint32] = coder.get_compressed()
    return words


class _Later:
    """Values that are put on a stack when all of them are known, the last one first."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def encode(self, *call: Any) -> None:
        """Symbols, the family of their distributions and weights."""
        self.calls.append(call)

    def push(self, coder: Any) -> None:
        for call in reversed(self.calls):
            coder.encode_reverse(*call)


def _groups(num: int) -> Iterator[slice]:
    begin = 0
    while begin < num:
        end = min(begin + max(begin // _SHARE, 1), num)
        yield slice(begin, end)
        begin = end


def _start(num: int) -> "NDArray[np.uint32]":
    """Words that look random, the same everywhere."""
    data = hashlib.shake_256(b"gencore bits back").digest(4 * num)
    return np.frombuffer(data, "<u4").astype(np.uint32)
