"""Counter-based random numbers: Philox4x32-10 streams as tensors.

A key is an int64 tensor ``[seed, offset]``. The random words of element e of a tensor are a pure
function of (seed, offset, e), so they do not depend on the device, the number of threads or the way
a batch is split over processes.
"""

import hashlib
import math
import threading
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from gencore.ops._support.backend import state
from gencore.ops._support.checks import check_key, check_native_device, index, shape
from gencore.ops._support.kernel import kernel

__all__ = ["philox_normal", "philox_words", "random_key", "split_key"]

_MASK = 0xFFFFFFFF
_normal = kernel(torch.ops.gencore.philox_normal.default)
_words = kernel(torch.ops.gencore.philox_words.default)

Stream = Literal[
    "annealed importance",
    "base",
    "buffer",
    "buffer draw",
    "density",
    "dequantization",
    "diffusion",
    "labelled",
    "latents",
    "momenta",
    "prior",
    "reverse annealed importance",
    "samples",
    "start",
    "trace",
    "warm-up",
]
"""The kinds of calls that draw from a stream of their own: see `stream_key`."""

# What tells their seeds from the key's: 64 bits, which neither two kinds nor two small seeds share.
_STREAM_BITS = {
    name: int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
    for name in get_args(Stream)
}


class _ThreadKey(threading.local):
    """A thread's own CPU key: ``draw()`` fills it anew and returns it, valid until the next draw.

    Three times cheaper than a fresh tensor, which a step over 64 elements would notice.
    """

    def __init__(self) -> None:
        with torch.inference_mode(False):
            self.draw = torch.zeros(2, dtype=torch.int64, device="cpu").random_


thread_key = _ThreadKey()


def random_key(
    generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> Tensor:
    """Draw a key ``[seed, offset]`` from a generator, so that ``torch.manual_seed`` governs it.

    Args:
        generator: source of the key; the device's default generator if ``None``.
        device: where the key and the numbers made from it live.

    Returns:
        int64 tensor of shape [2].

    Raises:
        TypeError, ValueError: for a generator or device that is none, or of different devices.

    Example:
        >>> import torch
        >>> from gencore.ops import random_key
        >>> a = random_key(torch.Generator().manual_seed(0))
        >>> b = random_key(torch.Generator().manual_seed(0))
        >>> torch.equal(a, b)
        True
    """
    return draw_key("random_key", generator, device)


def draw_key(op: str, generator: torch.Generator | None, device: torch.device | str) -> Tensor:
    """:func:`random_key` on behalf of the operator ``op``, which its errors name."""
    if torch.compiler.is_compiling():  # which has no in-place draws
        return torch.randint(2**62, (2,), generator=generator, device=device)
    if not isinstance(device, torch.device):
        try:
            device = torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"{op}: {device!r} is not a device: {error}") from error
    if generator is not None:
        if not isinstance(generator, torch.Generator):
            kind = type(generator).__name__
            raise TypeError(f"{op}: generator must be a torch.Generator, got {kind}")
        if generator.device.type != device.type != "meta":
            raise ValueError(f"{op}: generator is on {generator.device}, the key on {device}")
    return torch.empty(2, dtype=torch.int64, device=device).random_(generator=generator)


def key_like(
    op: str, x: Tensor, key: Tensor | None, generator: torch.Generator | None, *, needed: bool
) -> Tensor | None:
    """The given key, checked and contiguous; else one drawn for ``x`` where one is needed."""
    if key is None:
        return draw_key(op, generator, x.device) if needed else None
    check_key(op, key)
    if key.device != x.device:
        raise ValueError(f"{op}: key is on {key.device}, x on {x.device}")
    return key.contiguous()


def split_key(key: Tensor, num: int) -> tuple[Tensor, ...]:
    """Keys of ``num`` successive draws, one a step: ``[seed, offset], [seed, offset + 1], …``.

    Raises:
        TypeError, ValueError: if ``key`` is not an int64 tensor of shape [2] or ``num`` negative.

    Example:
        >>> import torch
        >>> from gencore.ops import split_key
        >>> split_key(torch.tensor([7, 0]), 2)
        (tensor([7, 0]), tensor([7, 1]))
    """
    check_key("split_key", key)
    num = index("split_key", "num", num)
    draws = torch.arange(num, device=key.device)
    return torch.stack([key[0].expand(num), key[1] + draws], 1).unbind(0)


