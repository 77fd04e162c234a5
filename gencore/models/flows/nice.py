"""NICE: volume-preserving couplings and one scaling."""

from collections.abc import Sequence

from gencore.models.flows.flow import Base, Flow
from gencore.models.flows.stacks import stack
from gencore.models.flows.vector_couplings import VectorCouplings
from gencore.nn import ActNorm, Transform
from gencore.sizes import check_positive

__all__ = ["NICE"]


class NICE(Flow):
    """NICE: additive couplings that move the two halves of a vector in turn, then a scaling.

    The scaling is an `ActNorm`, which also shifts and starts from the first batch.

    Args:
        features: D of data [N, D]. One alone is shifted as the context says.
        num_layers: couplings.
        hidden_widths: of their networks.
        context_size: C of contexts [N, C]; 0 for none.
        base: of the latents, as for :class:`Flow`; the paper prefers "logistic" for images.
        reversible: rebuild inputs in the backward pass, so that memory does not grow with depth.

    Raises:
        ValueError: for no features or no layers.

    References:
        Dinh, Krueger and Bengio, "NICE: non-linear independent components estimation", 2015.

    Example:
        >>> import torch
        >>> from gencore.models import NICE
        >>> NICE(2, hidden_widths=(16,)).log_prob(torch.randn(5, 2)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        features: int,
        *,
        num_layers: int = 4,
        hidden_widths: Sequence[int] = (64, 64),
        context_size: int = 0,
        base: Base = "logistic",
        reversible: bool = False,
    ) -> None:
        check_positive("NICE", features=features, num_layers=num_layers)
        couplings = VectorCouplings(
            owner="NICE", features=features, hidden_widths=hidden_widths, context_size=context_size
        )
        layers: list[Transform] = [couplings.affine(i, additive=True) for i in range(num_layers)]
        transform = stack([*layers, ActNorm(features)], reversible=reversible)
        super().__init__(transform, [features], base=base, context_size=context_size)
