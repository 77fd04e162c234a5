"""The code of a film's next frame, corrected by a latent that the frames before do not tell."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.sizes import check_positive

__all__ = ["DeltaCode", "DeltaForm"]

DeltaForm = Literal["eq3.11", "velocity"]


class DeltaCode(nn.Module):
    r"""The code that follows two codes, with a few latents δ for what is uncertain about it.

    .. math:: u = a_2 z^2 + a_1 z^1, \qquad
              \tilde z^3_\delta = z^2 + (W \delta) \odot u \qquad (3.11)

    As printed, with (a₂, a₁) = (2, −1), δ = 0 gives the last code z² and not the extrapolation
    2z² − z¹ of (3.4): the latents gate the extrapolated code, which is added to the last. The form
    ``"velocity"`` corrects the extrapolation instead, which it is for δ = 0:

    .. math:: \tilde z^3_\delta = z^2 + (1 + W \delta) \odot (z^2 - z^1).

    (The thesis says that W is dim(δ) × dim(z), of which Wδ needs the transpose.) With phase pooling
    the codes are the phases of (3.10), and magnitudes do without δ.

    Args:
        code_size: number of elements of a code.
        delta_size: of δ, much smaller, so that δ cannot explain all of the frame.
        form: as above.
        coefficients: (a₂, a₁) of (3.11).
        init_std: standard deviation of the elements of W at first.

    Attributes:
        weight: W, [code_size, delta_size].

    Shape:
        Codes [N, ...] of two frames and δ [N, delta_size] → a code [N, ...].

    Raises:
        ValueError: for sizes that are not positive, another form, coefficients with the form
            "velocity", and codes or latents of another size.

    Source:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, §3.2.2.

    Example:
        >>> import torch
        >>> from gencore.nn import DeltaCode
        >>> z1, z2 = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 3.0]])
        >>> delta = torch.zeros(1, 1)
        >>> DeltaCode(2, 1)(z1, z2, delta).tolist()
        [[2.0, 3.0]]
        >>> DeltaCode(2, 1, form="velocity")(z1, z2, delta).tolist()
        [[3.0, 5.0]]
    """

    def __init__(
        self,
        code_size: int,
        delta_size: int,
        *,
        form: DeltaForm = "eq3.11",
        coefficients: tuple[float, float] | None = None,
        init_std: float = 0.1,
    ) -> None:
        super().__init__()
        check_positive("DeltaCode", code_size=code_size, delta_size=delta_size)
        check_choice("DeltaCode", "form", form, get_args(DeltaForm))
        if coefficients is None:
            coefficients = (2.0, -1.0) if form == "eq3.11" else (1.0, -1.0)
        elif form == "velocity":
            raise ValueError(
                f"DeltaCode: coefficients are {coefficients} with form 'velocity', where they are "
                "(1, -1); leave them out"
            )
        self.form: DeltaForm = form
        self.coefficients = coefficients
        self.weight = nn.Parameter(torch.empty(code_size, delta_size).normal_(std=init_std))

    def forward(self, first: Tensor, second: Tensor, delta: Tensor) -> Tensor:
        """The code z̃³ [N, ...] that follows z¹ and z², given δ [N, K]."""
        base, direction = self._line(first, second)
        self._check_delta(delta, len(second))
        return torch.addcmul(base, (delta @ self.weight.T).view_as(base), direction)

    def affine(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        r"""The code as a function of δ that is known before δ is.

        .. math:: \tilde z^3_\delta = c + \sum_k \delta_k D_k, \qquad D_k = W_{:k} \odot u

        Linear layers that follow can be applied to c and D once, for all values of δ.

        Returns:
            c [N, ...] and D [N, K, ...].
        """
        base, direction = self._line(first, second)
        weight = self.weight.T.reshape(-1, *base.shape[1:])
        return base, weight * direction[:, None]

    def _line(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """The code for δ = 0, and what Wδ multiplies, u."""
        if first.shape != second.shape or math.prod(second.shape[1:]) != len(self.weight):
            raise ValueError(
                f"DeltaCode: got codes of shape {list(first.shape)} and {list(second.shape)}; "
                f"expected two of shape [N, ...] with {len(self.weight)} elements each"
            )
        direction = self.coefficients[0] * second + self.coefficients[1] * first
        return second if self.form == "eq3.11" else second + direction, direction

    def _check_delta(self, delta: Tensor, num: int) -> None:
        if delta.shape != (num, self.weight.shape[1]):
            raise ValueError(
                f"DeltaCode: got delta of shape {list(delta.shape)}; expected "
                f"[{num}, {self.weight.shape[1]}]"
            )

    def extra_repr(self) -> str:
        size, delta_size = self.weight.shape
        return f"{size}, {delta_size}, form={self.form!r}, coefficients={self.coefficients}"
