"""The score-function estimate of a gradient of an expectation (REINFORCE), as a loss."""

from typing import Literal

import torch
from torch import Tensor

__all__ = ["Baseline", "score_function_surrogate"]

Baseline = Tensor | Literal["leave_one_out"] | None
"""What is subtracted from the values of draws."""


def score_function_surrogate(log_prob: Tensor, value: Tensor, baseline: Baseline = None) -> Tensor:
    r"""Values of draws, with unbiased gradients of their expectation over a distribution q_φ:

    .. math:: \nabla \, E_{q_\phi} f(z) =
              E_{q_\phi} \big[ (f(z) - b) \, \nabla \log q_\phi(z) + \nabla f(z) \big]

    No gradient passes through the draws, so q may be discrete and f need not be differentiable in
    z. Its parameters, if it has any, have their gradient by the second term. A baseline b that does
    not depend on the draw leaves the expectation, and takes variance away where b is near to f.
    That of K independent draws without each one itself is

    .. math:: b_k = \frac{1}{K - 1} \sum_{j \ne k} f(z_j)

    Args:
        log_prob: log q_φ(z) of K draws, [K, ...], such as ``q.log_prob(z)`` of ``z =
            q.sample((K,))``. Draws of `rsample` are to be detached first.
        value: f(z), of the same shape.
        baseline: none; a tensor that broadcasts to the shape, such as a running mean or what a
            network gives for each of the data, which gets no gradient; or "leave_one_out" over the
            first dimension.

    Returns:
        The values, [K, ...], whose mean is a loss.

    Raises:
        ValueError: the shapes do not fit, there is one draw to leave out, or for another baseline.

    Source:
        Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement
        learning", 1992. Lucas, "Deep generative models: over-generalisation and mode-dropping",
        2020, (2.46). Kool, van Hoof and Welling, "Buy 4 REINFORCE Samples, Get a Baseline for
        Free!", 2019: leave one out.

    Example:
        >>> import torch
        >>> from torch.distributions import Bernoulli
        >>> from gencore.objectives import score_function_surrogate
        >>> logit = torch.zeros((), requires_grad=True)
        >>> q, z = Bernoulli(logits=logit), torch.tensor([0.0, 1.0])
        >>> score_function_surrogate(q.log_prob(z), 3 * z, "leave_one_out").mean().backward()
        >>> logit.grad
        tensor(1.5000)
    """
    name = "score_function_surrogate"
    if log_prob.shape != value.shape:
        raise ValueError(
            f"{name}: log_prob has shape {list(log_prob.shape)}; expected that of value, "
            f"{list(value.shape)}"
        )
    excess = value.detach()
    if isinstance(baseline, Tensor):
        try:
            fits = torch.broadcast_shapes(baseline.shape, value.shape) == value.shape
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"{name}: baseline has shape {list(baseline.shape)}; expected what broadcasts to "
                f"{list(value.shape)}"
            )
        excess = excess - baseline.detach()
    elif baseline == "leave_one_out":
        if not value.dim() or len(value) < 2:
            raise ValueError(
                f"{name}: values have shape {list(value.shape)}; expected [K, ...] of two draws or "
                "more to leave one out"
            )
        excess = (excess - excess.mean(0)) * (len(value) / (len(value) - 1))
    elif baseline is not None:
        raise ValueError(
            f"{name}: baseline is {baseline!r}; expected None, a tensor or leave_one_out"
        )
    return value + excess * (log_prob - log_prob.detach())
