"""Motion as matrices: how a displacement of pixels rotates the vectors of what is displaced."""

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from gencore.sizes import check_positive, check_whole

__all__ = ["MotionModule", "RotationMotion", "TableMotion", "TaylorMotion", "displacement_lattice"]


def displacement_lattice(max_displacement: float, step: float) -> Tensor:
    """All displacements (x, y) within ±max_displacement whose components are multiples of a step.

    Args:
        max_displacement: in pixels, a multiple of the step.
        step: in pixels.

    Returns:
        float32 [D, 2]; y changes faster.

    Raises:
        ValueError: the step is not positive or does not divide the largest displacement.

    Example:
        >>> displacement_lattice(6.0, 0.5).shape   # the source's
        torch.Size([625, 2])
        >>> displacement_lattice(1.0, 1.0)[:4].tolist()
        [[-1.0, -1.0], [-1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]]
    """
    if not 0 < step < float("inf") or not 0 <= max_displacement < float("inf"):
        raise ValueError(
            f"displacement_lattice: max_displacement is {max_displacement} and step {step}; "
            "expected at least 0, and a positive number"
        )
    num = round(max_displacement / step)
    if abs(num * step - max_displacement) > 1e-6 * max_displacement:
        raise ValueError(
            f"displacement_lattice: max_displacement is {max_displacement}, no multiple of the "
            f"step {step}"
        )
    axis = step * torch.arange(-num, num + 1, dtype=torch.float32)
    return torch.cartesian_prod(axis, axis)


class TableMotion(nn.Module):
    r"""A learned matrix for each displacement of a lattice, with local mixing if asked for:

    .. math:: v^{(k)}_{t+1}(x) = \sum_{dx \in S} M^{(k)}(\delta(x), dx)\, v^{(k)}_t(x + dx)
              \qquad (6.6)

    With the only offset dx = 0 that is (6.5). All matrices begin with zeros, which explain nothing,
    so that no displacement that training has hardly seen is taken for the true one; the identity
    M(0) is learned. Displacements between those of the lattice have the matrix of the nearest,
    those beyond it of the outermost.

    Args:
        num_blocks: K.
        block_size: n.
        max_displacement: of the lattice, in pixels.
        step: of the lattice, in pixels.
        mixing_radius: of S in pixels along each axis; 0 for no mixing.
        mixing_step: of S in pixels, which divides the radius.

    Attributes:
        matrices: M, [D, K, n, S n]: offset by offset, and unit by unit in it.
        offsets: S, pairs (right, down) in pixels; the middle one is no offset.
        displacements: the lattice, [D, 2], see :func:`displacement_lattice`.

    Raises:
        TypeError, ValueError: a size is none or does not fit.

    References:
        Gao, 2021, §6.2.2 and §6.4, which has K = 40, n = 2, ±6 pixels in steps of ½, and in the
        inference of displacements S of ±4 pixels in steps of 2.

    Example:
        >>> motion = TableMotion(40, 2, mixing_radius=4)
        >>> motion.matrices.shape, len(motion.offsets)
        (torch.Size([625, 40, 2, 50]), 25)
        >>> motion(torch.zeros(3, 2)).shape
        torch.Size([3, 40, 2, 50])
    """

    displacements: Tensor

    def __init__(
        self,
        num_blocks: int = 40,
        block_size: int = 2,
        *,
        max_displacement: float = 6.0,
        step: float = 0.5,
        mixing_radius: int = 0,
        mixing_step: int = 2,
    ) -> None:
        super().__init__()
        check_positive(
            "TableMotion", num_blocks=num_blocks, block_size=block_size, mixing_step=mixing_step
        )
        check_whole("TableMotion", mixing_radius=mixing_radius)
        if mixing_radius < 0 or mixing_radius % mixing_step:
            raise ValueError(
                f"TableMotion: mixing_radius is {mixing_radius}; expected a multiple of the "
                f"mixing_step {mixing_step}"
            )
        self.max_displacement, self.step = max_displacement, step
        self.register_buffer("displacements", displacement_lattice(max_displacement, step))
        places = range(-mixing_radius, mixing_radius + 1, mixing_step)
        self.offsets = tuple((right, down) for right in places for down in places)
        columns = len(self.offsets) * block_size
        shape = (len(self.displacements), num_blocks, block_size, columns)
        self.matrices = nn.Parameter(torch.zeros(shape))

    def nearest(self, displacement: Tensor) -> Tensor:
        """Rows of the lattice, int64 [...], that are nearest to displacements [..., 2]."""
        num = round(self.max_displacement / self.step)
        right, down = (displacement / self.step).round().long().clamp(-num, num).unbind(-1)
        return (right + num) * (2 * num + 1) + down + num

    def forward(self, displacement: Tensor) -> Tensor:
        """M of displacements [..., 2], [..., K, n, S n]."""
        rows = embedding(self.nearest(displacement), self.matrices.flatten(1))
        return rows.unflatten(-1, self.matrices.shape[1:])

    def extra_repr(self) -> str:
        return (
            f"max_displacement={self.max_displacement}, step={self.step}, "
            f"matrices={list(self.matrices.shape)}"
        )


