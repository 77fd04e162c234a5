"""Transforms of each coordinate by a monotonic network (Wehenkel and Louppe 2019)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gencore.nn.affine_start import start_affine
from gencore.nn.context import check_context, weight_of
from gencore.nn.networks.made import MADE
from gencore.nn.networks.monotonic_network import MonotonicNetwork
from gencore.nn.transforms.amortised import AmortisedParameters
from gencore.nn.transforms.base import Transform, no_log_det
from gencore.ops.mlp import ActivationName

__all__ = ["MonotonicAutoregressive", "MonotonicElementwise"]


class MonotonicElementwise(Transform):
    r"""Each coordinate by an increasing function of its own, the same for all data or by a context.

    .. math:: z_i = F(x_i; h_i(c)), \qquad \log\left\lvert\det\frac{\partial z}{\partial x}
              \right\rvert = \sum_i \log F'(x_i; h_i(c))

    with a :class:`~gencore.nn.MonotonicNetwork` F, which all coordinates share, and embeddings h
    that are parameters, moved by a linear map of the context.

    Args:
        features: D.
        embedding_size: of each coordinate.
        hidden_widths: of F's network.
        num_nodes: of F's quadrature.
        tail_bound: B, beyond which F is a line.
        context_size: C of contexts [N, C]; 0 for none.

    Shape:
        [N, D], and contexts [N, C].

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Wehenkel and Louppe, "Unconstrained monotonic neural networks", 2019, §3.

    Example:
        >>> import torch
        >>> from gencore.nn import MonotonicElementwise
        >>> transform = MonotonicElementwise(3)
        >>> z, log_det = transform(torch.ones(5, 3))
        >>> torch.allclose(transform.inverse(z)[0], torch.ones(5, 3), atol=1e-5)
        True
    """

    def __init__(
        self,
        features: int,
        *,
        embedding_size: int = 8,
        hidden_widths: Sequence[int] = (32, 32),
        num_nodes: int = 33,
        tail_bound: float = 5.0,
        context_size: int = 0,
    ) -> None:
        super().__init__()
        self.network = MonotonicNetwork(
            embedding_size, hidden_widths, num_nodes=num_nodes, tail_bound=tail_bound
        )
        initial = torch.randn(max(features, 0), 1 + embedding_size)
        initial[:, 0] = 0.0
        self.embeddings = AmortisedParameters(
            "MonotonicElementwise", initial.flatten(), features, context_size
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_slopes = self.network(x, self._embed(x, context))
        return z, log_slopes.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_slopes = self.network.inverse(z, self._embed(z, context))
        return x, -log_slopes.sum(1)

    def _embed(self, x: Tensor, context: Tensor | None) -> Tensor:
        values: Tensor = self.embeddings(x, context)
        return values.unflatten(1, (x.shape[1], -1)).expand(*x.shape, -1)


class MonotonicAutoregressive(Transform):
    r"""Each coordinate by an increasing function that the coordinates before it shape.

    .. math:: z_i = F\big(x_i; h_i(x_{<i}; c)\big), \qquad
              \log\left\lvert\det\frac{\partial z}{\partial x}\right\rvert
              = \sum_i \log F'\big(x_i; h_i(x_{<i}; c)\big)

    with the embeddings h of a :class:`~gencore.nn.MADE` and a
    :class:`~gencore.nn.MonotonicNetwork` F, which all coordinates share. Densities take one pass of
    both; samples are found coordinate by coordinate, each as a root. At first z is x moved by h₀,
    as a :class:`~gencore.nn.MaskedAutoregressive` layer starts.

    Args:
        features: D.
        hidden_widths: of the MADE.
        activation: of the MADE.
        embedding_size: of each coordinate.
        integrand_widths: of F's network.
        num_nodes: of F's quadrature.
        tail_bound: B, beyond which F is a line.
        context_size: C of contexts [N, C]; 0 for none.
        order: the coordinates from first to last; ``None``: as they come.

    Shape:
        [N, D], and contexts [N, C].

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Wehenkel and Louppe, "Unconstrained monotonic neural networks", 2019, §3.

    Example:
        >>> import torch
        >>> from gencore.nn import MonotonicAutoregressive
        >>> transform = MonotonicAutoregressive(3, (16,))
        >>> z, log_det = transform(torch.ones(5, 3))
        >>> torch.allclose(transform.inverse(z)[0], torch.ones(5, 3), atol=1e-5)
        True
    """

    def __init__(
        self,
        features: int,
        hidden_widths: Sequence[int] = (64, 64),
        *,
        activation: ActivationName = "silu",
        embedding_size: int = 8,
        integrand_widths: Sequence[int] = (32, 32),
        num_nodes: int = 33,
        tail_bound: float = 5.0,
        context_size: int = 0,
        order: Sequence[int] | Tensor | None = None,
    ) -> None:
        super().__init__()
        self.network = MonotonicNetwork(
            embedding_size, integrand_widths, num_nodes=num_nodes, tail_bound=tail_bound
        )
        self.made = MADE(
            features, hidden_widths, 1 + embedding_size, activation=activation,
            context_size=context_size, order=order,
        )  # fmt: skip
        start_affine(self.made.linears()[-1], slice(features), slice(0), features)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self._check(x, context)
        z, log_slopes = self.network(x, self.made(x, context).movedim(-2, -1))
        return z, log_slopes.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self._check(z, context)
        columns = [torch.zeros_like(z[:, 0])] * self.made.num_inputs
        log_det = no_log_det(z)
        order = self.made.order
        for i in range(len(columns)) if order is None else order.tolist():
            h = self.made(torch.stack(columns, 1), context)[:, :, i]
            columns[i], log_slope = self.network.inverse(z[:, i], h)
            log_det = log_det - log_slope
        return torch.stack(columns, 1), log_det

    def _check(self, x: Tensor, context: Tensor | None) -> None:
        made = self.made
        if x.dim() != 2 or x.shape[1] != made.num_inputs:
            raise ValueError(
                f"MonotonicAutoregressive: data have shape {list(x.shape)}; expected [N, "
                f"{made.num_inputs}]"
            )
        if made.context_size:
            check_context(
                "MonotonicAutoregressive", context, x.shape[0], made.context_size, weight_of(made)
            )
