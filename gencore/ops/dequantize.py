"""Grey levels as real numbers: uniform dequantisation, and the way back."""

import math

import torch
from torch import Tensor

from gencore.ops._support.backend import state
from gencore.ops._support.checks import check_chains, check_native_device, index, wants_grad
from gencore.ops._support.kernel import kernel
from gencore.ops.random import key_like, philox_words

__all__ = ["dequantize", "quantize"]

_dequantize = kernel(torch.ops.gencore.dequantize.default)
_DTYPES = (torch.float32, torch.float64)
_LEVELS = (torch.uint8, torch.uint16, torch.int16, torch.int32, torch.int64)
MAX_BINS = 2**16


def dequantize(
    x: Tensor,
    *,
    bins: int = 256,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    first_element: int = 0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    r"""Uniform dequantisation of grey levels to [0, 1), with its log-determinant, in one pass.

    .. math:: y = (x + u) / B, \qquad u \sim U[0, 1)^D, \qquad \log\det = -D \log B

    with B bins; the log-determinant is that of x + u → y, so that log p(y) + log_det is a density
    of x + u, and its mean over u a lower bound of log P(x). Not differentiable.

    Word w of element i of the Philox stream (:func:`philox_words`) becomes u = (⌊w/2³²⁻ᵏ⌋ + ½)/2ᵏ
    in float32 and u = (w + ½)/2³² in float64: midpoints of equal cells, neither 0 nor 1. In float32
    k is 15 up to 256 bins, and one less for each further bit of the levels, 7 for 65536 bins, since
    levels and noise share 24 bits: x + u is exact for that reason, so y < 1 and ``quantize(y)`` is
    x, always.

    Args:
        x: grey levels [N, ...], below ``bins``, of an integer dtype: uint8, which is one pass of a
            kernel, uint16, int16, int32 or int64. Others raise on the CPU; on a GPU, where a look
            at them would stop the host, they give y outside [0, 1).
        bins: B, 1 to 65536.
        noise: u of the shape of ``x`` and of ``dtype``, in [0, 1); drawn if ``None``. Where y
            would round up to the bin's upper edge, the number below it is taken, so that
            ``quantize(y)`` is x for u = 0 and for u next to 1 too.
        generator: where the noise's key is drawn from; the default generator if ``None``.
        key: int64 ``[seed, offset]`` (:func:`random_key`) instead of a generator.
        first_element: index of ``x``'s first element in the whole batch, when ``x`` is a part of
            it: the noise is that of the whole.
        dtype: float32 or float64; half types are too coarse to stay within a bin.

    Returns:
        (y [N, ...], log_det [N]), both of ``dtype``; y is contiguous.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, section
        2.12.1. Theis, van den Oord and Bethge, "A note on the evaluation of generative models",
        2016, section 3.1.

    Example:
        >>> import torch
        >>> from gencore.ops import dequantize
        >>> x = torch.tensor([[0, 1, 3]], dtype=torch.uint8)
        >>> dequantize(x, bins=4, noise=torch.full((1, 3), 0.5))
        (tensor([[0.1250, 0.3750, 0.8750]]), tensor([-4.1589]))
    """
    op = "dequantize"
    _check_levels(op, x)
    bins = _check_bins(op, bins)
    if dtype not in _DTYPES:
        raise TypeError(f"{op}: got dtype {dtype}, expected torch.float32 or torch.float64")
    first_element = index(op, "first_element", first_element)
    if noise is not None:
        _check_noise(op, x, noise, dtype)
    key = key_like(op, x, key, generator, needed=noise is None)
    if x.is_cpu and not torch.compiler.is_compiling():
        check_below(op, x, bins)
    size = math.prod(x.shape[1:])
    log_det = torch.full(x.shape[:1], -size * math.log(bins), dtype=dtype, device=x.device)
    if state.reference or x.dtype != torch.uint8 or bins > 256:
        return _in_torch(x, noise, key, bins, dtype, first_element), log_det
    return _dequantize(x, noise, key, bins, dtype, first_element), log_det


def quantize(y: Tensor, bins: int = 256) -> Tensor:
    """The grey levels of numbers in [0, 1): ⌊y·bins⌋, clamped to [0, bins − 1].

    They are uint8 for up to 256 bins, and uint16 beyond, up to 65536. Undoes
    :func:`dequantize`. Not differentiable.

    Bins begin at k/bins as y's dtype rounds it, so that k/bins itself has the level k: in float32
    0.7 is below seven tenths, and is level 7 of 10.

    Raises:
        TypeError, ValueError: for a tensor or number of bins that does not fit.

    Example:
        >>> import torch
        >>> from gencore.ops import quantize
        >>> quantize(torch.tensor([-0.1, 0.3, 0.999, 1.0]), bins=4)
        tensor([0, 1, 3, 3], dtype=torch.uint8)
        >>> quantize(torch.tensor([0.6, 0.7, 0.8]), bins=10)
        tensor([6, 7, 8], dtype=torch.uint8)
    """
    op = "quantize"
    if not isinstance(y, Tensor):
        raise TypeError(f"{op}: y must be a tensor, got {type(y).__name__}")
    if not y.is_floating_point():
        raise TypeError(f"{op}: y is {y.dtype}, expected a floating dtype")
    bins = _check_bins(op, bins)
    y = y.detach()
    if bins & (bins - 1) == 0:  # then the product is exact
        levels = (y * bins).floor()
    else:
        nearest = (y.double() * bins).round()
        edge = (nearest / bins).to(y.dtype)
        levels = torch.where(y < edge, nearest - 1, nearest)
    return levels.clamp(0, bins - 1).to(torch.uint8 if bins <= 256 else torch.uint16)


def check_below(op: str, x: Tensor, bins: int) -> None:
    """Raise unless grey levels are from 0 up and below ``bins``."""
    info = torch.iinfo(x.dtype)
    if not x.numel() or (info.min == 0 and info.max < bins):
        return
    # For uint16 torch has no order.
    low, high = (x.int() if x.dtype == torch.uint16 else x).aminmax()
    if low < 0:
        raise ValueError(f"{op}: x has the value {int(low)}, expected 0 or more")
    if high >= bins:
        raise ValueError(f"{op}: x has the value {int(high)}, expected less than bins = {bins}")


def check_level_dtype(op: str, x: Tensor) -> None:
    """Raise unless grey levels are of an integer dtype that has a use for them."""
    if x.dtype not in _LEVELS or x.layout != torch.strided:
        raise TypeError(
            f"{op}: x is {x.dtype} of layout {x.layout}, expected strided and one of "
            f"{', '.join(str(dtype).removeprefix('torch.') for dtype in _LEVELS)}"
        )


def _check_levels(op: str, x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: x must be a tensor, got {type(x).__name__}")
    check_level_dtype(op, x)
    check_chains(op, x)
    check_native_device(op, x)


def _check_bins(op: str, bins: int) -> int:
    bins = index(op, "bins", bins)
    if not 1 <= bins <= MAX_BINS:
        raise ValueError(f"{op}: bins must be from 1 to {MAX_BINS}, got {bins}")
    return bins


def level_bits(bins: int) -> int:
    """The bits that the levels take of a float's: those of the largest, and at least 8."""
    return max(8, (bins - 1).bit_length())


def _check_noise(op: str, x: Tensor, noise: Tensor, dtype: torch.dtype) -> None:
    if not isinstance(noise, Tensor):
        raise TypeError(f"{op}: noise must be a tensor, got {type(noise).__name__}")
    if noise.dtype != dtype:
        raise TypeError(f"{op}: noise is {noise.dtype}, expected {dtype}")
    if noise.shape != x.shape:
        raise ValueError(
            f"{op}: noise has shape {list(noise.shape)}, x has shape {list(x.shape)}; "
            "they must be equal"
        )
    if noise.device != x.device:
        raise ValueError(f"{op}: noise is on {noise.device}, x on {x.device}")
    if wants_grad(noise):
        raise ValueError(f"{op}: noise requires grad, but dequantisation is not differentiable")
    if (
        noise.is_cpu
        and not torch.compiler.is_compiling()
        and not bool(((noise >= 0) & (noise < 1)).all())
    ):
        raise ValueError(f"{op}: noise has values outside [0, 1)")


def _in_torch(
    x: Tensor,
    noise: Tensor | None,
    key: Tensor | None,
    bins: int,
    dtype: torch.dtype,
    first_element: int,
) -> Tensor:
    """``dequantize`` in pure PyTorch: the kernel's reference, and what levels of more than 8 bits
    take."""
    levels = x.to(dtype)
    if noise is None:
        assert key is not None
        words = philox_words(x.shape, key, first_element=first_element)
        bits = 32 if dtype == torch.float64 else 23 - level_bits(bins)
        return (levels + ((words >> (32 - bits)).to(dtype) + 0.5) * 2.0**-bits) / bins
    edge = (levels + 1) / bins
    return torch.minimum((levels + noise) / bins, torch.nextafter(edge, torch.zeros_like(edge)))


@torch.library.register_fake("gencore::dequantize")
def _(
    x: Tensor,
    noise: Tensor | None,
    key: Tensor | None,
    bins: int,
    dtype: torch.dtype,
    first_element: int,
) -> Tensor:
    return x.new_empty(x.shape, dtype=dtype)
