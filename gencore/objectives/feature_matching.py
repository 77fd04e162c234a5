"""How far the discriminator's features of samples are from those of data."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gencore.ops._support.checks import number

__all__ = ["feature_matching_loss"]


def feature_matching_loss(
    real: Sequence[Tensor], fake: Sequence[Tensor], weights: Sequence[float] | None = None
) -> Tensor:
    r"""The mean absolute difference of features, summed over layers: a loss of the generator.

    .. math:: \mathcal L_{FM} = \sum_{l} w_l \, \mathbb E
              \frac{1}{D_l} \lVert D^{(l)}(x, y) - D^{(l)}(x, G(x)) \rVert_1 \qquad (4)

    D_l is the number of features of layer l. It compares each sample with its own data point, so it
    is for translations with a known result. The features of data get no gradient. Those of several
    discriminators are given one after another.

    Args:
        real: features of data, one tensor [N, ...] a layer.
        fake: features of samples, of the same shapes.
        weights: w_l, not negative; 1 each where they are not given.

    Returns:
        A scalar.

    Raises:
        ValueError: for no layers, shapes that differ, or other numbers of weights.

    References:
        Wang et al., "High-resolution image synthesis and semantic manipulation with conditional
        GANs", 2018, (4).

    Example:
        >>> import torch
        >>> from gencore.objectives import feature_matching_loss
        >>> real, fake = [torch.zeros(2, 3), torch.ones(2, 8)], [torch.ones(2, 3), torch.ones(2, 8)]
        >>> feature_matching_loss(real, fake), feature_matching_loss(real, fake, [5.0, 1.0])
        (tensor(1.), tensor(5.))
    """
    name = "feature_matching_loss"
    shapes = [[list(features.shape) for features in layers] for layers in (real, fake)]
    if not shapes[0] or shapes[0] != shapes[1]:
        raise ValueError(
            f"{name}: real has features of shapes {shapes[0]} and fake of {shapes[1]}; expected "
            "the same, of at least one layer"
        )
    if weights is None:
        weights = [1.0] * len(real)
    elif len(weights) != len(real):
        raise ValueError(f"{name}: got {len(weights)} weights; expected {len(real)}, one a layer")
    terms = [
        number(name, "a weight", weight) * (y.detach() - x).abs().mean()
        for weight, y, x in zip(weights, real, fake, strict=True)
    ]
    return torch.stack(terms).sum()
