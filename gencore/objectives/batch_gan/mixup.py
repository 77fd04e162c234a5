"""Data and samples mixed point by point (Zhang et al. 2018), for the losses of mixed batches."""

from torch import Tensor

from gencore.objectives.batch_gan.mixed_batches import MixedBatches

__all__ = ["mixup_batches"]


def mixup_batches(real: Tensor, fake: Tensor, weights: Tensor) -> MixedBatches:
    r"""Points between data and samples, as batches of one point each.

    .. math:: y = \lambda x + (1 - \lambda) \tilde x, \qquad u = \lambda

    A discriminator has to guess λ, with the losses of mixed batches. In the source λ ~ Beta(α, α)
    with α = 0.2.

    Args:
        real: data x, [N, ...].
        fake: samples x̃, like them.
        weights: λ, [N], from 0 to 1.

    Returns:
        Samples [N, 1, ...] and proportions [N].

    Raises:
        ValueError: for samples or weights of another shape.

    References:
        Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: Beyond empirical risk minimization", 2018,
        §3.7. Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.5.1.

    Example:
        >>> import torch
        >>> mixup_batches(torch.tensor([[8.0]]), torch.tensor([[0.0]]), torch.tensor([0.25]))
        MixedBatches(samples=tensor([[[2.]]]), proportions=tensor([0.2500]))
    """
    if real.shape != fake.shape or not real.dim():
        raise ValueError(
            f"mixup_batches: real and fake have shapes {list(real.shape)} and {list(fake.shape)}; "
            "expected [N, ...] twice"
        )
    if weights.shape != real.shape[:1]:
        raise ValueError(
            f"mixup_batches: weights have shape {list(weights.shape)}; expected "
            f"{list(real.shape[:1])}"
        )
    each = weights.view(-1, *[1] * (real.dim() - 1))
    return MixedBatches(fake.lerp(real, each).unsqueeze(1), weights)
