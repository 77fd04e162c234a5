"""Similarities of space: a scale, a rotation and a translation."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Pose", "best_pose"]


class Pose(NamedTuple):
    r"""What places a shape in space, one for each of N shapes.

    .. math:: y = s \, x R^\top + b

    for points x as rows.

    References:
        Yan, "Deep generative models: design, improvements and applications", 2022, eq. (4.7), whose
        R multiplies from the left what has points as rows.

    Example:
        >>> import torch
        >>> from gencore.models import Pose
        >>> quarter_turn = Pose.from_angles(torch.tensor([[0.0, 0.0, torch.pi / 2]]))
        >>> quarter_turn(torch.tensor([[[1.0, 0.0, 0.0]]])).round().int()  # x becomes y
        tensor([[[0, 1, 0]]], dtype=torch.int32)
    """

    scale: Tensor
    """s > 0: [N]."""
    rotation: Tensor
    """R: [N, 3, 3], orthogonal and of determinant 1."""
    translation: Tensor
    """b: [N, 3]."""

    @classmethod
    def from_angles(
        cls, angles: Tensor, scale: Tensor | None = None, translation: Tensor | None = None
    ) -> "Pose":
        """R = R_z(γ) R_y(β) R_x(α) of angles (α, β, γ) in radians, [N, 3].

        Args:
            scale: [N]; 1 if ``None``.
            translation: [N, 3]; 0 if ``None``.

        Raises:
            ValueError: for angles of another shape.
        """
        if angles.ndim != 2 or angles.shape[1] != 3 or not angles.is_floating_point():
            raise ValueError(
                f"Pose.from_angles: angles are {angles.dtype} of shape {list(angles.shape)}; "
                "expected floating point [N, 3]"
            )
        (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(1), angles.sin().unbind(1)
        rows = (
            (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
            (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
            (-sy, cy * sx, cy * cx),
        )
        rotation = torch.stack([torch.stack(row, 1) for row in rows], 1)
        return cls(
            angles.new_ones(len(angles)) if scale is None else scale,
            rotation,
            torch.zeros_like(angles) if translation is None else translation,
        )

    def __call__(self, points: Tensor) -> Tensor:
        """The places of points [N, P, 3]."""
        return self.turned(points) + self.translation[:, None]

    def turned(self, offsets: Tensor) -> Tensor:
        """s x Rᵀ of offsets [N, P, 3], which a translation does not move."""
        return self.scale[:, None, None] * (offsets @ self.rotation.mT)


def best_pose(points: Tensor, targets: Tensor) -> Pose:
    r"""The pose that takes points nearest to their targets, in closed form.

    .. math:: \arg\min_{s > 0, R, b} \sum_p \lVert s R x_p + b - y_p \rVert^2, \qquad
              R^\top R = 1, \; \det R = 1

    by the singular values of the covariance of both. Mirror images are not mirrored back.

    Args:
        points: x [N, P, 3] of at least 3 points that are not on one line.
        targets: y [N, P, 3].

    Raises:
        ValueError: for other shapes or dtypes.

    References:
        Umeyama, "Least-squares estimation of transformation parameters between two point patterns",
        1991, eqs. (40) to (42).

    Example:
        >>> import torch
        >>> from gencore.models import Pose, best_pose
        >>> x = torch.randn(1, 5, 3, dtype=torch.float64)
        >>> pose = Pose.from_angles(torch.ones(1, 3).double(), torch.full((1,), 2.0).double())
        >>> torch.allclose(best_pose(x, pose(x)).rotation, pose.rotation)
        True
    """
    if (
        points.ndim != 3
        or points.shape[1] < 3
        or points.shape[2] != 3
        or points.shape != targets.shape
        or points.dtype != targets.dtype
        or not points.is_floating_point()
    ):
        raise ValueError(
            f"best_pose: points are {points.dtype} of shape {list(points.shape)}, targets "
            f"{targets.dtype} of shape {list(targets.shape)}; expected floating point [N, P, 3] of "
            "at least 3 points, both alike"
        )
    center, target_center = points.mean(1), targets.mean(1)
    x, y = points - center[:, None], targets - target_center[:, None]
    u, singular, vt = torch.linalg.svd(y.mT @ x)
    signs = torch.ones_like(singular)
    signs[:, 2] = torch.linalg.det(u @ vt).sign()
    rotation = (u * signs[:, None]) @ vt
    scale = (singular * signs).sum(1) / x.square().sum((1, 2))
    translation = target_center - scale[:, None] * (rotation @ center[..., None]).squeeze(-1)
    return Pose(scale, rotation, translation)
