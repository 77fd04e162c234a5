"""Lossy compression: a learned code of integers, their lengths, and the error that remains."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor, nn

from gencore.choices import check_choice
from gencore.nn.quantization import EntropyModel
from gencore.ops import random_key
from gencore.ops._support.checks import accumulation_dtype
from gencore.ops.random import philox_uniform

__all__ = ["LossyCoder", "RateDistortion", "Rounding"]

Rounding = Literal["noise", "straight-through"]
_LOG2_E = 1 / math.log(2)


class RateDistortion(NamedTuple):
    """What data cost and what is lost, an entry a data point."""

    loss: Tensor
    """[N]: rate + β · distortion."""
    rate: Tensor
    """[N], in bits."""
    distortion: Tensor
    """[N], summed over the dimensions."""


class LossyCoder(nn.Module):
    r"""A code of integers z = round(g(x)), from which f makes the data again.

    .. math:: L = -\log_2 Q(z) + \beta\, \ell(f(z), x), \quad
              \ell(\hat x, x) = \lVert \hat x - x \rVert^2 - D(\hat x)

    the second term of the distortion ℓ being optional. Rounding has no gradient. In training mode
    uniform noise in [−½, ½) takes its place, so that the rate is that of a variable whose density
    at the integers is Q; or the integers are used and their gradients taken to be those of g(x). In
    evaluation mode z is an integer, the rate is what ideal entropy coding takes, and the
    distortion what remains.

    Args:
        encoder: g, data [N, ...] → [N, C, ...].
        decoder: f, [N, C, ...] → data.
        entropy_model: Q, over C channels.
        beta: β, bits for a unit of distortion.
        rounding: of the training mode.
        critic: D, data → [N]: larger for what looks more like data. It is not among the weights.

    Raises:
        ValueError: for a β that is negative, or another kind of rounding.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, (6.2).
        Ballé, Laparra and Simoncelli, "End-to-end optimized image compression", 2017, section 3,
        for the noise.

    Example:
        >>> import torch
        >>> from gencore.models import LossyCoder
        >>> from gencore.nn import MLP, FactorizedPrior
        >>> coder = LossyCoder(MLP(8, (16,), 3), MLP(3, (16,), 8), FactorizedPrior(3), beta=10.0)
        >>> x = torch.randn(5, 8)
        >>> coder(x).loss.mean().backward()
        >>> z = coder.eval().encode(x)
        >>> z.dtype, coder.decode(z).shape, coder.rate(x).shape
        (torch.int64, torch.Size([5, 8]), torch.Size([5]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        entropy_model: EntropyModel,
        *,
        beta: float,
        rounding: Rounding = "noise",
        critic: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        check_choice("LossyCoder", "rounding", rounding, get_args(Rounding))
        if not 0 <= beta < float("inf"):
            raise ValueError(f"LossyCoder: beta is {beta}; expected at least 0")
        self.encoder, self.decoder, self.entropy_model = encoder, decoder, entropy_model
        self.beta, self.rounding = beta, rounding
        # In a tuple, since a module would become a part of this one.
        self._critic = (critic,)

    def forward(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> RateDistortion:
        """The objective (6.2) of data [N, ...], and its parts.

        Args:
            x: data.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the noise.
            first: number of data points of the processes before this one.
        """
        y: Tensor = self.encoder(x)
        if self.training and self.rounding == "noise":
            z = y + _noise(y, generator, key, first)
        else:
            # The difference is 0: z is the integer, with the gradient of y.
            z = y.detach().round() + (y - y.detach())
        rate = -_LOG2_E * self.entropy_model.log_prob(z).flatten(1).sum(1)
        decoded: Tensor = self.decoder(z)
        if decoded.shape != x.shape:
            raise ValueError(
                f"LossyCoder: the decoder gives {list(decoded.shape)}; expected {list(x.shape)}, "
                "the shape of the data"
            )
        distortion = (decoded - x).square().flatten(1).sum(1)
        (critic,) = self._critic
        if critic is not None:
            distortion = distortion - critic(decoded)
        return RateDistortion(rate + self.beta * distortion, rate, distortion)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """The integers round(g(x)), int64 [N, C, ...]."""
        y: Tensor = self.encoder(x)
        return y.round().to(torch.int64)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """The data f(z) of integers z [N, C, ...].

        Raises:
            TypeError: for codes that are not int64.
        """
        if codes.dtype != torch.int64:
            raise TypeError(f"LossyCoder.decode: codes is {codes.dtype}; expected int64")
        dtype = next((weight.dtype for weight in self.decoder.parameters()), torch.float32)
        decoded: Tensor = self.decoder(codes.to(dtype))
        return decoded

    @torch.no_grad()
    def rate(self, x: Tensor) -> Tensor:
        """The bits [N] that an ideal entropy coder takes for data, −log₂ Q(round(g(x)))."""
        y: Tensor = self.encoder(x)
        return -_LOG2_E * self.entropy_model.log_prob(y.round()).flatten(1).sum(1)

    @torch.no_grad()
    def distortion(self, x: Tensor) -> Tensor:
        """The squared error [N] of the data that are decoded from integers."""
        decoded: Tensor = self.decoder(self.encoder(x).round())
        return (decoded - x).square().flatten(1).sum(1)


def _noise(y: Tensor, generator: Generator | None, key: Tensor | None, first: int) -> Tensor:
    """Uniform in [−½, ½), of this process's rows."""
    if key is None:
        key = random_key(generator, device=y.device)
    first_element = first * y[:1].numel()
    noise = philox_uniform(y.shape, key, first_element=first_element, dtype=accumulation_dtype(y))
    return (noise - 0.5).to(y.dtype)