def stream_key(key: Tensor, stream: Stream) -> Tensor:
    """The key of a stream beside that of ``key``: the same offset, another seed.

    Operators, and the steps of chains in ``step`` and ``sample``, draw from the key as it is given.
    A call that makes the states which chains go on from, or whatever else meets their noise, draws
    from the stream of its kind, so that one key in two calls gives independent numbers.

    Example:
        >>> import torch
        >>> from gencore.ops.random import stream_key
        >>> key = torch.tensor([7, 0])
        >>> x = philox_normal((100_000,), stream_key(key, "start")) + philox_normal((100_000,), key)
        >>> round(x.var().item(), 1)  # of twice the same numbers it were 4
        2.0
    """
    check_key("stream_key", key)
    return torch.stack([key[0] ^ _STREAM_BITS[stream], key[1]])


def philox_normal(
    size: Sequence[int],
    key: Tensor,
    *,
    first_element: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normals of one draw of a Philox stream, by the Box–Muller transform.

    ``r = √(−2 ln u₁)``, ``(r cos 2πu₂, r sin 2πu₂)`` with (u₁, u₂) from two 32-bit words; float64
    refines the same uniforms with 32 more bits, so that all dtypes see the same noise to their
    precision, and beyond 5σ, where 32-bit uniforms are coarse, to about 10⁻². Values are within
    ±6.66 in float32 and below.

    Args:
        size: shape of the result.
        key: int64 ``[seed, offset]`` on the device of the result.
        first_element: index of the result's first element in the whole tensor, when this is a part
            of it (a rank's chains, a slice of a batch).
        dtype: float64, float32, bfloat16 or float16.

    Raises:
        TypeError, ValueError: for a key, dtype or index that does not fit.

    References:
        Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Example:
        >>> import torch
        >>> from gencore.ops import philox_normal
        >>> key = torch.tensor([7, 0])
        >>> whole = philox_normal((6,), key)
        >>> torch.equal(whole[4:], philox_normal((2,), key, first_element=4))
        True
    """
    check_key("philox_normal", key)
    first_element = index("philox_normal", "first_element", first_element)
    size = shape("philox_normal", size)
    if dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        raise TypeError(
            f"philox_normal: got dtype {dtype}, expected float64, float32, bfloat16 or float16"
        )
    if state.reference:
        return reference_normal(size, key, first_element, dtype)
    check_native_device("philox_normal", key)
    result: Tensor = _normal(key.contiguous(), size, dtype, first_element)
    return result


def philox_words(size: Sequence[int], key: Tensor, *, first_element: int = 0) -> Tensor:
    """The raw 32-bit words of one draw of a Philox stream, as int64 in [0, 2³²).

    Element e is word ``e mod 4`` of Philox4x32-10 at counter ``(⌊e/4⌋, offset)``, keyed ``seed``.

    Raises:
        TypeError, ValueError: for a key or index that does not fit.

    Example:
        >>> import torch
        >>> from gencore.ops import philox_words
        >>> [hex(w) for w in philox_words((4,), torch.tensor([0, 0])).tolist()]
        ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    check_key("philox_words", key)
    first_element = index("philox_words", "first_element", first_element)
    size = shape("philox_words", size)
    if state.reference:
        numel = math.prod(size)
        return reference_words(key, first_element, numel, refine=False).reshape(tuple(size))
    check_native_device("philox_words", key)
    result: Tensor = _words(key.contiguous(), size, first_element)
    return result


def philox_uniform(
    size: Sequence[int],
    key: Tensor,
    *,
    first_element: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Uniform numbers in [0, 1), multiples of 2⁻²⁴, of one draw of a Philox stream.

    Arguments as for `philox_normal`; the highest 24 bits of `philox_words` make a number.

    Raises:
        TypeError: for a dtype other than float64 and float32; half types have no such numbers.

    Example:
        >>> import torch
        >>> from gencore.ops.random import philox_uniform
        >>> philox_uniform((2,), torch.tensor([0, 0]))
        tensor([0.3990, 0.8805])
    """
    if dtype not in (torch.float64, torch.float32):
        raise TypeError(f"philox_uniform: dtype is {dtype}, expected float64 or float32")
    words = philox_words(size, key, first_element=first_element)
    return (words >> 8).to(dtype) * 2.0**-24


def rademacher(x: Tensor, key: Tensor, first_element: int = 0) -> Tensor:
    """Independent signs ±1 like `x`, from the lowest bits of a Philox stream.

    Example:
        >>> import torch
        >>> from gencore.ops.random import rademacher
        >>> sorted(set(rademacher(torch.zeros(50), torch.tensor([0, 0])).tolist()))
        [-1.0, 1.0]
    """
    bits = philox_words(x.shape, key, first_element=first_element) & 1
    return (2 * bits - 1).to(x.dtype)


# The references. Words are int64 tensors in [0, 2^32); torch's int64 product wraps modulo 2^64,
# which is what the 32 x 32 -> 64 bit product needs.


def reference_words(key: Tensor, first: int, count: int, *, refine: bool = False) -> Tensor:
    """``philox_words`` in pure PyTorch, flat; ``refine`` for the stream that fp64 takes besides."""
    blocks = torch.arange(first // 4, (first + count + 3) // 4, device=key.device)
    words = reference_blocks(key, blocks, refine=refine).flatten()
    return words[first % 4 : first % 4 + count]


def reference_blocks(key: Tensor, blocks: Tensor, *, refine: bool = False) -> Tensor:
    """The four words of each of the stream's ``blocks`` [B], as [B, 4]."""
    seed, offset = key[0], key[1]
    c0, c1 = blocks & _MASK, (blocks >> 32) & _MASK
    c2 = (offset & _MASK).expand_as(c0)
    c3 = (((offset >> 32) & _MASK) | (0x80000000 if refine else 0)).expand_as(c0)
    k0, k1 = seed & _MASK, (seed >> 32) & _MASK
    for _ in range(10):
        product0, product1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (
            ((product1 >> 32) & _MASK) ^ c1 ^ k0,
            product1 & _MASK,
            ((product0 >> 32) & _MASK) ^ c3 ^ k1,
            product0 & _MASK,
        )
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return torch.stack([c0, c1, c2, c3], 1)


def reference_normal(size: Sequence[int], key: Tensor, first: int, dtype: torch.dtype) -> Tensor:
    """``philox_normal`` in pure PyTorch."""
    count = math.prod(size)
    aligned = first - first % 4  # pairs of words make pairs of normals
    total = first - aligned + count
    total += -total % 4
    bin_width = 2.0**-32
    if dtype == torch.float64:
        words = reference_words(key, aligned, total, refine=False).double().view(-1, 2)
        fine = reference_words(key, aligned, total, refine=True).double().view(-1, 2)
        fine = (fine + 0.5) * bin_width
        u = (torch.floor(words[:, 0] / 2) + fine[:, 0]) * (2 * bin_width)
        angle = (words[:, 1] + fine[:, 1]) * (2 * math.pi * bin_width)
    else:
        pairs = reference_words(key, aligned, total, refine=False).view(-1, 2)
        u = (pairs[:, 0] >> 1).float() * (2 * bin_width) + bin_width
        signed = pairs[:, 1] - ((pairs[:, 1] >> 31) << 32)  # the turn in [-1/2, 1/2): more digits
        angle = (signed.double() * (2 * math.pi * bin_width)).float()
    radius = torch.sqrt(-2.0 * torch.log(u))
    normals = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], 1).flatten()
    return normals[first - aligned : first - aligned + count].reshape(tuple(size)).to(dtype)


@torch.library.register_fake("gencore::philox_normal")
def _(key: Tensor, size: list[int], dtype: torch.dtype, first_element: int) -> Tensor:
    return key.new_empty(size, dtype=dtype)


@torch.library.register_fake("gencore::philox_words")
def _(key: Tensor, size: list[int], first_element: int) -> Tensor:
    return key.new_empty(size)
