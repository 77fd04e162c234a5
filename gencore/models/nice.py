"""NICE: volume-preserving couplings and one scaling."""

from collections.abc import Sequence

from gencore.models.flow import Base, Flow
from gencore.models.sizes import check_features, check_positive
from gencore.nn import MLP, ActNorm, AffineCoupling, Compose, Transform

__all__ = ["NICE"]


class NICE(Flow):
    """NICE: additive couplings that move the two halves of a vector in turn, then a scaling.

    The scaling is an `ActNorm`, which also shifts and starts from the first batch.

    Args:
        features: D of data [N, D], at least 2.
        num_layers: couplings.
        hidden_widths: of their networks.
        context_size: C of contexts [N, C]; 0 for none.
        base: of the latents; the paper prefers "logistic" for images.

    Raises:
        ValueError: for fewer than two features, or no layers.

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
    ) -> None:
        check_features("NICE", features)
        check_positive("NICE", num_layers=num_layers)
        layers: list[Transform] = []
        for i in range(num_layers):
            swap = bool(i % 2)
            moved = features - features // 2 if swap else features // 2
            network = MLP(features - moved, hidden_widths, moved, context_size=context_size)
            layers.append(AffineCoupling(network, swap=swap, additive=True))
        stack = Compose(*layers, ActNorm(features))
        super().__init__(stack, [features], base=base, context_size=context_size)
