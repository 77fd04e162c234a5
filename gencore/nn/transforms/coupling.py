"""Coupling layers: one part of the data moves, as a network of the other part says."""

from typing import get_args

import torch
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.nn.transforms.base import Rewound, Transform, gradients
from gencore.ops import CouplingMask, affine_coupling, affine_coupling_backward_from_output
from gencore.ops.affine_coupling_reference import LARGEST_BOUND, checkerboard

__all__ = ["AffineCoupling"]


class AffineCoupling(Transform):
    r"""An affine coupling: part x₁ passes through, x₂ is scaled and shifted by a network of x₁.

    .. math:: z_1 = x_1, \qquad z_2 = x_2 \odot e^{s} + t, \qquad
              \log\lvert\det\rvert = \textstyle\sum s,
              \qquad s = b \tanh(r / b), \quad (r, t) = \mathrm{network}(x_1)

    The bound b keeps a log-scale within ±b, and with it the map and its inverse finite.

    Args:
        network: maps x₁, or x₁ and a context, to r and t, joined in dimension 1 (to t alone for an
            additive coupling). Deterministic, if the coupling is part of a `Reversible`.
        mask: "channel" keeps the first C − C//2 entries of dimension 1 and moves the last C//2;
            with C = 1 it takes `swap`, which moves all, given the context alone;
            "checkerboard" keeps the positions of [N, C, H, W] with h + w even, and the network sees
            the whole of x with zeros elsewhere.
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
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        mask: CouplingMask = "channel",
        swap: bool = False,
        bound: float | None = 2.0,
        additive: bool = False,
    ) -> None:
        super().__init__()
        check_choice("AffineCoupling", "mask", mask, get_args(CouplingMask))
        if bound is not None and not 0 < bound <= LARGEST_BOUND:
            raise ValueError(
                f"AffineCoupling: bound is {bound}; expected more than 0 and at most "
                f"{LARGEST_BOUND:g}, or None"
            )
        self.network = network
        self.mask: CouplingMask = mask
        self.swap = swap
        self.bound = bound
        self.additive = additive

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._couple(x, context, inverse=False)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._couple(z, context, inverse=True)

    def rewind(
        self, z: Tensor, context: Tensor | None, grad_z: Tensor, grad_log_det: Tensor
    ) -> Rewound:
        # x₁ is in the output: one evaluation of the network serves the inverse and the gradients.
        with torch.enable_grad():
            kept = self._kept(z).detach().requires_grad_()
            if context is not None:
                context = context.detach().requires_grad_(context.requires_grad)
            parameters = self._evaluate(kept, context)
        x, grad_x, grad_raw_scale, grad_shift = affine_coupling_backward_from_output(
            z,
            *self._scale_and_shift(parameters.detach()),
            grad_z,
            grad_log_det,
            bound=self.bound,
            mask=self.mask,
            swap=self.swap,
        )
        grad_parameters = grad_shift if self.additive else grad_raw_scale
        assert grad_parameters is not None
        (grad_kept, grad_context), grads = gradients(
            self.network, (parameters,), (grad_parameters,), (kept, context)
        )
        if grad_x is grad_z:  # which is not ours to write to
            grad_x = grad_x.clone()
        if grad_kept is not None:
            if self.mask == "channel":
                self._kept(grad_x).add_(grad_kept)
            else:
                grad_x.add_(self._kept(grad_kept))
        return Rewound(x, grad_x, grad_context, grads)

    def extra_repr(self) -> str:
        return f"mask={self.mask!r}, swap={self.swap}, bound={self.bound}, additive={self.additive}"

    def _couple(self, x: Tensor, context: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
        parameters = self._evaluate(self._kept(x), context)
        return affine_coupling(
            x,
            *self._scale_and_shift(parameters),
            bound=self.bound,
            inverse=inverse,
            mask=self.mask,
            swap=self.swap,
        )

    def _kept(self, x: Tensor) -> Tensor:
        """x₁, a view of the channels, or all of x with zeros where it moves."""
        if self.mask == "channel":
            first = x.shape[1] - x.shape[1] // 2
            return x[:, first:] if self.swap else x[:, :first]
        return x.masked_fill(checkerboard(x, self.swap), 0.0)

    def _evaluate(self, kept: Tensor, context: Tensor | None) -> Tensor:
        output: Tensor = self.network(kept) if context is None else self.network(kept, context)
        return output.to(kept.dtype)  # under autocast, networks give half precision

    def _scale_and_shift(self, parameters: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The network's output as the operator takes it: r and t in one tensor, or t alone."""
        return (None, parameters) if self.additive else (parameters, None)
