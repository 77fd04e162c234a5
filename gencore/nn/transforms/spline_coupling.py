"""Coupling layers of rational-quadratic splines (Durkan et al. 2019)."""

from torch import Tensor, nn

from gencore.nn.transforms.coupling import Coupling, OwnMask
from gencore.ops import CouplingMask, rational_quadratic_spline

__all__ = ["SplineCoupling"]


class SplineCoupling(Coupling):
    r"""Part x₁ passes through, and a network of it shapes a spline for each entry of x₂.

    .. math:: z_1 = x_1, \qquad z_2 = \operatorname{RQS}_{\theta}(x_2), \qquad
              \theta = \mathrm{network}(x_1, c)

    It starts as its network does: as the identity, if that gives zeros. Outside [−B, B] it is the
    identity at all times.

    Args:
        network: maps x₁, or x₁ and a context, to the raw parameters [N, M·(3K − 1), ...] of the M
            entries of dimension 1 that move: of each entry K widths, K heights and K − 1 slopes,
            side by side. Deterministic, if the coupling is part of a `Reversible`.
        mask: "channel", "checkerboard", or booleans [C], as for
            :class:`~gencore.nn.AffineCoupling`.
        swap: exchange the two parts.
        num_bins: K of each spline.
        tail_bound: B; data are to be scaled such that few lie beyond it.
        bound: of the splines' raw parameters, as for
            :func:`gencore.ops.rational_quadratic_spline`.

    Raises:
        ValueError: for another mask, or fewer than two bins; on a call, for x that has no two
            parts, or a network whose output does not fit.

    References:
        Durkan, Bekasov, Murray and Papamakarios, "Neural spline flows", 2019, §3.

    Example:
        >>> import torch
        >>> from gencore.nn import MLP, SplineCoupling
        >>> coupling = SplineCoupling(MLP(2, [16], 1 * (3 * 8 - 1)))
        >>> z, log_det = coupling(torch.ones(4, 3))
        >>> z.shape, log_det.shape
        (torch.Size([4, 3]), torch.Size([4]))
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        mask: CouplingMask | OwnMask = "channel",
        swap: bool = False,
        num_bins: int = 8,
        tail_bound: float = 3.0,
        bound: float | None = 1.0,
    ) -> None:
        super().__init__(network, mask, swap)
        if num_bins < 2:
            raise ValueError(f"SplineCoupling: num_bins is {num_bins}; expected 2 or more")
        self.num_bins, self.tail_bound, self.bound = num_bins, tail_bound, bound

    @property
    def num_parameters(self) -> int:
        """3K − 1."""
        return 3 * self.num_bins - 1

    def map_part(self, x: Tensor, parameters: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        bins = self.num_bins
        # Split before the bins become the last dimension, so that the one copy that brings them
        # there, or in the backward pass back, is also that which splits, or joins.
        raw = parameters.unflatten(1, (-1, self.num_parameters)).split([bins, bins, bins - 1], 2)
        widths, heights, derivatives = (part.movedim(2, -1) for part in raw)
        if self.mask == "checkerboard":
            widths, heights, derivatives = map(self.moved, (widths, heights, derivatives))
        moved, log_det = rational_quadratic_spline(
            self.moved(x), widths, heights, derivatives,
            tail_bound=self.tail_bound, bound=self.bound, inverse=inverse,
        )  # fmt: skip
        return self.with_moved(x, moved), log_det

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, num_bins={self.num_bins}, tail_bound={self.tail_bound}, "
            f"bound={self.bound}"
        )
