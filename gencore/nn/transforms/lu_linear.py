"""Invertible linear maps in PLU form."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.nn.fixed_buffers import FixedBuffers, with_values
from gencore.nn.transforms.base import Rewound, Transform, check_channels
from gencore.ops._support.checks import accumulation_dtype
from gencore.sizes import check_positive

__all__ = ["LULinear", "LinearStart"]

LinearStart = Literal["identity", "reverse", "permutation", "rotation"]


class LULinear(FixedBuffers, Transform):
    r"""A learned invertible matrix and a shift, z = W x + b.

    .. math:: W = P L (U + \mathrm{diag}(σ e^{a})), \qquad
              \log\lvert\det\rvert = \textstyle\sum_i a_i

    with a fixed permutation P, a unit lower triangle L, a strict upper triangle U and fixed signs
    σ, so that W cannot become singular and its determinant costs nothing. The inverse comes from
    two triangular solves in float64. Data [N, D, ...] with further dimensions are mixed at each
    of their S positions, which makes the log-determinant S times as large.

    Args:
        features: D, entries of dimension 1 of the data; at least 1.
        start: what W is at first: the "identity", the "reverse" of the coordinates, a random
            "permutation" of them, or a random "rotation". The first three start with L = 1, U = 0
            and a = 0.
        bias: whether there is a b, zero at first.
        generator: of a random start; torch's default one if ``None``.

    Raises:
        ValueError: for no features or another start, and on a call for data of another size.

    References:
        Kingma and Dhariwal, "Glow: generative flow with invertible 1×1 convolutions", 2018, (9)–
        (11). Durkan, Bekasov, Murray and Papamakarios, "Neural spline flows", 2019, §3.1.

    Example:
        >>> import torch
        >>> from gencore.nn import LULinear
        >>> layer = LULinear(3, start="reverse")
        >>> layer(torch.tensor([[0.0, 1.0, 2.0]]))[0].tolist()
        [[2.0, 1.0, 0.0]]
    """

    order: Tensor
    sign: Tensor
    below: Tensor
    unit: Tensor
    bias: nn.Parameter | None

    def __init__(
        self,
        features: int,
        *,
        start: LinearStart = "identity",
        bias: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_positive(owner, features=features)
        check_choice(owner, "start", start, get_args(LinearStart))
        dtype = torch.get_default_dtype()
        with with_values():
            weight = _start(start, features, generator)
            permutation, lower, upper = torch.linalg.lu(weight)
            # Cheaper for small matrices than tril and triu, which start threads.
            below = torch.ones(features, features, dtype=dtype).tril(-1)
            unit = torch.eye(features, dtype=dtype)
        diagonal, home = upper.diagonal(), torch.get_default_device()
        self.lower = nn.Parameter(lower.tril(-1).to(home, dtype))
        self.upper = nn.Parameter(upper.triu(1).to(home, dtype))
        self.log_diagonal = nn.Parameter(diagonal.abs().log().to(home, dtype))
        self.bias = nn.Parameter(torch.zeros(features)) if bias else None
        self.register_fixed("sign", diagonal.sign().to(dtype))
        self.register_fixed("order", permutation.argmax(1))  # row i of W is row order[i] of LU
        self.register_fixed("below", below, persistent=False)
        self.register_fixed("unit", unit, persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_channels(type(self).__name__, x, self.sign.numel())
        z = self._mix(x, self._weight())
        return z if self.bias is None else z + self._shift(z), self._log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_channels(type(self).__name__, z, self.sign.numel())
        return self._unmix(z), -self._log_det(z)

    def rewind(
        self, z: Tensor, context: Tensor | None, grad_z: Tensor, grad_log_det: Tensor
    ) -> Rewound:
        # Written out: for matrices this small, recording a graph takes longer than what is in it.
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            dtype = self.lower.dtype
            lower, upper = self._factors(dtype)
            x = self._unmix(z)
            grad_x = self._mix(grad_z, (lower @ upper)[self.order].T)
            if z.dim() == 2:
                grad_weight = grad_z.T @ x
            else:
                grad_weight = torch.bmm(grad_z.flatten(2), x.flatten(2).transpose(1, 2)).sum(0)
            grad_product = torch.empty_like(lower)
            grad_product[self.order] = grad_weight.to(dtype)
            grad_upper = lower.T @ grad_product
            volume = z.shape[2:].numel() * grad_log_det.sum()
            grads = {
                self.lower: (grad_product @ upper.T) * self.below,
                self.upper: grad_upper * self.below.T,
                self.log_diagonal: grad_upper.diagonal() * upper.diagonal() + volume.to(dtype),
            }
            if self.bias is not None:
                grads[self.bias] = grad_z.transpose(0, 1).flatten(1).sum(1).to(dtype)
        return Rewound(x, grad_x, None, {p: g for p, g in grads.items() if p.requires_grad})

    def extra_repr(self) -> str:
        return f"{self.sign.numel()}"

    def _weight(self) -> Tensor:
        with torch.autocast(self.lower.device.type, enabled=False):
            lower, upper = self._factors(self.lower.dtype)
            return (lower @ upper)[self.order]

    def _unmix(self, z: Tensor) -> Tensor:
        return self._mix(z if self.bias is None else z - self._shift(z), self._inverse_weight())

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

    def _shift(self, x: Tensor) -> Tensor:
        """b, to be broadcast with x."""
        assert self.bias is not None
        return self.bias.to(x.dtype).view(-1, *(1,) * (x.dim() - 2))

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


def _start(start: LinearStart, features: int, generator: torch.Generator | None) -> Tensor:
    """W at first, in float64."""
    if start == "rotation":
        normal = torch.randn(features, features, dtype=torch.float64, generator=generator)
        return torch.linalg.qr(normal).Q
    rows = torch.arange(features)
    if start == "reverse":
        rows = rows.flip(0)
    elif start == "permutation":
        rows = torch.randperm(features, generator=generator)
    return torch.eye(features, dtype=torch.float64)[rows]
