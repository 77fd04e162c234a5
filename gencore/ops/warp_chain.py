"""Images warped again and again, as the frames of a film."""

from typing import get_args

import torch
from torch import Tensor

from gencore.choices import check_choice
from gencore.ops._support.checks import check_accumulated, check_state
from gencore.ops.warp import WarpPadding, warp

__all__ = ["warp_chain"]


def warp_chain(image: Tensor, flows: Tensor, *, padding: WarpPadding = "border") -> Tensor:
    r"""The frames that fields of displacements make of a first image, each of the one before.

    .. math:: I_t = \mathrm{warp}(I_{t-1}, M_t), \qquad t = 1, \dots, T

    Differentiable in ``image`` and ``flows``, to any order, as :func:`warp` is.

    Args:
        image: I₀ [N, C, H, W], float64, float32, bfloat16 or float16. Half types are rounded at
            each frame.
        flows: M [N, T, 2, H, W], to the right in channel 0 and down in channel 1, in pixels; of the
            dtype of ``image``, or float32 where that is a half type.
        padding: what is outside of a frame: ``"border"``, its nearest pixel, or ``"zeros"``.

    Returns:
        I₁, …, I_T, [N, T, C, H, W].

    Raises:
        TypeError: for arguments or dtypes of the wrong kind.
        ValueError: for shapes, devices or values that do not fit.

    References:
        Gao, "Generative Modeling and Unsupervised Learning in Computer Vision", 2021, eq. (3.18).

    Example:
        >>> import torch
        >>> from gencore.ops import warp_chain
        >>> flows = torch.zeros(1, 2, 2, 1, 4)
        >>> flows[:, :, 0] = 1.0  # a pixel from the right, at each frame
        >>> warp_chain(torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]), flows)[0, :, 0, 0]
        tensor([[2., 3., 4., 4.],
                [3., 4., 4., 4.]])
    """
    op = "warp_chain"
    check_state(op, image, "image")
    check_state(op, flows, "flows")
    check_choice(op, "padding", padding, get_args(WarpPadding))
    if image.dim() != 4:
        raise ValueError(f"{op}: image has shape {list(image.shape)}, expected [N, C, H, W]")
    expected = [image.shape[0], "T", 2, *image.shape[2:]]
    if flows.dim() != 5 or [flows.shape[0], *flows.shape[2:]] != [expected[0], *expected[2:]]:
        raise ValueError(
            f"{op}: flows has shape {list(flows.shape)}, expected [{', '.join(map(str, expected))}]"
            f" for image of shape {list(image.shape)}"
        )
    check_accumulated(op, image, flows, "flows", "image")
    frames = []
    for flow in flows.unbind(1):
        image = warp(image, flow, padding=padding)
        frames.append(image)
    if not frames:
        return image.new_empty(image.shape[0], 0, *image.shape[1:])
    return torch.stack(frames, 1)
