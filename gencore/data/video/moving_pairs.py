"""Pairs of images, the second of which is the first one moved, with the true displacement."""

from typing import NamedTuple

import torch
from torch import Tensor

from gencore.data.video.affine_triplets import Motion, scale_motions
from gencore.data.video.deformations import spline_fields
from gencore.ops import warp

__all__ = ["MovingPair", "affine_fields", "deformed_pairs", "flying_pairs"]

_GRID = 4
# Numbers of the motion of the background and of the object, and of the object's outline.
FLYING_NUMBERS = 4 + 4 + 3 + 2 * 3
DEFORMING_NUMBERS = 2 * _GRID**2


class MovingPair(NamedTuple):
    """Two successive images, and where the second one has its pixels from."""

    first: Tensor
    """I_t, [N, C, H, W]."""

    second: Tensor
    """I_{t+1}, [N, C, H, W]."""

    displacement: Tensor
    """δ in pixels, [N, 2, H, W], to the right in channel 0 and down in channel 1:
    I_{t+1}(p) = I_t(p + δ(p)). Where δ is the same all around, what is seen moves
    the other way."""

    visible: Tensor
    """Whether the first image has what the second one shows at a pixel, bool [N, 1, H, W]: there,
    `gencore.ops.warp(first, displacement)` is `second`. It is not where something was hidden by an
    object or by the edge of an object, or outside of the image."""

    def cropped(self, margin: int) -> "MovingPair":
        """Without so many pixels of each side, into which moves what the first image does not
        have."""
        height, width = self.first.shape[-2:]
        return MovingPair(
            *(part[..., margin : height - margin, margin : width - margin] for part in self)
        )


def deformed_pairs(
    images: Tensor, uniform: Tensor | None = None, *, max_displacement: float = 6.0,
    generator: torch.Generator | None = None,
) -> MovingPair:  # fmt: skip
    """Deform images smoothly, by B-splines of 4 × 4 control points in ±max_displacement.

    Args:
        images: Floating point [N, C, H, W].
        uniform: Numbers in [0, 1) that the control points are made of, [N, 32]; drawn if None.
        max_displacement: In pixels along each axis.
        generator: Of the draws.

    Raises:
        ValueError: shapes do not fit, or an argument is out of range.

    Source:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §6.4, the data set V1Deform, with B-splines for its
        splines.

    Example:
        >>> pair = deformed_pairs(torch.rand(3, 1, 32, 32))
        >>> pair.second.shape, bool(pair.displacement.abs().max() <= 6)
        (torch.Size([3, 1, 32, 32]), True)
    """
    numbers = _numbers("deformed_pairs", images, uniform, DEFORMING_NUMBERS, generator)
    _check_bound("deformed_pairs", max_displacement)
    control = max_displacement * (2 * numbers - 1).view(-1, 2, _GRID, _GRID)
    field = spline_fields(control.to(images.dtype), *images.shape[2:])
    return MovingPair(images, warp(images, field, padding="border"), field, _inside(field))


def flying_pairs(
    images: Tensor, objects: Tensor, uniform: Tensor | None = None, *,
    max_displacement: float = 6.0, generator: torch.Generator | None = None,
) -> MovingPair:  # fmt: skip
    """Move a background, and an object in front of it: translation, rotation and growth of each.

    The object is cut out of a second image by a blob. It moves with the background, and by a motion
    of its own from there. Where a displacement of an affine field would be too large anywhere in
    the image, that field is scaled down to what is allowed.

    Args:
        images: Backgrounds, floating point [N, C, H, W].
        objects: What objects look like, of the same shape.
        uniform: Numbers in [0, 1) that motions and blobs are made of, [N, 17]; drawn if None.
        max_displacement: In pixels along each axis.
        generator: Of the draws.

    Raises:
        ValueError: shapes do not fit, or an argument is out of range.

    Source:
        Gao, 2021, §6.4, the data set V1FlyingObjects; there objects are those of COIL-100.

    Example:
        >>> x = torch.rand(3, 1, 32, 32)
        >>> pair = flying_pairs(x, x.flip(2, 3))
        >>> bool(pair.displacement.abs().max() <= 6), pair.visible.dtype
        (True, torch.bool)
    """
    owner = "flying_pairs"
    if objects.shape != images.shape:
        raise ValueError(
            f"{owner}: objects have shape {list(objects.shape)} and images {list(images.shape)}; "
            "they must be equal"
        )
    numbers = _numbers(owner, images, uniform, FLYING_NUMBERS, generator)
    _check_bound(owner, max_displacement)
    height, width = images.shape[2:]
    # Shares of the bound for translation; the rest is turning and growing, clipped with it.
    motions = [
        scale_motions(part, max_shift=0.7 * max_displacement, max_angle=0.12, max_scale=1.08)
        for part in (numbers[:, :4], numbers[:, 4:8])
    ]
    ground = affine_fields(motions[0], height, width)
    # Of a composition: p + δ(p) = A⁻¹(B⁻¹ p) with the background's motion A applied first.
    own = affine_fields(motions[1], height, width)
    over = own + _affine_at(motions[0], own)
    ground, over = (_bounded(field, max_displacement) for field in (ground, over))
    mask = _blobs(numbers[:, 8:], height, width)

    def step(x: Tensor, field: Tensor) -> Tensor:
        return warp(x, field.to(x.dtype), padding="border")

    mask_next = step(mask.to(images.dtype), over) > 0.5
    displacement = torch.where(mask_next, over, ground).to(images.dtype)
    first = torch.where(mask, objects, images)
    second = torch.where(mask_next, step(objects, over), step(images, ground))
    # All four pixels that the second image's pixel is made of are of its own layer.
    layer = step(mask.to(images.dtype), displacement)
    of_one_layer = torch.where(mask_next, layer == 1, layer == 0)
    return MovingPair(first, second, displacement, of_one_layer & _inside(displacement))


