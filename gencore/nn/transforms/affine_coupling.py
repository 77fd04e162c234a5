"""Affine couplings (Dinh et al. 2015, 2017)."""

from torch import Tensor, nn

from gencore.nn.transforms.coupling import Coupling, OwnMask
from gencore.ops import CouplingMask, affine_coupling, affine_coupling_backward_from_output
from gencore.ops.affine_coupling_reference import LARGEST_BOUND

__all__ = ["AffineCoupling"]


class AffineCoupling(Coupling):
    r"""An affine coupling: part x₁ passes through, x₂ is scaled and shifted by a network of x₁.

    .. math:: z_1 = x_1, \qquad z_2 = x_2 \odot e^{s} + t, \qquad
              \log\lvert\det\rvert = \textstyle\sum s,
              \qquad s = b \tanh(r / b), \quad (r, t) = \mathrm{network}(x_1)

    The bound b keeps a log-scale within ±b, and with it the map and its inverse finite. It starts
    as its network does: as the identity, if that gives zeros.

    Args:
        network: maps x₁, or x₁ and a context, to r and t, joined in dimension 1 (to t alone for an
            additive coupling). Deterministic, if the coupling is part of a `Reversible`.
        mask: "channel" keeps the first C − C//2 entries of dimension 1 and moves the last C//2;
            with C = 1 it takes `swap`, which moves all, given the context alone;
            "checkerboard" keeps the positions of [N, C, H, W] with h + w even, and the network sees
            the whole of x with zeros elsewhere; booleans [C] are true for the entries of dimension
            1 that move, and the network sees the others.
        swap: exchange the two parts.
        bound: b; ``None`` for the plain s = r.
        additive: s = 0, the volume-preserving coupling of NICE.

    Raises:
        ValueError: for another mask, or a bound that is not positive or beyond 80; on a call, for x
            that has no two parts, or a network whose output does not fit.

    References:
        Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", 2017, (4)–(9). Dinh,
        Krueger and Bengio, "NICE", 2015, (3)–(5).

    Example:
        >>> import torch
        >>> from gencore.nn import AffineCoupling
        >>> coupling = AffineCoupling(torch.nn.Linear(2, 2))
        >>> x = torch.tensor([[1.0, 2.0, 3.0]])
        >>> z, log_det = coupling(x)
        >>> torch.allclose(coupling.inverse(z)[0], x)
        True
        >>> alternating = AffineCoupling(torch.nn.Linear(1, 4), mask=[True, False, True])
        >>> bool(alternating(x)[0][0, 1] == 2)
        True
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        mask: CouplingMask | OwnMask = "channel",
        swap: bool = False,
        bound: float | None = 2.0,
        additive: bool = False,
    ) -> None:
        super().__init__(network, mask, swap)
        if bound is not None and not 0 < bound <= LARGEST_BOUND:
            raise ValueError(
                f"AffineCoupling: bound is {bound}; expected more than 0 and at most "
                f"{LARGEST_BOUND:g}, or None"
            )
        self.bound = bound
        self.additive = additive

    @property
    def num_parameters(self) -> int:
        """2, or 1 of an additive coupling."""
        return 1 if self.additive else 2

    def map_part(self, x: Tensor, parameters: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        y, log_det = affine_coupling(
            self._operand(x),
            *self._scale_and_shift(parameters),
            bound=self.bound,
            inverse=inverse,
            mask=self.mask,
            swap=self.swap,
        )
        return self._result(x, y), log_det

    def rewind_part(
        self, z: Tensor, parameters: Tensor, grad_z: Tensor, grad_log_det: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, grad_x, grad_raw_scale, grad_shift = affine_coupling_backward_from_output(
            self._operand(z),
            *self._scale_and_shift(parameters),
            self._operand(grad_z),
            grad_log_det,
            bound=self.bound,
            mask=self.mask,
            swap=self.swap,
        )
        grad_parameters = grad_shift if self.additive else grad_raw_scale
        assert grad_parameters is not None
        return self._result(z, x), self._result(grad_z, grad_x), grad_parameters

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, bound={self.bound}, additive={self.additive}"

    def _operand(self, x: Tensor) -> Tensor:
        """What the operator takes: all of x, if it knows the mask."""
        return self.moved(x) if self.mask is None else x

    def _result(self, x: Tensor, y: Tensor) -> Tensor:
        return self.with_moved(x, y) if self.mask is None else y

    def _scale_and_shift(self, parameters: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The network's output as the operator takes it: r and t in one tensor, or t alone."""
        return (None, parameters) if self.additive else (parameters, None)
