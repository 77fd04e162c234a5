"""The couplings of flows on vectors: what each moves, its network, and where that starts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from gencore.nn import MLP, AffineCoupling, SplineCoupling
from gencore.nn.affine_start import start_affine
from gencore.nn.transforms.coupling import OwnMask
from gencore.ops import CouplingMask
from gencore.ops.affine_coupling_reference import transformed_channels

__all__ = ["Conditioner", "Masks", "VectorCouplings"]

Conditioner = Callable[[int, int, int], nn.Module]
Masks = Sequence[Sequence[bool]] | Tensor


@dataclass(frozen=True, kw_only=True)
class VectorCouplings:
    """Makes the couplings of a flow on vectors, by their number."""

    owner: str
    """The flow, by whose name errors begin."""
    features: int
    hidden_widths: Sequence[int]
    context_size: int
    activation: str = "silu"
    dropout: float = 0.0
    conditioner: Conditioner | None = None
    """Makes the networks, in the place of an MLP of those widths, activation and dropout."""
    masks: Masks | None = None
    """Of the couplings in turn; without them they move the one half or the other."""

    def __post_init__(self) -> None:
        if self.masks is None:
            return
        if not len(self.masks):
            raise ValueError(f"{self.owner}: masks is empty; expected a mask or more")
        for mask in self.masks:
            if len(mask) != self.features or not sum(mask):
                raise ValueError(
                    f"{self.owner}: a mask has {len(mask)} entries, of which {int(sum(mask))} "
                    f"move; expected {self.features} entries, of which one moves at least"
                )

    def affine(
        self, number: int, *, bound: float | None = 2.0, additive: bool = False
    ) -> AffineCoupling:
        """The affine coupling of that number.

        Affine ones start as `start_affine` says, with plain parameters at zero; additive ones as
        the identity.
        """
        mask, swap, moved = self._part(number)
        network, last = self._network(moved, 1 if additive else 2, zero=additive)
        if last is not None and not additive:
            start_affine(last, slice(moved, None), slice(moved), self.features)
        return AffineCoupling(network, mask=mask, swap=swap, bound=bound, additive=additive)

    def spline(
        self, number: int, *, num_bins: int, tail_bound: float, bound: float | None
    ) -> SplineCoupling:
        """The spline coupling of that number, which starts as the identity."""
        mask, swap, moved = self._part(number)
        network, _ = self._network(moved, 3 * num_bins - 1, zero=True)
        return SplineCoupling(
            network, mask=mask, swap=swap, num_bins=num_bins, tail_bound=tail_bound, bound=bound
        )

    def _part(self, number: int) -> tuple[CouplingMask | OwnMask, bool, int]:
        """A mask, whether it is swapped, and how many coordinates move.

        Of halves, even and odd numbers take turns in which one they move. A single feature has no
        other half: it always moves, as the context says or by plain parameters.
        """
        if self.masks is None:
            swap = number % 2 == 1 or self.features == 1
            return "channel", swap, transformed_channels(self.features, swap)
        mask = self.masks[number % len(self.masks)]
        return mask, False, int(sum(mask))

    def _network(self, moved: int, each: int, *, zero: bool) -> tuple[nn.Module, nn.Linear | None]:
        """A network of that many outputs for each coordinate that moves; and its last layer, which
        is zero, or as torch starts it.

        Of networks of one's own that layer is their attribute `last`. One that has none keeps the
        start that it was made with.
        """
        inputs, outputs = self.features - moved, moved * each
        if self.conditioner is None:
            mlp = MLP(
                inputs, self.hidden_widths, outputs, activation=self.activation,
                dropout=self.dropout, zero_last=zero, context_size=self.context_size,
            )  # fmt: skip
            return mlp, mlp.last
        network = self.conditioner(inputs, outputs, self.context_size)
        last = getattr(network, "last", None)
        if not isinstance(last, nn.Linear) or last.out_features != outputs:
            return network, None
        last.reset_parameters()
        if zero:
            for parameter in last.parameters():
                nn.init.zeros_(parameter)
        return network, last