def affine_fields(motion: Motion, height: int, width: int) -> Tensor:
    """The displacement of steady motions, δ(p) = A⁻¹ p − p about the image's middle.

    Args:
        motion: N motions, whose A is that of τ = 1.
        height: H.
        width: W.

    Returns:
        [N, 2, H, W]; where A moves everything by v pixels it is −v.

    Example:
        >>> shift = Motion(torch.zeros(1), torch.zeros(1), torch.tensor([[2.0, -1.0]]))
        >>> affine_fields(shift, 3, 3)[0, :, 1, 1]
        tensor([-2.,  1.])
    """
    return _affine_at(motion, motion.angle.new_zeros(len(motion.angle), 2, height, width))


def _affine_at(motion: Motion, field: Tensor) -> Tensor:
    """A⁻¹ q − q at the places q = p + field(p)."""
    matrix, translation = motion.at(-1.0)
    height, width = field.shape[2:]
    down, right = torch.meshgrid(
        torch.arange(height).to(field) - (height - 1) / 2,
        torch.arange(width).to(field) - (width - 1) / 2,
        indexing="ij",
    )
    place = torch.stack([right, down]) + field
    moved = torch.einsum("nij,njhw->nihw", matrix, place)
    return moved + translation[:, :, None, None] - place


def _bounded(field: Tensor, largest: float) -> Tensor:
    """Fields that are scaled down where a displacement is too large along an axis."""
    most = field.abs().amax((1, 2, 3), keepdim=True)
    # A little less than the bound, so that no rounding goes beyond it.
    return field * (largest * (1 - 1e-6) / most.clamp(min=1e-12)).clamp(max=1)


def _blobs(uniform: Tensor, height: int, width: int) -> Tensor:
    """Outlines r(φ) = r₀ (1 + Σ a_j cos(jφ + ψ_j)) of N objects, bool [N, 1, H, W]."""
    side = min(height, width)
    down, right = torch.meshgrid(
        torch.arange(height).to(uniform) - (height - 1) / 2,
        torch.arange(width).to(uniform) - (width - 1) / 2,
        indexing="ij",
    )
    radius, x, y = (uniform[:, i, None, None] for i in range(3))
    right, down = right - side * (x - 0.5) / 2, down - side * (y - 0.5) / 2
    angle = torch.atan2(down, right)
    reach = torch.ones_like(angle)
    for j in range(3):
        size, phase = (uniform[:, 3 + 2 * j + i, None, None] for i in range(2))
        reach = reach + 0.2 * size * torch.cos((j + 1) * angle + 2 * torch.pi * phase)
    return (torch.hypot(right, down) < side * (0.12 + 0.14 * radius) * reach).unsqueeze(1)


def _inside(field: Tensor) -> Tensor:
    """Where p + δ(p) is in the image, bool [N, 1, H, W]."""
    height, width = field.shape[2:]
    right = torch.arange(width).to(field) + field[:, 0]
    down = torch.arange(height).to(field).unsqueeze(1) + field[:, 1]
    inside = (right >= 0) & (right <= width - 1) & (down >= 0) & (down <= height - 1)
    return inside.unsqueeze(1)


def _numbers(
    owner: str, images: Tensor, uniform: Tensor | None, size: int,
    generator: torch.Generator | None,
) -> Tensor:  # fmt: skip
    if images.dim() != 4 or not images.is_floating_point():
        raise ValueError(
            f"{owner}: images are {images.dtype} {list(images.shape)}; expected floating point "
            "[N, C, H, W]"
        )
    if uniform is None:
        device = images.device if generator is None else generator.device
        drawn = torch.rand(len(images), size, generator=generator, device=device)
        return drawn.to(images.device)
    if uniform.shape != (len(images), size):
        raise ValueError(
            f"{owner}: uniform has shape {list(uniform.shape)}; expected [{len(images)}, {size}]"
        )
    return uniform


def _check_bound(owner: str, max_displacement: float) -> None:
    if not 0 <= max_displacement < float("inf"):
        raise ValueError(
            f"{owner}: max_displacement is {max_displacement}; expected 0 or a positive number"
        )
