"""The pixels of a film that move, by the colours of their optical flow."""

from typing import Literal, get_args

from torch import Tensor

from gencore.choices import check_choice
from gencore.data.video.optical_flow import flow_to_image

__all__ = ["Reading", "moving_area"]

Reading = Literal["program", "printed"]


def moving_area(
    flow: Tensor,
    *,
    threshold: float = 0.2,
    max_flow: float | None = None,
    reading: Reading = "program",
) -> Tensor:
    """Tell the pixels that move: those whose colour, in Middlebury's code, has a channel below
    `threshold`.

    In that code white does not move, every full hue has a channel at 0, and a length r relative to
    the longest of the image has its lowest channel at 1 − r. So, with threshold = 0.2, the pixels
    that count are those that move by more than 0.8 of the longest displacement of their image:
    a relative bound, by which slow things beside a fast one are at rest. `max_flow` makes it an
    absolute one, 0.8 · max_flow pixels.

    The thesis's footnote says the opposite: pixels with a channel below 0.2 are set to 0, which
    would blank what moves. The authors' program keeps exactly these pixels and blanks the rest, as
    the thesis's text and Figure 4.4 have it. `reading="printed"` is the footnote to the letter, and
    the complement.

    Args:
        flow: Floating point [N, 2, H, W], to the right in channel 0 and down in channel 1.
        threshold: In (0, 1].
        max_flow: As of `gencore.data.flow_to_image`; the longest of each image without it.
        reading: "program" or "printed".

    Returns:
        bool [N, H, W], for the argument `mask` of `psnr`, `ssim` and `sharpness_difference`. It is
        all False ("program") for an image in which nothing moves.

    Raises:
        TypeError: the flow is not floating point.
        ValueError: its shape is another, or an argument is out of range.

    Source:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, §4.3.2, second footnote; the
        program is `test-frame-prediction-on-ucf-rec_gdl.lua` of
        coupriec/VideoPredictionICLR2016.

    Example:
        >>> import torch
        >>> flow = torch.tensor([0.0, 1.0, 1.7, 2.0]).view(1, 1, 1, 4)
        >>> flow = torch.cat([torch.zeros_like(flow), flow], 1)  # down
        >>> moving_area(flow), moving_area(flow, max_flow=1.0)
        (tensor([[[False, False,  True,  True]]]), tensor([[[False,  True,  True,  True]]]))
    """
    check_choice("moving_area", "reading", reading, get_args(Reading))
    if not 0 < threshold <= 1:
        raise ValueError(
            f"moving_area: threshold = {threshold}, expected more than 0 and at most 1"
        )
    levels = flow_to_image(flow, max_flow=max_flow)
    moving = levels.amin(1) < 255 * threshold
    return moving if reading == "program" else ~moving
