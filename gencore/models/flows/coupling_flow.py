"""Real NVP on vectors."""

from collections.abc import Sequence

import torch

from gencore.models.flows.flow import Base, Flow
from gencore.models.flows.names import CouplingMixing
from gencore.models.flows.stacks import coupling_mixing, interleaved, stack
from gencore.models.flows.vector_couplings import Conditioner, Masks, VectorCouplings
from gencore.sizes import check_positive

__all__ = ["CouplingFlow"]


class CouplingFlow(Flow):
    """Affine couplings on vectors: blocks of two, which move either half, and a mixing.

    The density of latent codes in generative latent flow, and a flow for data without the structure
    of images. Log-scales start at zero, shifts do not: from the identity, data of independent
    coordinates would give it no gradient to leave by.

    Args:
        features: D of data [N, D]. One alone is shifted and scaled as the context says.
        num_layers: couplings, two a block.
        hidden_widths: of their networks.
        activation: of their networks, as for :class:`~gencore.nn.MLP`; "relu" learns densities of
            separate spots better, "silu" small data of many coordinates.
        dropout: probability that a hidden unit of them is zero in training; not with `reversible`.
        conditioner: makes the networks, in the place of those MLPs: a function of the number of
            inputs, the number of outputs and C. A network is given the coordinates that stay,
            [N, inputs], and the context if there is one. If its attribute `last` is its last linear
            layer, as in :class:`~gencore.nn.ResidualMLP`, it starts as above; otherwise as made.
        masks: booleans [L, D], a row for each coupling in turn, true for the coordinates that it
            moves; coordinates are then not permuted. ``None``: either half.
        bound: of the log-scales; ``None`` leaves them free.
        context_size: C of contexts [N, C]; 0 for none.
        base: of the latents, as for :class:`Flow`.
        reversible: rebuild inputs in the backward pass, so that memory does not grow with depth.
        mixing: what stands between blocks: "lu", a :class:`~gencore.nn.LULinear` that starts as a
            random permutation; or that "permutation" itself, as in the flow of Figure 3.1(b).
            ``None``: "lu", the better one over four data sets (docs/flows.md), but beside `masks`,
            where nothing does.
        generator: of the random permutations, where there are more than two coordinates; torch's
            default if ``None``.

    Raises:
        ValueError: for no features, no layers, another mixing, masks that do not fit or beside
            "lu", or dropout in a reversible flow.

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, §2.2, Figure
        3.1(b). Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", 2017.

    Example:
        >>> import torch
        >>> from gencore.models import CouplingFlow
        >>> flow = CouplingFlow(3, hidden_widths=(16,), context_size=2)
        >>> flow(torch.zeros(7, 2)).sample().shape
        torch.Size([7, 3])
    """

    def __init__(
        self,
        features: int,
        *,
        num_layers: int = 8,
        hidden_widths: Sequence[int] = (64, 64),
        activation: str = "silu",
        dropout: float = 0.0,
        conditioner: Conditioner | None = None,
        masks: Masks | None = None,
        bound: float | None = 2.0,
        context_size: int = 0,
        base: Base = "normal",
        reversible: bool = False,
        mixing: CouplingMixing | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        check_positive("CouplingFlow", features=features, num_layers=num_layers)
        couplings = VectorCouplings(
            owner="CouplingFlow", features=features, hidden_widths=hidden_widths,
            context_size=context_size, activation=activation, dropout=dropout,
            conditioner=conditioner, masks=masks,
        )  # fmt: skip
        layers = interleaved(
            num_layers,
            lambda i: couplings.affine(i, bound=bound),
            coupling_mixing("CouplingFlow", mixing, features, masks, generator),
            every=2 if masks is None else num_layers,
        )
        transform = stack(layers, reversible=reversible)
        super().__init__(transform, [features], base=base, context_size=context_size)
