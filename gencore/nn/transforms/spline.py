"""Coupling layers of rational-quadratic splines (Durkan et al. 2019)."""

from collections.abc import Sequence

from torch import Tensor, cat

from gencore.nn.networks.mlp import MLP
from gencore.nn.transforms.base import Transform
from gencore.ops import rational_quadratic_spline

__all__ = ["SplineCoupling"]


class SplineCoupling(Transform):
    r"""A part of the coordinates passes through and shapes a spline for each of the others.

    .. math:: z_1 = x_1, \qquad z_2 = \operatorname{RQS}_{\theta(x_1, c)}(x_2)

    x₁ is the first D − ⌊D/2⌋ coordinates; of a single one it is empty, and that one's spline is a
    function of the context alone, or has parameters of its own. The conditioner θ starts at zero,
    which makes the layer the identity; so it is outside [−B, B] at all times.

    Args:
        features: D.
        hidden_widths: of the conditioner, an MLP.
        num_bins: K of each spline.
        tail_bound: B; data are to be scaled such that few lie beyond it.
        context_size: C of contexts [N, C]; 0 for none.
        swap: transform the first part, conditioned on the second.
        bound: of the splines' raw parameters, as for
            :func:`gencore.ops.rational_quadratic_spline`.

    Raises:
        ValueError: for no features, or fewer than two bins.

    References:
        Durkan, Bekasov, Murray and Papamakarios, "Neural spline flows", 2019, §3.

    Example:
        >>> import torch
        >>> from gencore.nn import SplineCoupling
        >>> z, log_det = SplineCoupling(3, [16])(torch.ones(4, 3))
        >>> z.shape, log_det.shape
        (torch.Size([4, 3]), torch.Size([4]))
    """

    def __init__(
        self,
        features: int,
        hidden_widths: Sequence[int],
        num_bins: int = 8,
        tail_bound: float = 3.0,
        context_size: int = 0,
        swap: bool = False,
        *,
        bound: float | None = 1.0,
    ) -> None:
        super().__init__()
        if features < 1 or num_bins < 2:
            raise ValueError(
                f"SplineCoupling: features is {features} and num_bins {num_bins}; expected a "
                "feature or more, and 2 bins or more"
            )
        self.features, self.num_bins, self.swap = features, num_bins, swap or features == 1
        self.tail_bound, self.bound = tail_bound, bound
        self.split = features - features // 2
        kept, moved = self.split, features - self.split
        if self.swap:
            kept, moved = moved, kept
        self.conditioner = MLP(
            kept, hidden_widths, moved * (3 * num_bins - 1), context_size=context_size
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._map(x, context, inverse=False)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._map(z, context, inverse=True)

    def _map(self, x: Tensor, context: Tensor | None, *, inverse: bool) -> tuple[Tensor, Tensor]:
        if x.dim() != 2 or x.shape[1] != self.features:
            raise ValueError(
                f"SplineCoupling: got data of shape {list(x.shape)}; expected [N, {self.features}]"
            )
        first, second = x[:, : self.split], x[:, self.split :]
        kept, moved = (second, first) if self.swap else (first, second)
        bins = self.num_bins
        raw = self.conditioner(kept, context).unflatten(1, (moved.shape[1], 3 * bins - 1))
        widths, heights, derivatives = raw.to(x.dtype).split([bins, bins, bins - 1], dim=-1)
        moved, log_det = rational_quadratic_spline(
            moved, widths, heights, derivatives,
            tail_bound=self.tail_bound, bound=self.bound, inverse=inverse,
        )  # fmt: skip
        return cat([moved, kept] if self.swap else [kept, moved], 1), log_det

    def extra_repr(self) -> str:
        return (
            f"features={self.features}, num_bins={self.num_bins}, tail_bound={self.tail_bound}, "
            f"bound={self.bound}, swap={self.swap}"
        )
