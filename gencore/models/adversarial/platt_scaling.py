"""Calibration of a discriminator by logistic regression (Platt 1999)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

__all__ = ["PlattScaling"]


class PlattScaling(nn.Module):
    r"""Logits a·ℓ + b, whose probabilities are those of data among data and samples.

    The regression minimises, over N scores of data and M of samples that no player was trained on,

    .. math:: -\sum_i t_i \ln \sigma(a \ell_i + b) + (1 - t_i) \ln \sigma(-a \ell_i - b)

    with t = (N + 1)/(N + 2) for data and 1/(M + 2) for samples. These targets in place of 1 and 0
    keep a and b finite where the scores separate the two. Where N ≠ M, b has the term ln N/M.

    Args:
        slope: a.
        intercept: b.

    Shape:
        scores [...] → logits [...].

    References:
        Platt, "Probabilistic outputs for support vector machines and comparisons to regularized
        likelihood methods", 1999, §2. Turner, Hung, Frank, Saatchi and Yosinski,
        "Metropolis-Hastings generative adversarial networks", 2019, which calibrates so.

    Example:
        >>> import torch
        >>> from gencore.models import PlattScaling
        >>> critic = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Flatten(0))
        >>> held_out, samples = torch.randn(100, 2), torch.randn(100, 2) + 1
        >>> scaling = PlattScaling.fit(critic(held_out), critic(samples))
        >>> torch.nn.Sequential(critic, scaling)(samples).shape
        torch.Size([100])
    """

    def __init__(self, slope: float = 1.0, intercept: float = 0.0) -> None:
        super().__init__()
        self.slope: Tensor
        self.intercept: Tensor
        self.register_buffer("slope", torch.tensor(slope, dtype=torch.float64))
        self.register_buffer("intercept", torch.tensor(intercept, dtype=torch.float64))

    @classmethod
    def fit(cls, real: Tensor, fake: Tensor) -> "PlattScaling":
        """The scaling of a discriminator with these scores.

        Args:
            real: scores of held-out data [N].
            fake: scores of samples [M].

        Raises:
            ValueError: for scores of another shape, none of them, or some that are not finite.
        """
        for name, scores in (("real", real), ("fake", fake)):
            if scores.ndim != 1 or not len(scores) or not scores.isfinite().all():
                raise ValueError(
                    f"PlattScaling.fit: {name} has shape {list(scores.shape)} and "
                    f"{int((~scores.isfinite()).sum())} scores that are not finite; "
                    "expected finite scores [N], N ≥ 1"
                )
        scores = torch.cat([real, fake]).detach().double()
        of_data, of_samples = (len(real) + 1) / (len(real) + 2), 1 / (len(fake) + 2)
        targets = torch.full_like(scores, of_samples)
        targets[: len(real)] = of_data
        mean, spread = scores.mean(), scores.std(correction=0)
        spread = torch.where(spread > 0, spread, 1.0)
        standardised = (scores - mean) / spread
        weights = scores.new_zeros(2, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [weights], max_iter=200, tolerance_grad=1e-10, tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure() -> Tensor:
            optimizer.zero_grad()
            logits = weights[0] * standardised + weights[1]
            loss = binary_cross_entropy_with_logits(logits, targets)
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)
        slope = weights.detach()[0] / spread
        intercept = weights.detach()[1] - slope * mean
        return cls(slope.item(), intercept.item()).to(real.device)

    def forward(self, scores: Tensor) -> Tensor:
        """The calibrated logits."""
        return (self.slope * scores + self.intercept).to(scores.dtype)

    def extra_repr(self) -> str:
        return f"slope={self.slope.item():.4g}, intercept={self.intercept.item():.4g}"
