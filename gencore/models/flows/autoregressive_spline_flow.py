"""Neural spline flows on vectors, of autoregressive layers (Durkan et al. 2019)."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from gencore.models.flows.autoregressive_stack import autoregressive_layers
from gencore.models.flows.flow import Base, Flow
from gencore.models.flows.names import AutoregressiveMixing
from gencore.models.flows.stacks import stack
from gencore.nn.transforms import MaskedAutoregressiveSpline
from gencore.sizes import check_positive

__all__ = ["AutoregressiveSplineFlow"]


class AutoregressiveSplineFlow(Flow):
    r"""A flow of masked autoregressive rational-quadratic splines, RQ-NSF (AR) of the paper.

    .. math:: z = f_K \circ \rho \circ f_{K-1} \circ \dots \circ \rho \circ f_1(x), \qquad
              f(x)_i = \operatorname{RQS}_{\theta_i(x_{<i})}(x_i)

    with a learned matrix, or another mixing, ρ of the coordinates between layers. Densities take
    one pass of each layer's network, samples D short steps. It starts as a permutation of standard
    normal coordinates. Outside [−B, B] of each coordinate the splines are the identity: give it
    data of about unit variance.

    Args:
        features: D. One alone has splines of the context.
        num_layers: K.
        hidden_widths: of each layer's network.
        activation, residual, dropout, adjacency: of the networks, as for :class:`gencore.nn.MADE`.
            With an adjacency, [D, D], all layers have that graph, and nothing is permuted.
        mixing: of the coordinates between layers: "lu", :class:`~gencore.nn.LULinear` layers that
            start as the reversal, as in the paper; "reverse"; or fixed random "permutation"s.
            ``None``: "lu", but with an adjacency nothing.
        num_bins: of each spline.
        tail_bound: B. Its default and that of `bound` are the best over four data sets
            (docs/flows.md).
        bound: of the splines' raw parameters, as for
            :func:`gencore.ops.rational_quadratic_spline`.
        context_size: C of contexts [N, C]; 0 for none.
        base: of the latents, as for :class:`Flow`.
        reversible: rebuild inputs in the backward pass, so that memory does not grow with depth;
            not with dropout.
        generator: of random permutations; torch's default if ``None``.

    Raises:
        ValueError: for sizes that do not fit, another mixing, or dropout in a reversible flow.

    References:
        Durkan, Bekasov, Murray and Papamakarios, "Neural spline flows", 2019.

    Example:
        >>> import torch
        >>> from gencore.models import AutoregressiveSplineFlow
        >>> flow = AutoregressiveSplineFlow(3, num_layers=2, hidden_widths=(16, 16))
        >>> x = flow().sample((10,))
        >>> flow().log_prob(x).shape
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
        num_bins: int = 8,
        tail_bound: float = 5.0,
        bound: float | None = 3.0,
        context_size: int = 0,
        base: Base = "normal",
        reversible: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        check_positive("AutoregressiveSplineFlow", num_layers=num_layers)
        layers = autoregressive_layers(
            "AutoregressiveSplineFlow", features, num_layers,
            partial(MaskedAutoregressiveSpline, features, hidden_widths, num_bins, tail_bound),
            mixing=mixing, generator=generator,
            activation=activation, residual=residual, dropout=dropout, adjacency=adjacency,
            bound=bound, context_size=context_size,
        )  # fmt: skip
        transform = stack(layers, reversible=reversible)
        super().__init__(transform, [features], base=base, context_size=context_size)
