"""What keeps a film's motion smooth and what motion does not explain small."""

from typing import Literal, get_args

import torch
from torch import Tensor

from gencore.choices import check_choice

__all__ = ["ResidualPenalty", "displacement_roughness", "residual_penalty"]

ResidualPenalty = Literal["norm", "square"]


def residual_penalty(residuals: Tensor, form: ResidualPenalty = "norm") -> Tensor:
    r"""The size of residual images, a sum over the frames of a film.

    .. math:: \sum_t \lVert R_t \rVert_2 \quad\text{or}\quad \sum_t \lVert R_t \rVert_2^2

    Beside half of the squared error of a frame and with weight λ, the norm makes R_t zero where it
    need not be longer than λ, and shortens others by λ; the square makes all 1 + 2λ times smaller.
    The gradient of the norm at zero is zero.

    Args:
        residuals: R, [N, T, ...].
        form: "norm", as the source has it in words, or "square".

    Returns:
        [N].

    Raises:
        ValueError: for another form or shape.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §3.4.2, with λ₁, which prints no formula.

    Example:
        >>> import torch
        >>> residuals = torch.tensor([3.0, 4.0, 0.0, 0.0]).view(1, 2, 2)  # a frame is zero
        >>> residual_penalty(residuals), residual_penalty(residuals, "square")
        (tensor([5.]), tensor([25.]))
    """
    check_choice("residual_penalty", "form", form, get_args(ResidualPenalty))
    if residuals.dim() < 3:
        raise ValueError(
            f"residual_penalty: residuals have shape {list(residuals.shape)}; expected [N, T, ...]"
        )
    frames = residuals.flatten(2)
    if form == "square":
        return frames.square().sum((1, 2))
    return torch.linalg.vector_norm(frames, dim=2).sum(1)


def displacement_roughness(motion: Tensor) -> Tensor:
    r"""How much displacements differ from pixel to pixel, a sum over the frames of a film.

    .. math:: \sum_t \sum_p \lVert M_t(p + e_x) - M_t(p) \rVert^2
              + \lVert M_t(p + e_y) - M_t(p) \rVert^2

    over the pairs of neighbours that are both in the image. It is zero for translations.

    Args:
        motion: M in pixels, [N, T, 2, H, W].

    Returns:
        [N].

    Raises:
        ValueError: for another shape.

    References:
        Gao 2021, §3.4.2, which has a "penalty for smoothness" and no formula; the sum of squares is
        that of Horn and Schunck, "Determining optical flow", 1981.

    Example:
        >>> import torch
        >>> motion = torch.zeros(1, 1, 2, 1, 3)
        >>> motion[0, 0, 0, 0] = torch.tensor([0.0, 1.0, 3.0])
        >>> displacement_roughness(motion)
        tensor([5.])
    """
    if motion.dim() != 5 or motion.shape[2] != 2:
        raise ValueError(
            f"displacement_roughness: motion has shape {list(motion.shape)}; expected "
            "[N, T, 2, H, W]"
        )
    return sum(
        (motion.diff(dim=axis).square().sum((1, 2, 3, 4)) for axis in (3, 4)),
        motion.new_zeros(motion.shape[0]),
    )
