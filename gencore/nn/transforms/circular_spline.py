"""Coupling layers of circular splines, for angles (Rezende et al. 2020)."""

import math

import torch
from torch import Tensor, nn

from gencore.nn.transforms.base import Transform
from gencore.ops._support.checks import accumulation_dtype, clip_bound
from gencore.ops.spline_reference import SplineSettings, reference_spline

__all__ = ["CircularSplineCoupling", "wrap_angle"]


class CircularSplineCoupling(Transform):
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
        num_bins: B of each spline, 2 or more.
        swap: move the first D − ⌊D/2⌋ angles, given the others. Without it the last ⌊D/2⌋ move. A
            single angle always moves, given [N, 0] and the context.
        bound: b of the raw parameters r of splines, which enter as b·tanh(r/b); ``None`` for none.
            The flatter a bin, the more digits of an angle are lost on the way back.

    Raises:
        ValueError: for fewer than two bins or a bound that is not positive; on a call, for data
            that are no [N, D], or a network whose output does not fit.
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
        num_bins: int = 8,
        swap: bool = False,
        bound: float | None = 2.0,
    ) -> None:
        super().__init__()
        if num_bins < 2:
            raise ValueError(f"CircularSplineCoupling: num_bins is {num_bins}; expected at least 2")
        clip_bound("CircularSplineCoupling", "bound", bound)
        self.network, self.num_bins, self.swap, self.bound = network, num_bins, swap, bound

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._map(x, context, inverse=False)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._map(z, context, inverse=True)

    def _map(self, x: Tensor, context: Tensor | None, *, inverse: bool) -> tuple[Tensor, Tensor]:
        if x.dim() != 2 or not x.shape[1]:
            raise ValueError(
                f"CircularSplineCoupling: got data of shape {list(x.shape)}; expected angles [N, D]"
            )
        x = wrap_angle(x)
        split = x.shape[1] - x.shape[1] // 2
        kept, moved = x[:, :split], x[:, split:]
        swap = self.swap or x.shape[1] == 1
        if swap:
            kept, moved = moved, kept
        widths, heights, slopes, phase = self._evaluate(kept, moved, context)
        settings = SplineSettings(
            tail_bound=math.pi,
            bound=clip_bound("CircularSplineCoupling", "bound", self.bound),
            min_width=1e-3, min_height=1e-3, min_derivative=1e-3,
            inverse=inverse,
        )  # fmt: skip
        # In float64 until the end: π of a smaller dtype may be outside of the spline's interval.
        angle = wrap_angle(moved.double() + (0.0 if inverse else phase))
        angle, log_det = reference_spline(angle, widths, heights, slopes, settings)
        moved = wrap_angle(angle - (phase if inverse else 0.0), x.dtype)
        joined = torch.cat([moved, kept] if swap else [kept, moved], 1)
        return joined, log_det.to(accumulation_dtype(x))

    def _evaluate(
        self, kept: Tensor, moved: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Raw widths, heights and slopes [N, K₂, B], and phases [N, K₂], in float64."""
        seen = torch.cat([kept.cos(), kept.sin()], 1)
        raw: Tensor = self.network(seen) if context is None else self.network(seen, context)
        bins, (num, count) = self.num_bins, moved.shape
        if raw.shape != (num, count * (3 * bins + 1)):
            raise ValueError(
                f"CircularSplineCoupling: the network gave {list(raw.shape)}; expected "
                f"{[num, count * (3 * bins + 1)]}, {3 * bins + 1} numbers for each of {count} "
                "angles that move"
            )
        raw = raw.double().unflatten(1, (count, 3 * bins + 1))
        widths, heights, slopes, phase = raw.split([bins, bins, bins, 1], dim=2)
        return widths, heights, slopes, phase.squeeze(2)

    def extra_repr(self) -> str:
        return f"num_bins={self.num_bins}, swap={self.swap}, bound={self.bound}"


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
