"""Images as vectors: a convolutional linear code that is its own decoder."""

from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, fold, pad

from gencore.choices import check_choice
from gencore.models.visual_cortex.names import FrameBoundary
from gencore.ops._support.checks import check_state
from gencore.sizes import check_positive

__all__ = ["TightFrame"]


class TightFrame(nn.Module):
    r"""Simple cells: K blocks of n linear filters W at patches of an image, and their adjoint.

    .. math:: v(x) = W I[x], \quad x \in D_-  \qquad (6.1)
    .. math:: I = \sum_x W^\top(x)\, v(x)
              = \sum_x \sum_k W^{(k)\top} v^{(k)}(x)  \qquad (6.2), (6.3)

    The second holds where the filters are a normalised tight frame; then ⟨WI, WJ⟩ = ⟨I, J⟩ too.
    Nothing here forces that: :meth:`reconstruction_loss` (6.9) makes the filters learn it, and
    :func:`fourier_cells` has it exactly. It needs K n ≥ C · stride² units.

    The source does not tell what is at the border. With "zeros" the image goes on as zeros, and
    there is a vector for each patch that has a pixel of the image, so that every pixel is in
    (patch_size / stride)² of them; with "circular" it goes on from its other side.

    Args:
        num_blocks: K.
        block_size: n, units a block.
        patch_size: side of a filter, a multiple of the stride.
        stride: pixels from patch to patch.
        channels: of the images, C.
        boundary: "zeros" or "circular".

    Attributes:
        weight: W, [K, n, C, patch_size, patch_size].

    Shape:
        Images [N, C, H, W], sides that are multiples of the stride → v [N, K, n, h, w], where h is
        (H + patch_size) / stride − 1 with zeros and H / stride in a circle.

    Raises:
        TypeError, ValueError: a size is none, does not fit, or is too small for a frame.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §6.2.1.

    Example:
        >>> import torch
        >>> from gencore.models import TightFrame
        >>> frame = TightFrame(40, 2, patch_size=16, stride=8)
        >>> x = torch.rand(3, 1, 64, 64)
        >>> v = frame(x)
        >>> v.shape, frame.decode(v).shape, frame.reconstruction_loss(x).shape
        (torch.Size([3, 40, 2, 9, 9]), torch.Size([3, 1, 64, 64]), torch.Size([3]))
    """

    def __init__(
        self,
        num_blocks: int = 40,
        block_size: int = 2,
        *,
        patch_size: int = 16,
        stride: int = 8,
        channels: int = 1,
        boundary: FrameBoundary = "zeros",
    ) -> None:
        super().__init__()
        check_positive(
            "TightFrame",
            num_blocks=num_blocks, block_size=block_size, patch_size=patch_size, stride=stride,
            channels=channels,
        )  # fmt: skip
        check_choice("TightFrame", "boundary", boundary, get_args(FrameBoundary))
        if patch_size % stride:
            raise ValueError(
                f"TightFrame: patch_size is {patch_size} and stride {stride}; expected a multiple"
            )
        if num_blocks * block_size < channels * stride**2:
            raise ValueError(
                f"TightFrame: {num_blocks} blocks of {block_size} units cannot span the "
                f"{channels * stride**2} numbers of {channels} channels and {stride}x{stride} "
                "pixels: give more units, or a smaller stride"
            )
        self.patch_size, self.stride, self.boundary = patch_size, stride, boundary
        # A unit then has the norm of its share of the image, as in a tight frame.
        scale = (channels * stride**2 / (num_blocks * block_size)) ** 0.5
        size = (num_blocks, block_size, channels, patch_size, patch_size)
        self.weight = nn.Parameter(scale * torch.randn(size) / (channels**0.5 * patch_size))

    def forward(self, x: Tensor) -> Tensor:
        """v of images, (6.1)."""
        check_state("TightFrame", x)
        channels = self.weight.shape[2]
        fits = x.dim() == 4 and x.shape[1] == channels
        if not fits or any(side == 0 or side % self.stride for side in x.shape[2:]):
            raise ValueError(
                f"TightFrame: images have shape {list(x.shape)}; expected [N, {channels}, H, W] "
                f"with sides that are multiples of the stride {self.stride}"
            )
        if self.boundary == "circular":
            # Up to whole turns, where the image is smaller than a patch.
            rows, columns = (
                torch.arange(side + self._beyond, device=x.device) % side for side in x.shape[2:]
            )
            x = x.index_select(2, rows).index_select(3, columns)
        v = conv2d(x, self.weight.flatten(0, 1), stride=self.stride, padding=self._padding)
        return v.unflatten(1, self.weight.shape[:2])

    def decode(self, v: Tensor) -> Tensor:
        """Σ_x W(x)ᵀ v(x), the adjoint: images [N, C, H, W] of v [N, K, n, h, w], (6.3)."""
        blocks = list(self.weight.shape[:2])
        if v.dim() != 5 or list(v.shape[1:3]) != blocks:
            raise ValueError(
                f"TightFrame.decode: v has shape {list(v.shape)}; expected "
                f"[N, {blocks[0]}, {blocks[1]}, h, w]"
            )
        # Overlapping patches are added; a transposed convolution takes longer for its gradients.
        patches = self.weight.flatten(0, 1).flatten(1).T @ v.flatten(3).flatten(1, 2)
        height, width = (num * self.stride for num in v.shape[3:])
        beyond = self._beyond
        if self.boundary == "zeros":
            size = (height - beyond, width - beyond)
            return fold(patches, size, self.patch_size, padding=beyond, stride=self.stride)
        size = (height + beyond, width + beyond)
        x = fold(patches, size, self.patch_size, stride=self.stride)
        for axis, side in ((2, height), (3, width)):
            places = torch.arange(x.shape[axis], device=x.device) % side
            whole = x.new_zeros(*x.shape[:axis], side, *x.shape[axis + 1 :])
            x = whole.index_add(axis, places, x)
        return x

    def reconstruction_loss(self, x: Tensor) -> Tensor:
        """‖I − Σ_x Wᵀ W I[x]‖² of each image, [N]: one of the two terms of (6.9)."""
        return (x - self.decode(self(x))).square().flatten(1).sum(1)

    def translated(self, x: Tensor, right: int, down: int) -> Tensor:
        """Images that have at p what these have at p + (right, down), as the boundary tells."""
        if self.boundary == "circular":
            return x.roll((-down, -right), (2, 3))
        return pad(x, (-right, right, -down, down))

    def interior(self, field: Tensor) -> Tensor:
        """The part of something at all patches, [..., h, w], at patches that lie in the image."""
        outside = 0 if self.boundary == "circular" else self._beyond // self.stride
        height, width = field.shape[-2:]
        return field[..., outside : height - outside, outside : width - outside]

    def at_centres(self, field: Tensor) -> Tensor:
        """A field of pixels, [..., H, W], at the middle of each patch, [..., h, w].

        The middle of an even side is between pixels; the field is averaged there."""
        for axis in (-2, -1):
            low, high = self._middle(field.shape[axis], field.device)
            field = (field.index_select(axis, low) + field.index_select(axis, high)) / 2
        return field

    def to_pixels(self, field: Tensor, height: int, width: int) -> Tensor:
        """A field at the interior patches, [..., h, w], at every pixel, [..., height, width].

        It is bilinear between the patches' middles, and goes on beyond the outer ones."""
        for axis, side in ((-2, height), (-1, width)):
            first = (self.patch_size - 1) / 2
            places = (torch.arange(side, device=field.device) - first) / self.stride
            last = field.shape[axis] - 1
            if self.boundary == "circular":
                low = places.floor().long()
                part, low, high = places - low, low % (last + 1), (low + 1) % (last + 1)
            else:
                places = places.clamp(0, last)
                low = places.floor().long()
                part, high = places - low, (low + 1).clamp(max=last)
            part = part.to(field.dtype).view(-1, *[1] * (-1 - axis))
            near, far = field.index_select(axis, low), field.index_select(axis, high)
            field = near + part * (far - near)
        return field

    @property
    def _beyond(self) -> int:
        """Pixels by which the outermost patches go beyond the image."""
        return self.patch_size - self.stride

    @property
    def _padding(self) -> int:
        return 0 if self.boundary == "circular" else self._beyond

    def _middle(self, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
        outside = 0 if self.boundary == "zeros" else self._beyond
        num = (side + self._beyond - outside) // self.stride
        first = self.stride * torch.arange(num, device=device) - self._padding
        low = first + (self.patch_size - 1) // 2
        high = first + self.patch_size // 2
        if self.boundary == "circular":
            return low % side, high % side
        return low.clamp(0, side - 1), high.clamp(0, side - 1)

    def extra_repr(self) -> str:
        blocks, units, channels = self.weight.shape[:3]
        return (
            f"{blocks}, {units}, patch_size={self.patch_size}, stride={self.stride}, "
            f"channels={channels}, boundary={self.boundary!r}"
        )
