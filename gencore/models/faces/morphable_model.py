"""The 3-D morphable model: meshes of faces as a mean and two linear bases."""

import torch
from torch import Tensor, nn

from gencore.models.faces.pose import Pose
from gencore.sizes import check_positive

__all__ = ["MorphableModel"]


class MorphableModel(nn.Module):
    r"""Faces that are linear in coefficients of who it is and of what it expresses.

    .. math:: V_c = \bar x + U^{id} P^{id} + U^{exp} P^{exp} \quad (4.6), \qquad
              V = s \, V_c R^\top + b \quad (4.7), \qquad H = V[\mathrm{IDX}] \quad (4.8)

    with the pose (s, R, b). Coefficients of a basis that has been scaled by its standard deviations
    are standard normal. The two bases may overlap: landmarks do not determine the coefficients
    where they do.

    Args:
        mean: x̄ [V, 3], the mean mesh.
        identity_basis: U^id [V, 3, A].
        expression_basis: U^exp [V, 3, B].
        landmark_indices: IDX, the vertices that are landmarks, [L].

    Raises:
        ValueError: for shapes, dtypes or indices that do not fit.

    References:
        Blanz and Vetter, "A morphable model for the synthesis of 3D faces", 1999; Yan, "Deep
        generative models: design, improvements and applications", 2022, §4.3.4.

    Example:
        >>> import torch
        >>> from gencore.models import MorphableModel, Pose
        >>> model = MorphableModel(
        ...     torch.randn(50, 3), torch.randn(50, 3, 4), torch.randn(50, 3, 2), torch.arange(9)
        ... )
        >>> model.mesh(torch.randn(7, 4), torch.randn(7, 2)).shape
        torch.Size([7, 50, 3])
        >>> pose = Pose.from_angles(torch.zeros(7, 3))
        >>> model.landmarks(torch.randn(7, 4), torch.randn(7, 2), pose).shape
        torch.Size([7, 9, 3])
    """

    mean: Tensor
    identity_basis: Tensor
    expression_basis: Tensor
    landmark_indices: Tensor

    def __init__(
        self,
        mean: Tensor,
        identity_basis: Tensor,
        expression_basis: Tensor,
        landmark_indices: Tensor,
    ) -> None:
        super().__init__()
        owner = "MorphableModel"
        if mean.ndim != 2 or mean.shape[1] != 3 or not mean.is_floating_point():
            raise ValueError(
                f"{owner}: mean is {mean.dtype} of shape {list(mean.shape)}; expected floating "
                "point [V, 3]"
            )
        bases = {"identity_basis": identity_basis, "expression_basis": expression_basis}
        for name, basis in bases.items():
            if basis.ndim != 3 or basis.shape[:2] != mean.shape or basis.dtype != mean.dtype:
                raise ValueError(
                    f"{owner}: {name} is {basis.dtype} of shape {list(basis.shape)}; expected "
                    f"{mean.dtype} [{len(mean)}, 3, number of coefficients]"
                )
        if landmark_indices.ndim != 1 or landmark_indices.dtype != torch.int64:
            raise ValueError(
                f"{owner}: landmark_indices are {landmark_indices.dtype} of shape "
                f"{list(landmark_indices.shape)}; expected int64 [L]"
            )
        outside = (landmark_indices < 0) | (landmark_indices >= len(mean))
        if outside.any():
            raise ValueError(
                f"{owner}: landmark_indices has {landmark_indices[outside][0].item()}; expected 0 "
                f"to {len(mean) - 1}"
            )
        self.register_buffer("mean", mean)
        self.register_buffer("identity_basis", identity_basis)
        self.register_buffer("expression_basis", expression_basis)
        self.register_buffer("landmark_indices", landmark_indices)

    @classmethod
    def from_scans(
        cls,
        neutral: Tensor,
        expressions: Tensor,
        landmark_indices: Tensor,
        *,
        num_identity: int,
        num_expression: int,
    ) -> "MorphableModel":
        """The principal components of scans in one topology, scaled by their standard deviations.

        Args:
            neutral: faces of S people without an expression, [S, V, 3].
            expressions: what expressions add to a neutral face, [E, V, 3]. The mean of them becomes
                a part of the mean face.
            landmark_indices: as above.
            num_identity: A < S.
            num_expression: B < E.

        Raises:
            ValueError: for shapes that do not fit, and more components than scans have.

        Example:
            >>> import torch
            >>> from gencore.models import MorphableModel
            >>> scans, offsets = torch.randn(6, 20, 3), torch.randn(5, 20, 3)
            >>> model = MorphableModel.from_scans(
            ...     scans, offsets, torch.arange(4), num_identity=5, num_expression=2
            ... )
            >>> model.identity_basis.shape
            torch.Size([20, 3, 5])
        """
        check_positive(
            "MorphableModel.from_scans", num_identity=num_identity, num_expression=num_expression
        )
        mean, identity = _principal_components("neutral", neutral, num_identity)
        mean_expression, expression = _principal_components(
            "expressions", expressions, num_expression
        )
        return cls(mean + mean_expression, identity, expression, landmark_indices)

    @property
    def num_identity(self) -> int:
        """A, how many coefficients say who it is."""
        return self.identity_basis.shape[2]

    @property
    def num_expression(self) -> int:
        """B, how many coefficients say what is expressed."""
        return self.expression_basis.shape[2]

    def mesh(self, identity: Tensor, expression: Tensor, pose: Pose | None = None) -> Tensor:
        """All vertices [N, V, 3]: (4.6), and with a pose (4.7).

        Args:
            identity: P^id [N, A].
            expression: P^exp [N, B].

        Raises:
            ValueError: for coefficients of other shapes.
        """
        return self._vertices("mesh", slice(None), identity, expression, pose)

    def landmarks(self, identity: Tensor, expression: Tensor, pose: Pose | None = None) -> Tensor:
        """The vertices that are landmarks, [N, L, 3] (4.8); no other is computed.

        Raises:
            ValueError: for coefficients of other shapes.
        """
        return self._vertices("landmarks", self.landmark_indices, identity, expression, pose)

    def _vertices(
        self,
        method: str,
        chosen: slice | Tensor,
        identity: Tensor,
        expression: Tensor,
        pose: Pose | None,
    ) -> Tensor:
        sizes = {"identity": self.num_identity, "expression": self.num_expression}
        for (name, size), given in zip(sizes.items(), (identity, expression), strict=True):
            if given.ndim != 2 or given.shape[1] != size or len(given) != len(identity):
                raise ValueError(
                    f"MorphableModel.{method}: {name} has shape {list(given.shape)}; expected "
                    f"[{len(identity)}, {size}]"
                )
        mean = self.mean[chosen]
        offsets = identity @ self.identity_basis[chosen].flatten(0, 1).T
        offsets = offsets + expression @ self.expression_basis[chosen].flatten(0, 1).T
        points = mean + offsets.unflatten(1, mean.shape)
        return points if pose is None else pose(points)


def _principal_components(name: str, scans: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The mean [V, 3] of scans, and their first components times standard deviations [V, 3, C]."""
    if scans.ndim != 3 or scans.shape[2] != 3 or count >= len(scans):
        raise ValueError(
            f"MorphableModel.from_scans: {name} has shape {list(scans.shape)}; expected [S, V, 3] "
            f"of more than {count} scans for {count} components"
        )
    mean = scans.mean(0)
    centered = (scans - mean).flatten(1)
    _, singular, directions = torch.linalg.svd(centered, full_matrices=False)
    deviations = singular[:count] / (len(scans) - 1) ** 0.5
    return mean, (deviations[:, None] * directions[:count]).T.unflatten(0, mean.shape)
