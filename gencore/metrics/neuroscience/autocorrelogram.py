"""How a response map resembles itself when it is shifted."""

import torch
from torch import Tensor

__all__ = ["autocorrelogram"]


def autocorrelogram(maps: Tensor, *, min_overlap: int = 20) -> Tensor:
    r"""Pearson's correlation of each map with itself, shifted, over the pixels where both are.

    .. math:: r(\tau) = \frac{n \sum f g - \sum f \sum g}
              {\sqrt{n \sum f^2 - (\sum f)^2} \sqrt{n \sum g^2 - (\sum g)^2}},
              \quad f = f(x), \; g = f(x - \tau)

    Args:
        maps: [N, H, W].
        min_overlap: shifts that fewer pixels share have NaN, and so have parts that do not vary.

    Returns:
        [N, 2H − 1, 2W − 1], 1 in the middle, symmetric about it.

    Raises:
        ValueError: for maps of another shape.

    References:
        Sargolini et al., "Conjunctive representation of position, direction, and velocity in
        entorhinal cortex", 2006, supplement.

    Example:
        >>> import torch
        >>> from gencore.metrics import autocorrelogram
        >>> stripes = torch.tensor([1.0, 0.0]).repeat(8, 4)[None]  # of period 2
        >>> autocorrelogram(stripes)[0, 7, 5:10]
        tensor([ 1., -1.,  1., -1.,  1.])
    """
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise ValueError(f"autocorrelogram: maps have shape {list(maps.shape)}; expected [N, H, W]")
    if not len(maps):  # of which not every library makes transforms
        return maps.new_zeros(0, 2 * maps.shape[1] - 1, 2 * maps.shape[2] - 1)
    # The mean changes no correlation, but without it the sums keep more digits.
    f = maps.double() - maps.double().mean((1, 2), keepdim=True)
    f = f / f.abs().amax((1, 2), keepdim=True).clamp(min=1e-300)
    ones = torch.ones_like(f[:1])
    n = _correlate(ones, ones).round()
    total, squares = _correlate(f, ones), _correlate(f.square(), ones)
    others, other_squares = (part.flip(1, 2) for part in (total, squares))
    covariance = n * _correlate(f, f) - total * others
    variance = n * squares - total.square()
    other_variance = n * other_squares - others.square()
    # Below rounding a part is constant, and its correlation with anything is not defined.
    varies = torch.minimum(variance, other_variance) > 1e-10 * n.square()
    r = covariance / (variance.clamp(min=0) * other_variance.clamp(min=0)).sqrt()
    valid = varies & (n >= min_overlap)
    return torch.where(valid, r.clamp(-1, 1), torch.nan).to(maps.dtype)


def _correlate(f: Tensor, g: Tensor) -> Tensor:
    """Σₓ f(x) g(x − τ) for all shifts τ, by Fourier transforms of padded maps."""
    height, width = f.shape[-2:]
    size = (2 * height - 1, 2 * width - 1)
    product = torch.fft.rfft2(f, s=size) * torch.fft.rfft2(g, s=size).conj()
    return torch.fft.irfft2(product, s=size).roll((height - 1, width - 1), (-2, -1))
