"""Coupling layers of circular splines, for angles (Rezende et al. 2020)."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.nn.transforms.coupling import Coupling, OwnMask
from gencore.ops._support.checks import accumulation_dtype, clip_bound
from gencore.ops.spline_reference import SplineSettings, reference_spline

__all__ = ["CircularSplineCoupling", "wrap_angle"]


class CircularSplineCoupling(Coupling):
    r"""A part of the angles passes through and shapes a map of the circle for each of the others.

    .. math:: z_1 = x_1, \qquad z_2 = \operatorname{RQS}_θ(x_2 + φ), \qquad
              (θ, φ) = \mathrm{network}(\cos x_1, \sin x_1, c)

    The rational-quadratic spline maps [−π, π] to itself, with the same slope at both ends, which
    are one point of the circle: so the map and its derivative are continuous everywhere. The phase
    φ moves that point. Angles are in radians and go through modulo 2π, in [−π, π); the network is
    given those that are kept by their cosines and sines, so that it does not see where they are
    cut. A network that gives zeros makes the layer the identity.

    Args:
        network: maps [N, 2K₁], the cosines and then the sines of the K₁ angles that are kept, or
            these and a context, to [N, K₂·(3B + 1)]: of each angle that moves B raw widths, B raw
            heights, B raw slopes, the last of which is that at ±π, and a phase.
        mask: "channel" keeps the first D − ⌊D/2⌋ angles and moves the others; or booleans [D], true
            for the angles that move.
        swap: exchange the two parts. A single angle moves with `swap` only, given [N, 0] and the
            context.
        num_bins: B of each spline, 2 or more.
        bound: b of the raw parameters r of splines, which enter as b·tanh(r/b); ``None`` for none.
            The flatter a bin, the more digits of an angle are lost on the way back.

    Raises:
        ValueError: for fewer than two bins, a bound that is not positive, or another mask; on a
            call, for data that are no [N, D] or of which nothing moves, or a network whose output
            does not fit.
        TypeError: for a bound that is no number.

    References:
        Rezende, Papamakarios, Racanière, Albergo, Kanwar, Shanahan and Cranmer, "Normalizing flows
        on tori and spheres", 2020, §2.1.3 and §2.2. Durkan, Bekasov, Murray and Papamakarios,
        "Neural spline flows", 2019, eqs. (4) to (8).

    Example:
        >>> import math, torch
        >>> from gencore.nn import MLP, CircularSplineCoupling
        >>> coupling = CircularSplineCoupling(MLP(2, [16], 25, zero_last=False), num_bins=8)
        >>> ends = torch.tensor([[0.3, -math.pi], [0.3, math.pi]])  # the same point of the torus
        >>> z, log_det = coupling(ends)
        >>> torch.allclose(z[0], z[1], atol=1e-5), torch.allclose(log_det[0], log_det[1], atol=1e-5)
        (True, True)
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        mask: Literal["channel"] | OwnMask = "channel",
        swap: bool = False,
        num_bins: int = 8,
        bound: float | None = 2.0,
    ) -> None:
        if isinstance(mask, str):
            check_choice("CircularSplineCoupling", "mask", mask, ["channel"])
        super().__init__(network, mask, swap)
        if num_bins < 2:
            raise ValueError(f"CircularSplineCoupling: num_bins is {num_bins}; expected 2 or more")
        clip_bound("CircularSplineCoupling", "bound", bound)
        self.num_bins, self.bound = num_bins, bound

    @property
    def num_parameters(self) -> int:
        """3B + 1."""
        return 3 * self.num_bins + 1

    def map_part(self, x: Tensor, parameters: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        bins = self.num_bins
        raw = parameters.double().unflatten(1, (-1, self.num_parameters))
        widths, heights, slopes, phase = raw.split([bins, bins, bins, 1], 2)
        phase = phase.squeeze(2)
        settings = SplineSettings(
            tail_bound=math.pi,
            bound=clip_bound("CircularSplineCoupling", "bound", self.bound),
            min_width=1e-3, min_height=1e-3, min_derivative=1e-3,
            inverse=inverse,
        )  # fmt: skip
        # In float64 until the end: π of a smaller dtype may be outside of the spline's interval.
        angle = wrap_angle(self.moved(x).double() + (0.0 if inverse else phase))
        angle, log_det = reference_spline(angle, widths, heights, slopes, settings)
        moved = wrap_angle(angle - (phase if inverse else 0.0), x.dtype)
        return self.with_moved(wrap_angle(x), moved), log_det.to(accumulation_dtype(x))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_bins={self.num_bins}, bound={self.bound}"

    def _evaluate(self, x: Tensor, kept: Tensor, context: Tensor | None) -> Tensor:
        return super()._evaluate(x, torch.cat([kept.cos(), kept.sin()], 1), context)

    def _check_data(self, x: Tensor) -> None:
        if x.dim() != 2:
            raise ValueError(
                f"CircularSplineCoupling: data have shape {list(x.shape)}; expected angles [N, D]"
            )
        super()._check_data(x)


def wrap_angle(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Angles modulo 2π, in [−π, π) with π as their dtype rounds it; those that are there stay.

    Args:
        x: angles in radians.
        dtype: of the result; that of ``x`` if ``None``.
    """
    wide = x.double()
    turned = torch.remainder(wide + math.pi, 2 * math.pi) - math.pi
    wrapped = torch.where((x >= -math.pi) & (x < math.pi), wide, turned)
    wrapped = wrapped.to(dtype or x.dtype)
    return torch.where(wrapped >= math.pi, -math.pi, wrapped)
