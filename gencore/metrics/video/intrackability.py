"""How much of a film the movement of its pixels does not explain."""

from typing import Literal, get_args

import torch
from torch import Tensor

from gencore.choices import check_choice

__all__ = ["IntrackabilityAverage", "intrackability"]

IntrackabilityAverage = Literal["ratio of means", "mean of ratios"]


def intrackability(
    residuals: Tensor, frames: Tensor, *, average: IntrackabilityAverage = "ratio of means"
) -> Tensor:
    r"""The length of what a model cannot track in a film, relative to that of its frames.

    .. math:: \frac{\frac1T \sum_t \lVert R_t \rVert_2}{\frac1T \sum_t \lVert X_t \rVert_2}
              \quad\text{or}\quad
              \frac1T \sum_t \frac{\lVert R_t \rVert_2}{\lVert X_t \rVert_2}

    It depends on where the frames have zero: pixels in [−1, 1] and the same in [0, 1] have
    different scores. A film whose frames are all zero has the score 0 where its residuals are zero
    as well, and infinity otherwise; a frame that is zero counts so in the mean of ratios.

    Args:
        residuals: R, of a :class:`gencore.models.MotionGenerator`, [N, T, C, H, W].
        frames: X, the observed film, like the residuals.
        average: the source defines the score twice: as the "ratio of means" in §3.4.2, and in words
            that also allow the "mean of ratios" in §3.4.

    Returns:
        [N], 0 or more.

    Raises:
        TypeError: for tensors that are not floating point.
        ValueError: for shapes that do not fit, or another average.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §3.4 and §3.4.2. Xie, Gao, Zheng, Zhu and Wu,
        "Motion-based generator model", 2020.

    Example:
        >>> import torch
        >>> from gencore.metrics import intrackability
        >>> frames = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1, 1)
        >>> residuals = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1, 1)
        >>> intrackability(residuals, frames)
        tensor([0.2500])
        >>> intrackability(residuals, frames, average="mean of ratios")
        tensor([0.5000])
    """
    owner = "intrackability"
    check_choice(owner, "average", average, get_args(IntrackabilityAverage))
    for name, value in (("residuals", residuals), ("frames", frames)):
        if not value.is_floating_point():
            raise TypeError(f"{owner}: {name} are {value.dtype}; expected floating point")
    if residuals.shape != frames.shape or residuals.dim() < 3 or 0 in residuals.shape[1:]:
        raise ValueError(
            f"{owner}: residuals have shape {list(residuals.shape)} and frames "
            f"{list(frames.shape)}; expected both [N, T, C, H, W], and at least one frame"
        )
    lengths = [
        torch.linalg.vector_norm(film.flatten(2), dim=2) for film in (residuals, frames)
    ]  # [N, T]
    if average == "ratio of means":
        return _ratio(*(length.mean(1) for length in lengths))
    return _ratio(*lengths).mean(1)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Part of the whole; of no whole, 0 for no part."""
    return torch.where((part == 0) & (whole == 0), 0.0, part / whole)
