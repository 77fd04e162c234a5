"""Neural spline flows on vectors, of coupling layers (Durkan et al. 2019)."""

from collections.abc import Sequence

import torch

from gencore.models.flows.flow import Base, Flow
from gencore.models.flows.names import CouplingMixing
from gencore.models.flows.stacks import coupling_mixing, interleaved, stack
from gencore.models.flows.vector_couplings import Conditioner, Masks, VectorCouplings
from gencore.sizes import check_positive

__all__ = ["SplineFlow"]


class SplineFlow(Flow):
    """A flow of rational-quadratic spline couplings, RQ-NSF (C) of the paper.

    Couplings take turns in transforming the two halves of the coordinates; after each pair the
    coordinates are mixed by a learned matrix. It starts as a permutation of standard normal
    coordinates. Outside [−B, B] of each coordinate the splines are the identity: give it data of
    about unit variance.

    Args:
        features: D. One alone has splines of the context.
        num_layers: number of couplings.
        hidden_widths: of each coupling's conditioner.
        activation: of the conditioners, as for :class:`~gencore.nn.MLP`.
        dropout: probability that a hidden unit of them is zero in training; not with `reversible`.
        conditioner: makes the networks, in the place of those MLPs: a function of the number of
            inputs, the number of outputs and C. A network is given the coordinates that stay,
            [N, inputs], and the context if there is one. If its attribute `last` is its last linear
            layer, as in :class:`~gencore.nn.ResidualMLP`, it starts as above; otherwise as made.
        masks: booleans [L, D], a row for each coupling in turn, true for the coordinates that it
            moves; coordinates are then not permuted. ``None``: either half.
        num_bins: K of each spline.
        tail_bound: B. Its default and that of `bound` are the best over four data sets
            (docs/flows.md).
        bound: of the splines' raw parameters, as for
            :func:`gencore.ops.rational_quadratic_spline`.
        context_size: C of contexts [N, C]; 0 for none.
        base: of the latents, as for :class:`Flow`.
        reversible: rebuild inputs in the backward pass, so that memory does not grow with depth.
        mixing: what stands between pairs: "lu", a :class:`~gencore.nn.LULinear` that starts as a
            random permutation, as in the paper; or that "permutation" itself. ``None``: "lu", but
            beside `masks`, where nothing does.
        generator: of the random permutations; torch's default if ``None``.

    Raises:
        ValueError: for no features, fewer than two bins, no layers, another mixing, masks that do
            not fit or beside "lu", or dropout in a reversible flow.

    References:
        Durkan, Bekasov, Murray and Papamakarios, "Neural spline flows", 2019.

    Example:
        >>> import torch
        >>> from gencore.models import SplineFlow
        >>> flow = SplineFlow(2, num_layers=4, hidden_widths=[32])
        >>> flow().log_prob(torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        features: int,
        *,
        num_layers: int = 4,
        hidden_widths: Sequence[int] = (64, 64),
        activation: str = "silu",
        dropout: float = 0.0,
        conditioner: Conditioner | None = None,
        masks: Masks | None = None,
        num_bins: int = 8,
        tail_bound: float = 5.0,
        bound: float | None = 3.0,
        context_size: int = 0,
        base: Base = "normal",
        reversible: bool = False,
        mixing: CouplingMixing | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        check_positive("SplineFlow", features=features, num_layers=num_layers)
        couplings = VectorCouplings(
            owner="SplineFlow", features=features, hidden_widths=hidden_widths,
            context_size=context_size, activation=activation, dropout=dropout,
            conditioner=conditioner, masks=masks,
        )  # fmt: skip
        layers = interleaved(
            num_layers,
            lambda i: couplings.spline(i, num_bins=num_bins, tail_bound=tail_bound, bound=bound),
            coupling_mixing("SplineFlow", mixing, features, masks, generator),
            every=2 if masks is None else num_layers,
        )
        transform = stack(layers, reversible=reversible)
        super().__init__(transform, [features], base=base, context_size=context_size)
