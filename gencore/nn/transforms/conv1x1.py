"""Invertible 1×1 convolutions in PLU form."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencore.nn.fixed_buffers import FixedBuffers, with_values
from gencore.nn.transforms.base import Rewound, Transform, check_channels
from gencore.ops._support.checks import accumulation_dtype

__all__ = ["InvertibleConv1x1"]


class InvertibleConv1x1(FixedBuffers, Transform):
    r"""A learned mixing of channels, z = W x at every position.

    .. math:: W = P L (U + \mathrm{diag}(σ e^{a})), \qquad
              \log\lvert\det\rvert = S \textstyle\sum_c a_c

    for S positions in a channel, with a fixed permutation P, a unit lower triangle L, a strict
    upper triangle U and fixed signs σ, so that W cannot become singular and its determinant costs
    nothing. The inverse comes from two triangular solves in float64. W starts as a random rotation.

    Args:
        channels: C, entries of dimension 1 of the data [N, C, ...]; at least 1.
        generator: of the rotation; torch's default one if ``None``.

    Raises:
        ValueError: for no channels, and on a call for data with another number of channels.

    References:
        Kingma and Dhariwal, "Glow: generative flow with invertible 1×1 convolutions", 2018, (9)–
        (11).

    Example:
        >>> import torch
        >>> from gencore.nn import InvertibleConv1x1
        >>> layer = InvertibleConv1x1(3)
        >>> z, log_det = layer(torch.ones(1, 3, 2, 2))
        >>> torch.allclose(layer.inverse(z)[0], torch.ones(1, 3, 2, 2), atol=1e-5)
        True
        >>> log_det.abs().item() < 1e-4  # a rotation preserves volume
        True
    """

    order: Tensor
    sign: Tensor
    below: Tensor
    unit: Tensor

    def __init__(self, channels: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"InvertibleConv1x1: channels is {channels}; expected at least 1")
        dtype = torch.get_default_dtype()
        with with_values():
            rotation = torch.linalg.qr(
                torch.randn(channels, channels, dtype=torch.float64, generator=generator)
            ).Q
            permutation, lower, upper = torch.linalg.lu(rotation)
            # Cheaper for small matrices than tril and triu, which start threads.
            below = torch.ones(channels, channels, dtype=dtype).tril(-1)
            unit = torch.eye(channels, dtype=dtype)
        diagonal, home = upper.diagonal(), torch.get_default_device()
        self.lower = nn.Parameter(lower.tril(-1).to(home, dtype))
        self.upper = nn.Parameter(upper.triu(1).to(home, dtype))
        self.log_diagonal = nn.Parameter(diagonal.abs().log().to(home, dtype))
        self.register_fixed("sign", diagonal.sign().to(dtype))
        self.register_fixed("order", permutation.argmax(1))  # row i of W is row order[i] of LU
        self.register_fixed("below", below, persistent=False)
        self.register_fixed("unit", unit, persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_channels("InvertibleConv1x1", x, self.sign.numel())
        return self._mix(x, self._weight()), self._log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_channels("InvertibleConv1x1", z, self.sign.numel())
        return self._mix(z, self._inverse_weight()), -self._log_det(z)

    def rewind(
        self, z: Tensor, context: Tensor | None, grad_z: Tensor, grad_log_det: Tensor
    ) -> Rewound:
        # Written out: for matrices this small, recording a graph takes longer than what is in it.
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            dtype = self.lower.dtype
            lower, upper = self._factors(dtype)
            x = self._mix(z, self._inverse_weight())
            grad_x = self._mix(grad_z, (lower @ upper)[self.order].T)
            grad_weight = torch.bmm(
                grad_z.flatten(2) if z.dim() > 2 else grad_z[:, :, None],
                (x.flatten(2) if z.dim() > 2 else x[:, :, None]).transpose(1, 2),
            ).sum(0)
            grad_product = torch.empty_like(lower)
            grad_product[self.order] = grad_weight.to(dtype)
            grad_upper = lower.T @ grad_product
            volume = z.shape[2:].numel() * grad_log_det.sum()
            grads = {
                self.lower: (grad_product @ upper.T) * self.below,
                self.upper: grad_upper * self.below.T,
                self.log_diagonal: grad_upper.diagonal() * upper.diagonal() + volume.to(dtype),
            }
        return Rewound(x, grad_x, None, {p: g for p, g in grads.items() if p.requires_grad})

    def extra_repr(self) -> str:
        return f"{self.sign.numel()}"

    def _weight(self) -> Tensor:
        with torch.autocast(self.lower.device.type, enabled=False):
            lower, upper = self._factors(self.lower.dtype)
            return (lower @ upper)[self.order]

    def _inverse_weight(self) -> Tensor:
        lower, upper = self._factors(torch.float64)
        permutation = self.unit.to(torch.float64)[self.order].T
        half = torch.linalg.solve_triangular(lower, permutation, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, half, upper=True)

    def _factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        unit, below = self.unit.to(dtype), self.below.to(dtype)
        diagonal = torch.diag(self.sign.to(dtype) * self.log_diagonal.to(dtype).exp())
        lower = torch.addcmul(unit, self.lower.to(dtype), below)
        return lower, torch.addcmul(diagonal, self.upper.to(dtype), below.T)

    @staticmethod
    def _mix(x: Tensor, weight: Tensor) -> Tensor:
        # Not in autocast's half precision, from which the inverse would not come back.
        with torch.autocast(x.device.type, enabled=False):
            weight = weight.to(x.dtype)
            if x.dim() == 2:
                return F.linear(x, weight)
            # Small products, for which a convolution prepares too much.
            return torch.bmm(weight.expand(x.shape[0], -1, -1), x.flatten(2)).view_as(x)

    def _log_det(self, x: Tensor) -> Tensor:
        positions = x.shape[2:].numel()
        return (positions * self.log_diagonal.to(accumulation_dtype(x)).sum()).expand(x.shape[0])
