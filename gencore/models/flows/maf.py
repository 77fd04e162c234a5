"""The masked autoregressive flow (Papamakarios, Pavlakou and Murray 2017)."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from gencore.models.flows.autoregressive_stack import autoregressive_layers
from gencore.models.flows.flow import Base, Flow
from gencore.models.flows.names import AutoregressiveMixing
from gencore.models.flows.stacks import stack
from gencore.nn.transforms import MaskedAutoregressive
from gencore.sizes import check_positive

__all__ = ["MAF"]


class MAF(Flow):
    r"""A flow whose densities take one pass of each layer's network, and samples D short steps.

    .. math:: z = f_K \circ \rho \circ f_{K-1} \circ \dots \circ \rho \circ f_1(x), \qquad
              f(x)_i = \big(x_i - m_i(x_{<i})\big)\, e^{-s_i(x_{<i})}

    with a learned matrix, or another mixing, ρ of the coordinates between layers; the paper's has
    ``mixing="reverse"``. Log-scales start at zero, shifts do not: from a permutation, data of
    independent coordinates would give it no gradient to leave by.

    Args:
        features: D, the numbers in a row of the data.
        num_layers: K.
        hidden_widths: of each layer's network.
        activation, residual, dropout, adjacency: of the networks, as for :class:`gencore.nn.MADE`.
            With an adjacency, [D, D], all layers have that graph, and nothing is permuted.
        mixing: of the coordinates between layers: "lu", :class:`~gencore.nn.LULinear` layers that
            start as the reversal; "reverse", as in the paper; or fixed random "permutation"s.
            ``None``: "lu", the better one over four data sets (docs/flows.md), but with an
            adjacency nothing.
        bound: of the log-scales |s|; ``None`` for none.
        context_size: C of contexts [N, C]; 0 for none.
        base: of the latents, as for :class:`Flow`.
        reversible: rebuild inputs in the backward pass, so that memory does not grow with depth;
            not with dropout.
        generator: of random permutations; torch's default if ``None``.

    Raises:
        ValueError: for sizes that do not fit, another mixing, or dropout in a reversible flow.

    References:
        Papamakarios, Pavlakou and Murray, "Masked Autoregressive Flow for Density Estimation",
        2017, §3.1-3.3, eq. (3)-(5).

    Example:
        >>> import torch
        >>> from gencore.models import MAF
        >>> maf = MAF(3, num_layers=2, hidden_widths=(16, 16), context_size=4)
        >>> density = maf(torch.zeros(10, 4))
        >>> x = density.sample()
        >>> density.log_prob(x).shape
        torch.Size([10])
    """

    def __init__(
        self,
        features: int,
        *,
        num_layers: int = 5,
        hidden_widths: Sequence[int] = (64, 64),
        activation: str = "relu",
        residual: bool = False,
        dropout: float = 0.0,
        adjacency: Sequence[Sequence[bool]] | Tensor | None = None,
        mixing: AutoregressiveMixing | None = None,
        bound: float | None = 2.0,
        context_size: int = 0,
        base: Base = "normal",
        reversible: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        check_positive("MAF", num_layers=num_layers)
        layers = autoregressive_layers(
            "MAF", features, num_layers, partial(MaskedAutoregressive, features, hidden_widths),
            mixing=mixing, generator=generator,
            activation=activation, residual=residual, dropout=dropout, adjacency=adjacency,
            bound=bound, context_size=context_size,
        )  # fmt: skip
        transform = stack(layers, reversible=reversible)
        super().__init__(transform, [features], base=base, context_size=context_size)
