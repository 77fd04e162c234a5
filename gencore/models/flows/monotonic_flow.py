"""Flows of unconstrained monotonic networks (Wehenkel and Louppe 2019)."""

from collections.abc import Sequence

from gencore.models.flows.flow import Base, Flow
from gencore.models.flows.stacks import interleaved, stack
from gencore.nn.transforms import MonotonicAutoregressive, Permutation
from gencore.ops.mlp import ActivationName
from gencore.sizes import check_positive

__all__ = ["MonotonicFlow"]


class MonotonicFlow(Flow):
    r"""A masked autoregressive flow whose coordinates are mapped by monotonic networks, UMNN-MAF.

    .. math:: z = f_K \circ \rho \circ \dots \circ \rho \circ f_1(x), \qquad
              f(x)_i = F\big(x_i; h_i(x_{<i})\big)

    with the reversal ρ of the coordinates between layers. One layer can have any density, where one
    of a :class:`MAF` has Gaussian conditionals. Densities take one pass of each layer; samples take
    D roots a layer, of some tens of quadratures. Give it data of about unit variance: beyond the
    tail bound each function is a line.

    Args:
        features: D, the numbers in a row of the data.
        num_layers: K.
        hidden_widths: of each layer's :class:`~gencore.nn.MADE`.
        activation: of it.
        embedding_size: of h_i.
        integrand_widths: of the network under the integral.
        num_nodes: of the quadrature.
        tail_bound: B of each function.
        context_size: C of contexts [N, C]; 0 for none.
        base: of the latents, as for :class:`Flow`.
        reversible: rebuild inputs in the backward pass, so that memory does not grow with depth.

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Wehenkel and Louppe, "Unconstrained monotonic neural networks", 2019, §3.

    Example:
        >>> import torch
        >>> from gencore.models import MonotonicFlow
        >>> flow = MonotonicFlow(2, num_layers=1, hidden_widths=(16,))
        >>> flow().log_prob(torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        features: int,
        *,
        num_layers: int = 3,
        hidden_widths: Sequence[int] = (64, 64),
        activation: ActivationName = "silu",
        embedding_size: int = 8,
        integrand_widths: Sequence[int] = (32, 32),
        num_nodes: int = 33,
        tail_bound: float = 5.0,
        context_size: int = 0,
        base: Base = "normal",
        reversible: bool = False,
    ) -> None:
        check_positive("MonotonicFlow", features=features, num_layers=num_layers)
        layers = interleaved(
            num_layers,
            lambda _: MonotonicAutoregressive(
                features, hidden_widths, activation=activation, embedding_size=embedding_size,
                integrand_widths=integrand_widths, num_nodes=num_nodes, tail_bound=tail_bound,
                context_size=context_size,
            ),
            lambda: Permutation.reverse(features),
        )  # fmt: skip
        transform = stack(layers, reversible=reversible)
        super().__init__(transform, [features], base=base, context_size=context_size)
