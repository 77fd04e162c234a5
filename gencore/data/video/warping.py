"""Images seen through a displacement field."""

import torch
from torch import Tensor

__all__ = ["sample_at", "warp_images"]


def sample_at(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Bilinear values of images at places in pixels; outside, the nearest pixel of the border.

    At whole numbers it gives the pixels bit for bit.

    Args:
        images: Floating point [N, C, H, W].
        row: [N, h, w], 0 at the centre of the first row of pixels.
        column: [N, h, w].

    Returns:
        [N, C, h, w].

    Example:
        >>> image = torch.tensor([[[[0.0, 4.0], [8.0, 12.0]]]])
        >>> sample_at(image, torch.tensor([[[0.5]]]), torch.tensor([[[0.25]]]))
        tensor([[[[5.]]]])
    """
    height, width = images.shape[2:]
    row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
    top, left = row.floor(), column.floor()
    down, right = (row - top)[:, None], (column - left)[:, None]
    top, left = top.long(), left.long()
    bottom, far = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    pixels = images.flatten(2)

    def at(row: Tensor, column: Tensor) -> Tensor:
        index = (row * width + column).flatten(1)[:, None].expand(-1, images.shape[1], -1)
        return pixels.gather(2, index).unflatten(2, row.shape[1:])

    # Weighted sums and not a + t·(b − a), which is not b at t = 1 after rounding.
    upper = at(top, left) * (1 - right) + at(top, far) * right
    lower = at(bottom, left) * (1 - right) + at(bottom, far) * right
    return upper * (1 - down) + lower * down


def warp_images(images: Tensor, displacement: Tensor) -> Tensor:
    """Move images: what is seen at p after the motion was at p − δ(p) before it,

        I′(p) = I(p − δ(p)).

    Args:
        images: Floating point [N, C, H, W].
        displacement: δ in pixels, [N, 2, H, W], rows (down) before columns (right).

    Returns:
        [N, C, H, W].

    Example:
        >>> image = torch.arange(4.0).view(1, 1, 1, 4)
        >>> right = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 1, 4)
        >>> warp_images(image, right)
        tensor([[[[0., 0., 1., 2.]]]])
    """
    height, width = images.shape[2:]
    if displacement.shape != (len(images), 2, height, width):
        raise ValueError(
            f"warp_images: displacement has shape {tuple(displacement.shape)}, expected "
            f"{(len(images), 2, height, width)} for images of shape {tuple(images.shape)}"
        )
    row = torch.arange(height).to(displacement)[:, None] - displacement[:, 0]
    column = torch.arange(width).to(displacement) - displacement[:, 1]
    return sample_at(images, row, column)
