"""The lateral connection of a ladder network (Rasmus et al. 2015)."""

import torch
from torch import Tensor, nn

from gencore.sizes import check_positive

__all__ = ["GaussianCombinator"]


class GaussianCombinator(nn.Module):
    r"""What a noisy value and a signal from above say of the value without noise.

    .. math:: g(\tilde z, u) &= (\tilde z - \mu(u))\,v(u) + \mu(u) \\
              \mu(u) &= a_1 \sigma(a_2 u + a_3) + a_4 u + a_5 \\
              v(u) &= a_6 \sigma(a_7 u + a_8) + a_9 u + a_{10}

    with σ the logistic function and ten parameters for each element. It is linear in z̃: for a value
    that is Gaussian given u, of mean μ(u) and variance s², and noise of variance n², the posterior
    mean is g with v = s²/(s² + n²). At first a₂ = a₇ = 1 and all else is 0, so that g = 0.

    Args:
        num_elements: D.

    Shape:
        z̃ [N, D] and u [N, D] → [N, D].

    Raises:
        ValueError: for a size below 1, and on a call for other shapes.

    References:
        Rasmus, Valpola, Honkala, Berglund and Raiko, "Semi-supervised learning with ladder
        networks", 2015, §3.2. Pezeshki et al., "Deconstructing the ladder network architecture",
        2016, call it Gaussian.

    Example:
        >>> import torch
        >>> from gencore.nn import GaussianCombinator
        >>> combinator = GaussianCombinator(3)
        >>> _ = torch.nn.init.ones_(combinator.coefficients[9])  # v = 1: what is noisy stays
        >>> combinator(torch.full((1, 3), 2.0), torch.randn(1, 3))
        tensor([[2., 2., 2.]], grad_fn=<AddBackward0>)
    """

    def __init__(self, num_elements: int) -> None:
        super().__init__()
        check_positive("GaussianCombinator", num_elements=num_elements)
        self.coefficients = nn.Parameter(torch.zeros(10, num_elements))
        """a₁ to a₁₀, [10, D]."""
        nn.init.ones_(self.coefficients[1])
        nn.init.ones_(self.coefficients[6])

    def forward(self, noisy: Tensor, above: Tensor) -> Tensor:
        num_elements = self.coefficients.shape[1]
        for name, x in (("noisy", noisy), ("above", above)):
            if x.shape != (len(noisy), num_elements):
                raise ValueError(
                    f"GaussianCombinator: {name} has shape {list(x.shape)}; expected "
                    f"[{len(noisy)}, {num_elements}]"
                )
        a = self.coefficients
        mean = a[0] * (a[1] * above + a[2]).sigmoid() + a[3] * above + a[4]
        weight = a[5] * (a[6] * above + a[7]).sigmoid() + a[8] * above + a[9]
        return (noisy - mean) * weight + mean

    def extra_repr(self) -> str:
        return f"{self.coefficients.shape[1]}"
