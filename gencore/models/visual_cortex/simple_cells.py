"""The representational model of V1: images as vectors, motion as matrices that rotate them."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.models.visual_cortex.motion_costs import motion_costs
from gencore.models.visual_cortex.motion_matrices import (
    MotionModule,
    RotationMotion,
    TableMotion,
)
from gencore.models.visual_cortex.tight_frame import TightFrame

__all__ = ["SimpleCells", "SimpleCellsLoss", "fourier_cells"]


class SimpleCellsLoss(NamedTuple):
    """The terms of the objective, an entry a pair, each divided by the image's numbers C H W."""

    rotation: Tensor
    """L₁ of (6.7) or (6.8), summed over blocks and the patches in the image, [N]."""
    reconstruction: Tensor
    """L₂ of (6.9), of both images, [N]."""


class SimpleCells(nn.Module):
    r"""V1's simple cells: a frame whose vectors are rotated when what they see moves.

    .. math:: v^{(k)}_{t+1}(x) = M^{(k)}(\delta(x))\, v^{(k)}_t(x)  \qquad (6.5)

    The displacement δ is that of :func:`gencore.ops.warp`, I_{t+1}(p) = I_t(p + δ(p)): what is seen
    moves by −δ where δ is the same all around. It is given at the patches in the image, the
    interior ones of the frame, [N, 2, h, w], to the right in channel 0 and down in channel 1;
    `frame.interior(frame.at_centres(field))` makes it of a field of pixels.

    The filters alone have a minimum of the rotation loss at W = 0, which the reconstruction loss
    forbids.

    Args:
        frame: W.
        motion: M: a :class:`TableMotion`, :class:`TaylorMotion` or :class:`RotationMotion` of as
            many blocks of as many units.

    Attributes:
        frame, motion: as given.

    Raises:
        ValueError: the matrices are not of the frame's blocks.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, chapter 6; Gao, Xie, Zhu and Wu, "Learning V1 simple
        cells with vector representation of local content and matrix representation of local
        motion", 2018.

    Example:
        >>> import torch
        >>> from gencore.data import draw_deformations
        >>> from gencore.models import SimpleCells, TableMotion, TightFrame
        >>> from gencore.ops import warp
        >>> cells = SimpleCells(TightFrame(40, 2), TableMotion(40, 2))
        >>> first, field = torch.rand(3, 1, 64, 64), draw_deformations(3, 64, 64)
        >>> second = warp(first, field, padding="border")
        >>> displacement = cells.frame.interior(cells.frame.at_centres(field))
        >>> loss = cells(first, second, displacement)
        >>> (loss.rotation + loss.reconstruction).mean().backward()
        >>> cells.infer(first, second).shape
        torch.Size([3, 2, 7, 7])
    """

    def __init__(self, frame: TightFrame, motion: MotionModule) -> None:
        super().__init__()
        blocks, units = frame.weight.shape[:2]
        offsets = motion.offsets
        shape = list(motion(frame.weight.new_zeros(2)).shape)
        if shape != [blocks, units, units * len(offsets)]:
            raise ValueError(
                f"SimpleCells: the matrices of a displacement have shape {shape}, the frame has "
                f"{blocks} blocks of {units} units; expected "
                f"[{blocks}, {units}, {units * len(offsets)}]"
            )
        self.frame, self.motion = frame, motion

    def forward(self, first: Tensor, second: Tensor, displacement: Tensor) -> SimpleCellsLoss:
        """Both losses of pairs of images at given displacements."""
        frame, images = self.frame, torch.cat([first, second])
        v = frame(images)
        error = (images - frame.decode(v)).square().flatten(1).sum(1)
        before, following = frame.interior(v).chunk(2)
        if len(self.motion.offsets) > 1:
            before = self.context(first)
        rotation = following - self.predict(before, displacement)
        numbers = math.prod(first.shape[1:])
        return SimpleCellsLoss(
            rotation.square().flatten(1).sum(1) / numbers,
            torch.add(*error.chunk(2)) / numbers,
        )

    def context(self, x: Tensor) -> Tensor:
        """What the matrices act on: v at each patch in the image and each offset from there,
        [N, K, S n, h, w]."""
        frame = self.frame
        offsets = self.motion.offsets
        moved = torch.stack([frame.translated(x, *offset) for offset in offsets], 1)
        v = frame.interior(frame(moved.flatten(0, 1))).unflatten(0, (-1, len(offsets)))
        return v.transpose(1, 2).flatten(2, 3)

    def predict(self, context: Tensor, displacement: Tensor) -> Tensor:
        """M(δ) v, the vectors of the next image, [N, K, n, h, w]: (6.5) or (6.6)."""
        places = (displacement.shape[0], *displacement.shape[2:])
        if displacement.dim() != 4 or places != (context.shape[0], *context.shape[3:]):
            num, _, _, height, width = context.shape
            raise ValueError(
                f"SimpleCells: displacement has shape {list(displacement.shape)}; expected "
                f"[{num}, 2, {height}, {width}], an entry for each patch in the image"
            )
        matrices = self.motion(displacement.permute(0, 2, 3, 1))  # [N, h, w, K, n, m]
        return torch.einsum("nhwkim,nkmhw->nkihw", matrices, context)

    def rotation_loss(self, first: Tensor, second: Tensor, displacement: Tensor) -> Tensor:
        """Σ_x Σ_k L_{1,x,k} of each pair, [N], over the patches in the image: (6.7) or (6.8)."""
        following = self.frame.interior(self.frame(second))
        error = following - self.predict(self.context(first), displacement)
        return error.square().flatten(1).sum(1)

    def infer(self, first: Tensor, second: Tensor, displacements: Tensor | None = None) -> Tensor:
        """The displacement of each patch that explains the second image best, (6.10).

        Args:
            first, second: I_t and I_{t+1}, [N, C, H, W].
            displacements: the candidates, [D, 2]; by default the lattice of a table's matrices.

        Returns:
            [N, 2, h, w], without a graph.

        Raises:
            ValueError: the matrices are no table and no candidates are given.
        """
        if displacements is None:
            if not isinstance(self.motion, TableMotion):
                raise ValueError(
                    "SimpleCells.infer: displacements is None, but only a TableMotion has a "
                    "lattice of its own; give candidates, such as displacement_lattice(6, 0.5)"
                )
            displacements = self.motion.displacements
        with torch.no_grad():
            following = self.frame.interior(self.frame(second))
            costs = motion_costs(following, self.context(first), self.motion(displacements))
            return displacements[costs.argmin(1)].permute(0, 3, 1, 2)

    def animate(self, first: Tensor, displacements: Tensor) -> Tensor:
        """Rotate the vectors of an image again and again, and decode them.

        Args:
            first: I_0, [N, C, H, W].
            displacements: δ of each step at all patches of the frame, [N, T, 2, h, w], as
                `frame.at_centres` makes them.

        Returns:
            Frames 1 to T, [N, T, C, H, W].

        Raises:
            ValueError: shapes do not fit, or the matrices mix places, of whose vectors between the
                patches the next ones are not known.
        """
        if len(self.motion.offsets) > 1:
            raise ValueError(
                "SimpleCells.animate: the matrices mix vectors of other places, which are not "
                "known after the first step; use motion without local mixing"
            )
        v, frames = self.frame(first), []
        for step in displacements.unbind(1):
            v = self.predict(v, step)
            frames.append(self.frame.decode(v))
        return torch.stack(frames, 1)


