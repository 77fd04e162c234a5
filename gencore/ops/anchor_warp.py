"""A transformed patch around every position of a feature map."""

import torch
from torch import Tensor

from gencore.ops._support.checks import accumulation_dtype, check_accumulated, check_state
from gencore.ops.warp import warp

__all__ = ["anchor_warp"]


def anchor_warp(features: Tensor, transforms: Tensor) -> Tensor:
    r"""The 3 × 3 patch around every position, sampled where an affine map takes its points.

    .. math:: y_{n,c}(i, j, p) = \tilde x_{n,c}(p + A_n(p) o_{ij} + t_n(p)), \qquad
              o_{ij} = (j - 1, i - 1)

    with the bilinear interpolant x̃ of a map, zero outside of it, and the matrix [A | t] of each
    position, for places (column, row). The identity gives the patches that a 3 × 3 convolution
    with a padding of 1 sees, bit for bit; twice the identity those of a dilation of 2.
    Differentiable in both arguments, to any order, as :func:`warp` is.

    Args:
        features: [N, C, H, W], float64, float32, bfloat16 or float16.
        transforms: [A | t] [N, H, W, 2, 3], t to the right and down in pixels; of the dtype of
            ``features``, or float32 where that is a half type.

    Returns:
        [N, C, 3, 3, H, W], of the dtype of ``features``: i and j are the third and the fourth
        dimension. In memory the channels of a patch's point lie beside each other.

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes or devices that do not fit.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §B.3.3;
        Pedersoli, Lucas, Schmid and Verbeek, "Areas of attention for image captioning", 2017.

    Example:
        >>> import torch
        >>> from gencore.ops import anchor_warp
        >>> x = torch.arange(9.0).view(1, 1, 3, 3)
        >>> identity = torch.eye(2, 3).expand(1, 3, 3, 2, 3)
        >>> anchor_warp(x, identity)[0, 0, :, :, 0, 0]
        tensor([[0., 0., 0.],
                [0., 0., 1.],
                [0., 3., 4.]])
    """
    op = "anchor_warp"
    check_state(op, features, "features")
    check_state(op, transforms, "transforms")
    if features.dim() != 4:
        raise ValueError(f"{op}: features has shape {list(features.shape)}, expected [N, C, H, W]")
    n, _, height, width = features.shape
    if list(transforms.shape) != [n, height, width, 2, 3]:
        raise ValueError(
            f"{op}: transforms has shape {list(transforms.shape)}, expected "
            f"{[n, height, width, 2, 3]} for features of shape {list(features.shape)}"
        )
    check_accumulated(op, features, transforms, "transforms", "features")
    points = warp(features, _displacements(transforms.to(accumulation_dtype(features))))
    return points.unflatten(1, (3, 3)).permute(0, 3, 1, 2, 4, 5)


def _displacements(transforms: Tensor) -> Tensor:
    """A o + t for the nine points o of an anchor box, [N, 9, 2, H, W]."""
    matrix = transforms.permute(0, 3, 4, 1, 2).unsqueeze(1)  # [N, 1, 2, 3, H, W]
    steps = torch.arange(-1, 2, dtype=matrix.dtype, device=matrix.device)
    across = steps.repeat(3).view(9, 1, 1, 1)
    down = steps.repeat_interleave(3).view(9, 1, 1, 1)
    return matrix[..., 0, :, :] * across + matrix[..., 1, :, :] * down + matrix[..., 2, :, :]
