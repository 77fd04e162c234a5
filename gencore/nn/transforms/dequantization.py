"""Dequantisation: grey levels as real numbers, with what that costs in log-likelihood."""

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import softplus

from gencore.nn.transforms.base import Transform
from gencore.ops import (
    affine_coupling,
    dequantize,
    gaussian_nll,
    philox_normal,
    quantize,
    random_key,
)
from gencore.ops.dequantize import MAX_BINS, check_below, check_level_dtype, level_bits
from gencore.ops.random import stream_key

__all__ = ["UniformDequantization", "VariationalDequantization"]


class UniformDequantization(nn.Module):
    r"""Grey levels x with uniform noise: y = (x + u)/B, u ~ U[0, 1)^D.

    .. math:: \log P(x) \ge \mathbb E_u\big[\log p(y) - D \log B\big]

    by Jensen's inequality, with the density p of y. Stochastic, hence no :class:`Transform`:
    ``forward(x, generator=...)`` gives y and the log-determinant −D log B, whose sum with log p(y)
    is one draw of the bound; ``inverse(y)`` the grey levels.

    Args:
        bins: B, the number of grey levels, 1 to 65536.

    Raises:
        ValueError: for another number of bins, and on a call for grey levels from ``bins`` up.
        TypeError: on a call, for grey levels that are no integers.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, (2.78) to
        (2.80).

    Example:
        >>> import torch
        >>> from gencore.nn import UniformDequantization
        >>> dequantization = UniformDequantization()
        >>> x = torch.tensor([[0, 255]], dtype=torch.uint8)
        >>> y, log_det = dequantization(x)
        >>> torch.equal(dequantization.inverse(y), x), log_det
        (True, tensor([-11.0904]))
    """

    def __init__(self, *, bins: int = 256) -> None:
        super().__init__()
        self.bins = _checked_bins("UniformDequantization", bins)

    def forward(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """(y [N, ...] in [0, 1), log_det [N]) of grey levels x [N, ...], integers as for
        :func:`gencore.ops.dequantize`.

        Args:
            x: grey levels.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the noise.
            first: number of data points before these, of other processes.
        """
        if key is None:
            key = random_key(generator, device=x.device)
        key = stream_key(key, "dequantization")
        return dequantize(x, bins=self.bins, key=key, first_element=first * math.prod(x.shape[1:]))

    def inverse(self, y: Tensor) -> Tensor:
        """The grey levels of y: uint8 for up to 256 bins, and uint16 beyond."""
        return quantize(y, self.bins)

    def extra_repr(self) -> str:
        return f"bins={self.bins}"


class VariationalDequantization(nn.Module):
    r"""Grey levels x with noise from a learned density q(u | x) on [0, 1)^D: y = (x + u)/B.

    .. math:: \log P(x) \ge \mathbb E_{q(u \mid x)}\big[\log p(y) - D \log B - \log q(u \mid x)\big]

    with equality where q(u | x) ∝ p(x + u): the bound of uniform noise is the case q = 1. The noise
    is u = σ(v), v made from ε ~ N(0, I) by a flow given the image, so that

    .. math:: \log q(u \mid x) = \log N(\varepsilon) + \log\det \frac{\partial \varepsilon}
              {\partial v} - \textstyle\sum \log \sigma'(v)

    Stochastic, hence no :class:`Transform`: ``forward(x, generator=...)`` gives y and a log_det
    that holds −D log B − log q(u | x), so that log p(y) + log_det is one draw of the bound,
    differentiable in q's parameters; ``inverse(y)`` the grey levels.

    Args:
        noise: q: a :class:`Transform` v → ε, which is given the image as its context, or a network
            from the image [N, C, ...] to [N, 2C, ...], the mean and the raw log-scale of normal v.
            The network's image, and the context, is (2x + 1)/B − 1, in (−1, 1).
        context: a network from that image to the context of a Transform; the image itself if
            ``None``.
        bins: B, the number of grey levels, 1 to 65536.

    Raises:
        ValueError: for a ``context`` beside a network, for a number of bins that does not fit, and
            on a call for grey levels from ``bins`` up.
        TypeError: on a call, for grey levels that are no integers.

    References:
        Ho et al., "Flow++: improving flow-based generative models with variational dequantization
        and architecture design", 2019, section 3.1. Lucas, "Deep generative models:
        over-generalisation and mode-dropping", 2020, (2.81) to (2.84).

    Example:
        >>> import torch
        >>> from gencore.nn import VariationalDequantization
        >>> dequantization = VariationalDequantization(torch.nn.Conv2d(3, 6, 3, padding=1))
        >>> x = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
        >>> y, log_det = dequantization(x)
        >>> torch.equal(dequantization.inverse(y), x), log_det.shape
        (True, torch.Size([2]))
    """

    def __init__(
        self, noise: nn.Module, context: nn.Module | None = None, *, bins: int = 256
    ) -> None:
        super().__init__()
        if context is not None and not isinstance(noise, Transform):
            raise ValueError(
                "VariationalDequantization: a context is for a Transform, but noise is a "
                f"{type(noise).__name__}"
            )
        self.noise = noise if isinstance(noise, Transform) else _ConditionalNormal(noise)
        self.context = nn.Identity() if context is None else context
        self.bins = _checked_bins("VariationalDequantization", bins)

    def forward(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """(y [N, ...] in [0, 1), log_det [N]) of grey levels x [N, ...]; arguments as for
        :class:`UniformDequantization`."""
        check_level_dtype("VariationalDequantization", x)
        if not torch.compiler.is_compiling():
            check_below("VariationalDequantization", x, self.bins)
        like = next(self.parameters(), torch.empty(0))
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        levels = x.to(dtype)
        context = self.context((2 * levels + 1) / self.bins - 1)
        size = math.prod(x.shape[1:])
        if key is None:
            key = random_key(generator, device=x.device)
        key = stream_key(key, "dequantization")
        epsilon = philox_normal(x.shape, key, first_element=first * size, dtype=dtype)
        v, log_det = self.noise.inverse(epsilon, context)
        # log sigma'(v) of each element
        log_slope = -(softplus(v) + softplus(-v)).flatten(1).sum(1)
        log_q = -gaussian_nll(epsilon, -log_det) - log_slope
        # Closer to 0 or 1, rounding would take x + u or y to another bin.
        margin = torch.finfo(dtype).eps / 2 * 2.0 ** level_bits(self.bins)
        u = torch.sigmoid(v).clamp(margin, 1 - margin)
        return (levels + u) / self.bins, -size * math.log(self.bins) - log_q

    def inverse(self, y: Tensor) -> Tensor:
        """The grey levels of y: uint8 for up to 256 bins, and uint16 beyond."""
        return quantize(y, self.bins)

    def extra_repr(self) -> str:
        return f"bins={self.bins}"


def _checked_bins(owner: str, bins: int) -> int:
    if not 1 <= bins <= MAX_BINS:
        raise ValueError(f"{owner}: bins is {bins}; expected 1 to {MAX_BINS}")
    return bins


class _ConditionalNormal(Transform):
    """ε = (v − μ)·exp(−s) with the mean and bounded log-scale that a network makes of the image."""

    _bound = 2.0

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._scale_and_shift(x, context, inverse=True)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._scale_and_shift(z, context, inverse=False)

    def _scale_and_shift(
        self, x: Tensor, context: Tensor | None, *, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        mean, raw_scale = self.network(context).to(x.dtype).chunk(2, dim=1)
        return affine_coupling(x, raw_scale, mean, bound=self._bound, inverse=inverse)
