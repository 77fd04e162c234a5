"""A discriminator of mixtures of data and samples (Zhang et al. 2018)."""

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import softplus

from gencore.objectives.scores import check_scores

__all__ = ["mixup_discriminator_loss"]


def mixup_discriminator_loss(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mixing: Tensor
) -> Tensor:
    r"""The cross-entropy of a discriminator that has to tell how much of a mixture is data.

    .. math:: -\mathbb E\big[\lambda \ln \sigma(a(\hat x)) + (1 - \lambda)
              \ln(1 - \sigma(a(\hat x)))\big], \qquad \hat x = \lambda x + (1 - \lambda) \tilde x

    The best σ(a(x̂)) is the mean of λ given x̂, which varies slowly between data and samples. With λ
    ∈ {0, 1}, as often each, it is half of `LogisticGame`'s loss. The generator's loss is any of
    that game's, of unmixed samples.

    Args:
        discriminator: the logits a, [N, ...] → [N].
        real: data x [N, ...].
        fake: samples x̃, like them; detached.
        mixing: λ [N], such as ``torch.distributions.Beta(0.2, 0.2).sample((N,))``, the paper's
            choice for adversarial networks.

    Returns:
        A scalar.

    Raises:
        ValueError: for samples of another shape, weights or logits that are not [N], or no rows.

    References:
        Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: beyond empirical risk minimization", 2018,
        §3.7. Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §4.5.1,
        which has it as a baseline.

    Example:
        >>> import torch
        >>> real, fake, mixing = torch.ones(4, 2), torch.zeros(4, 2), torch.rand(4)
        >>> mixup_discriminator_loss(lambda x: torch.zeros(len(x)), real, fake, mixing)
        tensor(0.6931)
    """
    owner, num = "mixup_discriminator_loss", len(real)
    if fake.shape != real.shape or mixing.shape != (num,):
        raise ValueError(
            f"{owner}: fake and mixing have shapes {list(fake.shape)} and {list(mixing.shape)}; "
            f"expected {list(real.shape)}, as real has, and [{num}]"
        )
    mixing = mixing.to(real.dtype)
    mixed = fake.lerp(real, mixing.view(-1, *[1] * (real.dim() - 1)))
    logits = discriminator(mixed)
    if logits.shape != (num,):
        raise ValueError(f"{owner}: the discriminator gives {list(logits.shape)}; expected [{num}]")
    check_scores(owner, logits=logits)
    return (mixing * softplus(-logits) + (1 - mixing) * softplus(logits)).mean()
