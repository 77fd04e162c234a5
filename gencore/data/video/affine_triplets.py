"""Three images of one steady motion: A_τ x at τ = 1/3, 2/3 and 1."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.ops import affine_warp

__all__ = ["Motion", "draw_motions", "make_triplets", "move_images"]

_TAUS = (1 / 3, 2 / 3, 1.0)


class Motion(NamedTuple):
    """What a steady motion of the plane about the image's centre does in one unit of time.

    With places as complex numbers z = column + i·row and λ = log_scale + i·angle, a point moves as
    dz/dτ = λ z + v, so that after the time τ

        A_τ z = e^{λτ} z + v (e^{λτ} − 1)/λ,    A_σ A_τ = A_{σ+τ},    A_0 = 1.
    """

    log_scale: Tensor
    """Natural logarithm of the growth, [N]."""

    angle: Tensor
    """In radians, positive from the columns' axis to the rows' (clockwise on the screen), [N]."""

    velocity: Tensor
    """v in pixels, [N, 2], right and down; the translation where scale and angle are 0."""

    def at(self, tau: float) -> tuple[Tensor, Tensor]:
        """Matrix [N, 2, 2] and translation [N, 2] of A_τ, for places (column, row).

        Example:
            >>> quarter = Motion(torch.zeros(1), torch.tensor([math.pi / 2]), torch.zeros(1, 2))
            >>> matrix, translation = quarter.at(1.0)
            >>> (matrix @ torch.tensor([2.0, 0.0])).round().abs()  # from right to down
            tensor([[0., 2.]])
        """
        rate = torch.complex(self.log_scale, self.angle)
        turn = torch.exp(rate * tau)
        still = rate == 0
        # (e^{λτ} − 1)/λ, which is τ where λ = 0, without cancellation where λ is small.
        half = rate * (tau / 2)
        difference = 2 * torch.exp(half) * torch.sinh(half)
        reach = torch.where(still, tau + 0 * rate, difference / torch.where(still, 1 + rate, rate))
        column, row = self.velocity.unbind(-1)
        moved = reach * torch.complex(column, row)
        matrix = torch.stack([turn.real, -turn.imag, turn.imag, turn.real], -1).unflatten(
            -1, (2, 2)
        )
        return matrix, torch.stack([moved.real, moved.imag], -1)


def draw_motions(
    num: int,
    *,
    max_shift: float,
    max_angle: float = math.pi / 6,
    max_scale: float = 1.25,
    generator: torch.Generator | None = None,
) -> Motion:
    """Draw motions: shift and angle are uniform in ±max, the scale log-uniform in max^{±1}.

    Args:
        num: Number of motions N.
        max_shift: Of v in pixels, along each axis.
        max_angle: In radians.
        max_scale: At least 1.
        generator: Of the draws.

    Raises:
        ValueError: a bound is out of range.

    Example:
        >>> motion = draw_motions(5, max_shift=4.0, generator=torch.Generator().manual_seed(0))
        >>> motion.velocity.shape, bool(motion.velocity.abs().max() <= 4)
        (torch.Size([5, 2]), True)
    """
    device = None if generator is None else generator.device
    uniform = torch.rand(num, 4, generator=generator, device=device)
    return scale_motions(uniform, max_shift=max_shift, max_angle=max_angle, max_scale=max_scale)


def scale_motions(
    uniform: Tensor, *, max_shift: float, max_angle: float, max_scale: float
) -> Motion:
    """The motions that `draw_motions` makes of uniform numbers in [0, 1), [N, 4].

    Raises:
        ValueError: a bound is out of range.
    """
    if max_shift < 0 or max_angle < 0 or max_scale < 1:
        raise ValueError(
            f"draw_motions: max_shift = {max_shift}, max_angle = {max_angle}, max_scale = "
            f"{max_scale}, expected at least 0, 0 and 1"
        )
    uniform = 2 * uniform - 1
    return Motion(
        uniform[:, 0] * math.log(max_scale), uniform[:, 1] * max_angle, uniform[:, 2:] * max_shift
    )


def move_images(images: Tensor, motion: Motion, tau: float) -> Tensor:
    """A_τ x: each image as its motion has left it at time τ, (A_τ x)(p) = x(A_τ⁻¹ p).

    Values between pixels are bilinear; outside, the border goes on. At τ = 0, and for translations
    by whole pixels, pixels are copied bit for bit.

    Args:
        images: Floating point [N, C, H, W].
        motion: N motions.
        tau: Time.

    Returns:
        [N, C, H, W].

    Example:
        >>> shift = Motion(torch.zeros(1), torch.zeros(1), torch.tensor([[1.0, 0.0]]))
        >>> move_images(torch.arange(4.0).view(1, 1, 1, 4), shift, 2.0)
        tensor([[[[0., 0., 0., 1.]]]])
    """
    if len(images) != len(motion.angle):
        raise ValueError(
            f"move_images: {len(motion.angle)} motions for {len(images)} images, expected as many"
        )
    # The inverse is the motion run backwards.
    matrix, translation = motion.at(-tau)
    affine = torch.cat([matrix, translation.unsqueeze(-1)], -1)
    return affine_warp(images, affine.to(images.device), padding="border")


def make_triplets(images: Tensor, motion: Motion) -> Tensor:
    """The triplets (A_{1/3} x, A_{2/3} x, A_1 x): a model predicts the third from the first two.

    Args:
        images: Floating point [N, C, H, W].
        motion: N motions.

    Returns:
        [N, 3, C, H, W].

    Source:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, §3.3.1.

    Example:
        >>> motion = draw_motions(2, max_shift=3.0)
        >>> make_triplets(torch.rand(2, 1, 16, 16), motion).shape
        torch.Size([2, 3, 1, 16, 16])
    """
    return torch.stack([move_images(images, motion, tau) for tau in _TAUS], 1)