class TaylorMotion(nn.Module):
    r"""Learned matrices as a function of second order of the displacement:

    .. math:: M^{(k)}(\delta) = I + B_1\delta_1 + B_2\delta_2 + B_{11}\delta_1^2
              + B_{22}\delta_2^2 + B_{12}\delta_1\delta_2

    so that M(0) is the identity. Within, displacements are divided by `unit`, which makes entries
    of all five matrices alike in size, as one learning rate needs.

    Args:
        num_blocks: K.
        block_size: n.
        unit: in pixels; the largest displacement, say.

    Attributes:
        coefficients: B · unit, and B · unit² of the second order, [5, K, n, n], in the order above.
            They begin with zeros.

    Raises:
        TypeError, ValueError: a size is none, or the unit is not positive.

    References:
        Gao, 2021, §6.2.2.

    Example:
        >>> motion = TaylorMotion(40, 2)
        >>> torch.equal(motion(torch.zeros(2)), torch.eye(2).expand(40, 2, 2))
        True
    """

    offsets = ((0, 0),)

    def __init__(self, num_blocks: int = 40, block_size: int = 2, *, unit: float = 6.0) -> None:
        super().__init__()
        check_positive("TaylorMotion", num_blocks=num_blocks, block_size=block_size)
        if not 0 < unit < float("inf"):
            raise ValueError(f"TaylorMotion: unit is {unit}; expected a positive number")
        self.unit = unit
        self.coefficients = nn.Parameter(torch.zeros(5, num_blocks, block_size, block_size))

    def forward(self, displacement: Tensor) -> Tensor:
        """M of displacements [..., 2], [..., K, n, n]."""
        right, down = (displacement / self.unit).unbind(-1)
        powers = torch.stack([right, down, right**2, down**2, right * down], -1)
        change = torch.tensordot(powers, self.coefficients, 1)
        return torch.eye(change.shape[-1]).to(change) + change

    def extra_repr(self) -> str:
        _, blocks, size, _ = self.coefficients.shape
        return f"{blocks}, {size}, unit={self.unit}"


class RotationMotion(nn.Module):
    r"""Rotations of pairs by an angle that is linear in the displacement:

    .. math:: M^{(k)}(\delta) = \begin{pmatrix} \cos\langle\omega_k, \delta\rangle
              & \sin\langle\omega_k, \delta\rangle \\ -\sin\langle\omega_k, \delta\rangle
              & \cos\langle\omega_k, \delta\rangle \end{pmatrix}

    They are orthogonal, as §6.3.5 asks for, and what a displacement does to the cosine and the sine
    of frequency ω in a periodic image: with what is seen moving by dx = −δ, a rotation by ⟨ω, dx⟩.

    Args:
        frequencies: ω, first values of the parameter, radians a pixel, (x, y), [K, 2].

    Raises:
        ValueError: another shape.

    References:
        Gao, 2021, §6.1 and §6.3.5.

    Example:
        >>> motion = RotationMotion(torch.tensor([[torch.pi / 2, 0.0]]))
        >>> motion(torch.tensor([1.0, 5.0])).round().abs()   # by a quarter of a turn
        tensor([[[0., 1.],
                 [1., 0.]]], grad_fn=<AbsBackward0>)
    """

    offsets = ((0, 0),)

    def __init__(self, frequencies: Tensor) -> None:
        super().__init__()
        if frequencies.dim() != 2 or frequencies.shape[1] != 2:
            raise ValueError(
                f"RotationMotion: frequencies have shape {list(frequencies.shape)}; expected [K, 2]"
            )
        self.frequencies = nn.Parameter(frequencies.detach().clone())

    def forward(self, displacement: Tensor) -> Tensor:
        """M of displacements [..., 2], [..., K, 2, 2]."""
        angle = displacement @ self.frequencies.T
        cos, sin = angle.cos(), angle.sin()
        return torch.stack([cos, sin, -sin, cos], -1).unflatten(-1, (2, 2))

    def extra_repr(self) -> str:
        return f"frequencies={list(self.frequencies.shape)}"


MotionModule: TypeAlias = TableMotion | TaylorMotion | RotationMotion
