"""Autoregressive layers of rational-quadratic splines (Durkan et al. 2019)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from gencore.nn.transforms.autoregressive import Autoregressive
from gencore.ops import rational_quadratic_spline

__all__ = ["MaskedAutoregressiveSpline"]


class MaskedAutoregressiveSpline(Autoregressive):
    r"""Each coordinate by a spline that those before it shape: densities take one pass.

    .. math:: z_i = \operatorname{RQS}_{\theta_i(x_{<i}; c)}(x_i), \qquad
              \log\left\lvert\det\frac{\partial z}{\partial x}\right\rvert
              = \sum_i \log \operatorname{RQS}'_{\theta_i}(x_i)

    with a masked network θ, which starts at zero: the layer starts as the identity, and so it is
    outside [−B, B] at all times. Data are found coordinate by coordinate;
    :class:`gencore.nn.Inverse` of the layer has samples in one pass instead.

    Args:
        features: D, the numbers in a row of the data.
        hidden_widths: of the network of θ.
        num_bins: K of each spline.
        tail_bound: B; data are to be scaled such that few lie beyond it.
        activation, residual, dropout, adjacency: of the network, as for :class:`gencore.nn.MADE`.
        bound: of the splines' raw parameters, as for
            :func:`gencore.ops.rational_quadratic_spline`.
        context_size: C of contexts [N, C]; 0 for none.
        order: the coordinates from first to last; ``None``: as they come.

    Raises:
        ValueError: for sizes that do not fit, or fewer than two bins.

    References:
        Durkan, Bekasov, Murray and Papamakarios, "Neural spline flows", 2019, §3.2, the
        autoregressive transform of RQ-NSF (AR).

    Example:
        >>> import torch
        >>> from gencore.nn import MaskedAutoregressiveSpline
        >>> layer = MaskedAutoregressiveSpline(3, (16, 16))
        >>> z, log_det = layer(torch.ones(5, 3))
        >>> layer.inverse(z)[0].shape, log_det.shape
        (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(
        self,
        features: int,
        hidden_widths: Sequence[int],
        num_bins: int = 8,
        tail_bound: float = 3.0,
        *,
        activation: str = "relu",
        bound: float | None = 1.0,
        context_size: int = 0,
        order: Sequence[int] | Tensor | None = None,
        adjacency: Sequence[Sequence[bool]] | Tensor | None = None,
        residual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        if num_bins < 2:
            raise ValueError(
                f"MaskedAutoregressiveSpline: num_bins is {num_bins}; expected 2 or more"
            )
        super().__init__(
            features, hidden_widths, 3 * num_bins - 1, activation=activation,
            context_size=context_size, order=order, adjacency=adjacency, residual=residual,
            dropout=dropout, features_first=True,
        )  # fmt: skip
        self.num_bins, self.tail_bound, self.bound = num_bins, tail_bound, bound
        for parameter in self._last.parameters():
            nn.init.zeros_(parameter)

    def step(self, u: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        return self._spline(u, theta, inverse=False)

    def unstep(self, v: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        return self._spline(v, theta, inverse=True)

    @property
    def fused_step(self) -> dict[str, Any]:
        return {"step": "spline", "bound": self.bound, "tail_bound": self.tail_bound}

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.evaluate(x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.solve(z, context)

    def _spline(self, x: Tensor, theta: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        bins = self.num_bins
        return rational_quadratic_spline(
            x, *theta.split([bins, bins, bins - 1], dim=-1), tail_bound=self.tail_bound,
            bound=self.bound, inverse=inverse,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"num_bins={self.num_bins}, tail_bound={self.tail_bound}, bound={self.bound}"
