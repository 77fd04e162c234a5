"""Whether neighbouring cells see the same wave a quarter of a period apart."""

import torch
from torch import Tensor

from gencore.ops._support.checks import check_state

__all__ = ["pair_coherence", "pair_phase"]


def pair_phase(pairs: Tensor) -> Tensor:
    r"""By how much the phases of two receptive fields differ, without fitting anything:

    .. math:: \Bigl| \arg \sum_{\omega \in H} \hat f_1(\omega)\, \overline{\hat f_2(\omega)} \Bigr|

    summed over the half-plane H of frequencies around the strongest one that both have together. It
    is 90° of pairs in quadrature, and anything of unrelated fields, 90° in the mean.

    Args:
        pairs: Receptive fields, floating point [K, 2, H, W].

    Returns:
        Radians from 0 to π, float64 [K].

    Raises:
        TypeError, ValueError: other shapes or dtypes.

    Source:
        The comparison of paired units in Gao, "Effective Learning of Descriptive and Generator
        Models and Learning Representations for Grid Cells and V1 Cells", 2021, figure 6.4.2(c),
        which has differences of fitted phases.

    Example:
        >>> import math
        >>> angle = 2 * math.pi / 4 * torch.arange(16.0).expand(16, 16)
        >>> phase = pair_phase(torch.stack([angle.cos(), angle.sin()])[None])
        >>> round(math.degrees(phase.item()), 3)
        90.0
    """
    return _half_plane(pairs, "pair_phase")[0].angle().abs()


def pair_coherence(pairs: Tensor) -> Tensor:
    r"""How alike two receptive fields are but for one difference of phase,

    .. math:: \frac{\lvert\sum_H \hat f_1 \overline{\hat f_2}\rvert}
              {\sqrt{\sum_H \lvert\hat f_1\rvert^2 \sum_H \lvert\hat f_2\rvert^2}}

    which is 1 where frequency, orientation, place and envelope are the same, and near 0 of fields
    that have nothing in common; where it is small, :func:`pair_phase` means nothing.

    Args:
        pairs: Receptive fields, floating point [K, 2, H, W].

    Returns:
        Float64 [K], from 0 to 1.

    Example:
        >>> import math
        >>> angle = 2 * math.pi / 4 * torch.arange(16.0).expand(16, 16)
        >>> pair_coherence(torch.stack([angle.cos(), angle.sin()])[None]).item() > 0.95
        True
    """
    crossed, first, second = _half_plane(pairs, "pair_coherence")
    return crossed.abs() / (first * second).sqrt().clamp(min=1e-30)


def _half_plane(pairs: Tensor, owner: str) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the half-plane, of the crossed spectrum and of both powers, [K] each."""
    check_state(owner, pairs, "pairs")
    if pairs.dim() != 4 or pairs.shape[1] != 2 or min(pairs.shape[2:]) < 2:
        raise ValueError(
            f"{owner}: pairs have shape {list(pairs.shape)}; expected [K, 2, H, W], at least 2x2"
        )
    height, width = (2 * side for side in pairs.shape[2:])  # not periodic
    spectrum = torch.fft.fft2(pairs.double(), s=(height, width))
    down, right = torch.meshgrid(
        *(torch.fft.fftfreq(n, dtype=torch.float64, device=pairs.device) for n in (height, width)),
        indexing="ij",
    )
    power = spectrum.abs().square()
    strongest = power.prod(1).flatten(1).argmax(1)
    along = (
        right.flatten()[strongest, None, None] * right
        + down.flatten()[strongest, None, None] * down
    )
    # A frequency on the border of the half-plane is in both halves; the mean has none.
    share = (along > 0).double() + 0.5 * (along == 0).double()
    first, second = spectrum.unbind(1)
    crossed = (share * first * second.conj()).sum((1, 2))
    return crossed, *((share * power[:, i]).sum((1, 2)) for i in range(2))
