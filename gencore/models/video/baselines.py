"""Predictions that a model of films has to beat: nothing moves on, or everything as before."""

import torch
from torch import Tensor

from gencore.data.video.optical_flow import optical_flow
from gencore.ops import warp

__all__ = ["constant_flow", "copy_last"]


def copy_last(frames: Tensor, num_frames: int) -> Tensor:
    """Predict the last frame again and again.

    Args:
        frames: [N, T, C, H, W], T ≥ 1.
        num_frames: Number of frames to predict.

    Returns:
        [N, num_frames, C, H, W].

    Raises:
        ValueError: the shape is another, or num_frames is below 1.

    Source:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, Table 4.4 ("Last input").

    Example:
        >>> copy_last(torch.arange(3.0).view(1, 3, 1, 1, 1), 2).flatten().tolist()
        [2.0, 2.0]
    """
    _check("copy_last", frames, num_frames, 1)
    return frames[:, -1:].repeat(1, num_frames, 1, 1, 1)


def constant_flow(
    frames: Tensor,
    num_frames: int,
    *,
    flow: Tensor | None = None,
    data_range: float = 1.0,
) -> Tensor:
    """Predict that the last flow goes on: with the displacement F of each pixel of the last frame
    since the one before,

        y₁(q) = x_m(q − F(q)),    y_k(q) = y_{k−1}(q − F(q)).

    Values between pixels are bilinear; outside, the border goes on. A flow of zero gives the last
    frame bit for bit, and whole displacements that are equal everywhere give exact shifts. The
    thesis names the baseline and states no formula. In this one F stays in its place, and at a
    place that something will reach it is not yet the F of what reaches it: the front of a thing
    that moves by more than the flow is smooth over is cut off, more with every frame.

    Args:
        frames: Floating point [N, T, C, H, W], T ≥ 2, or T ≥ 1 with a flow.
        num_frames: Number of frames to predict.
        flow: F in pixels, float32 or of the frames' dtype, [N, 2, H, W], to the right in channel 0
            and down in channel 1. By default it is estimated from the last two frames:
            −`gencore.data.optical_flow`(x_m, x_{m−1}).
        data_range: Difference of the highest and the lowest possible level of the frames, for the
            estimate: 2 for frames in [−1, 1].

    Returns:
        [N, num_frames, C, H, W].

    Raises:
        ModuleNotFoundError: scikit-image, which estimates the flow, is not installed.
        TypeError: frames are not floating point.
        ValueError: shapes do not fit, or num_frames is below 1.

    Source:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, §4.3.2, Table 4.4 ("Optical
        flow"); Ranzato, Szlam, Bruna, Mathieu, Collobert and Chopra, "Video (language) modeling",
        2014.

    Example:
        >>> x = torch.arange(5.0).view(1, 1, 1, 1, 5)
        >>> right = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 5)
        >>> constant_flow(x, 2, flow=right).flatten(1)
        tensor([[0., 0., 1., 2., 3., 0., 0., 0., 1., 2.]])
    """
    _check("constant_flow", frames, num_frames, 2 if flow is None else 1)
    if not frames.is_floating_point():
        raise TypeError(f"constant_flow: frames are {frames.dtype}, expected floating point")
    last = frames[:, -1]
    if flow is None:
        flow = -optical_flow(last, frames[:, -2], data_range=data_range)
    flow = flow.to(torch.promote_types(frames.dtype, torch.float32))
    predictions = []
    for _ in range(num_frames):
        last = warp(last, -flow, padding="border")
        predictions.append(last)
    return torch.stack(predictions, 1)


def _check(owner: str, frames: Tensor, num_frames: int, least: int) -> None:
    if frames.ndim != 5 or frames.shape[1] < least or num_frames < 1:
        raise ValueError(
            f"{owner}: frames have shape {tuple(frames.shape)} and num_frames is {num_frames}, "
            f"expected [N, T, C, H, W] with T >= {least}, and at least 1"
        )