def fourier_cells(
    patch_size: int = 16, stride: int = 8, *, dtype: torch.dtype = torch.float32
) -> SimpleCells:
    """Cells in closed form: the cosine and the sine of every frequency of a patch, which are a
    normalised tight frame, and rotations by the frequency.

    On images of which each patch is periodic all is exact: reconstruction, the rotation of v, and
    the displacement, if it is whole pixels. Of the frequencies whose sine is zero the pair has one
    unit that is always 0. They are an oracle for inference and a start for learning.

    Args:
        patch_size: an even number, a multiple of the stride.
        stride: pixels from patch to patch.
        dtype: of the parameters.

    Returns:
        Cells of patch_size² / 2 + 2 pairs, on a circular boundary.

    Raises:
        ValueError: the sizes do not fit.

    Source:
        Gao, 2021, §6.1.

    Example:
        >>> cells = fourier_cells(8, 4)
        >>> x = torch.rand(1, 1, 16, 16)
        >>> bool(cells.frame.reconstruction_loss(x) < 1e-9)
        True
    """
    if patch_size < 2 or patch_size % 2 or stride < 1 or patch_size % stride:
        raise ValueError(
            f"fourier_cells: patch_size is {patch_size} and stride {stride}; expected an even "
            "number that is a multiple of the stride"
        )
    half = patch_size // 2
    waves = [
        (right, down)
        for right in range(half + 1)
        for down in range(-half + 1, half + 1)
        if right % half or down >= 0  # of ω and −ω one
    ]
    cycles = torch.tensor(waves, dtype=torch.float64)
    omega = 2 * math.pi * cycles / patch_size
    place = torch.arange(patch_size, dtype=torch.float64)
    angle = omega[:, 1, None, None] * place[:, None] + omega[:, 0, None, None] * place
    pairs = torch.stack([angle.cos(), angle.sin()], 1)
    # Orthonormal in a patch, and each pixel is in (patch_size / stride)² of them.
    has_sine = torch.tensor([bool(right % half or down % half) for right, down in waves])
    squared = (1 + has_sine.double()) * stride**2 / patch_size**4
    weight = pairs * squared.sqrt().view(-1, 1, 1, 1)
    frame = TightFrame(len(waves), 2, patch_size=patch_size, stride=stride, boundary="circular")
    frame.to(dtype)
    with torch.no_grad():
        frame.weight.copy_(weight.unsqueeze(2))
    return SimpleCells(frame, RotationMotion(omega.to(dtype)))
