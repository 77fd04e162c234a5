"""The face of a morphable model whose landmarks are nearest to given ones."""

from typing import NamedTuple

import torch
from torch import Tensor

from gencore.models.faces.morphable_model import MorphableModel
from gencore.models.faces.pose import Pose, best_pose
from gencore.ops._support.checks import number
from gencore.sizes import check_positive

__all__ = ["FaceFit", "fit_landmarks"]

_FIRST_DAMPING = 1e-3
_SMALLEST_DAMPING = 1e-12
_LARGEST_DAMPING = 1e8
_LOWERED, _RAISED = 0.2, 8.0


class FaceFit(NamedTuple):
    """A face for each of N sets of landmarks."""

    identity: Tensor
    """P^id: [N, A], equal rows where the identity is shared."""
    expression: Tensor
    """P^exp: [N, B]."""
    pose: Pose
    """(s, R, b) of each."""
    error: Tensor
    """[N]: the mean squared distance of a landmark."""


def fit_landmarks(
    model: MorphableModel,
    landmarks: Tensor,
    *,
    prior_precision: float = 0.0,
    shared_identity: bool = False,
    num_steps: int = 50,
) -> FaceFit:
    r"""The coefficients and poses of faces whose landmarks are nearest to given ones.

    .. math:: \min_{P, s, R, b} \lVert H(P^{id}, P^{exp}, s, R, b) - K \rVert^2 + \lambda s^2
              \lVert P \rVert^2

    The pose of the mean face comes first, in closed form, and then all is improved together by
    Levenberg and Marquardt's method (the source descends along the gradient). A step that does not
    lower the objective is not taken. The penalty is in the units of the mesh, so that the face
    found does not depend on how large it is in the picture.

    Args:
        model: whose landmarks are compared.
        landmarks: K [N, L, 3], floating point of the model's dtype.
        prior_precision: λ, the variance of the landmarks' noise in the mesh's units where
            coefficients are standard normal. With 0 and more coefficients than landmarks determine
            the face is one of many.
        shared_identity: all N are frames of one person: P^id is the same for all.
        num_steps: of the method.

    Raises:
        ValueError: for landmarks of another shape or dtype, or that are not finite, and numbers out
            of range.

    References:
        Yan, "Deep generative models: design, improvements and applications", 2022, §4.3.4; Moré,
        "The Levenberg–Marquardt algorithm: implementation and theory", 1978.

    Example:
        >>> import torch
        >>> from gencore.models import MorphableModel, Pose, fit_landmarks
        >>> bases = torch.randn(2, 20, 3, 3, dtype=torch.float64)
        >>> mean = torch.randn(20, 3, dtype=torch.float64)
        >>> model = MorphableModel(mean, *(0.1 * bases), torch.arange(20))
        >>> turned = Pose.from_angles(torch.full((1, 3), 0.3).double())
        >>> identity, expression = torch.randn(2, 1, 3, dtype=torch.float64)
        >>> fit = fit_landmarks(model, model.landmarks(identity, expression, turned))
        >>> bool(fit.error < 1e-12), torch.allclose(fit.identity, identity)
        (True, True)
    """
    owner = "fit_landmarks"
    check_positive(owner, num_steps=num_steps)
    precision = number(owner, "prior_precision", prior_precision)
    expected = [len(model.landmark_indices), 3]
    if (
        landmarks.ndim != 3
        or list(landmarks.shape[1:]) != expected
        or landmarks.dtype != model.mean.dtype
        or not landmarks.isfinite().all()
    ):
        raise ValueError(
            f"{owner}: landmarks are {landmarks.dtype} of shape {list(landmarks.shape)}; expected "
            f"finite {model.mean.dtype} [N, {expected[0]}, 3]"
        )
    with torch.no_grad():
        return _LandmarkFit(model, landmarks, precision, shared_identity).run(num_steps)


class _LandmarkFit:
    """The state of one fit. Groups are what one identity is shared by: all N, or each one.

    A step's unknowns are the changes of P^id for each group, and for each face those of P^exp, of
    log s, of R by a small rotation from the left, and of b: 7 numbers for a pose.
    """

    def __init__(
        self, model: MorphableModel, landmarks: Tensor, precision: float, shared_identity: bool
    ) -> None:
        self.landmarks, self.precision, self.is_shared = landmarks, precision, shared_identity
        chosen = model.landmark_indices
        self.mean = model.mean[chosen]
        # [L, 3, A + B]
        self.bases = torch.cat([model.identity_basis[chosen], model.expression_basis[chosen]], 2)
        self.num_identity, self.num_faces = model.num_identity, len(landmarks)
        self.coefficients = landmarks.new_zeros(self.num_faces, self.bases.shape[2])
        self.pose = best_pose(self.mean.expand_as(landmarks), landmarks)

    def run(self, num_steps: int) -> FaceFit:
        objective = self._objective(self.coefficients, self.pose)
        damping = torch.full_like(objective, _FIRST_DAMPING)
        for _ in range(num_steps):
            coefficients, pose = self._proposal(damping)
            proposed = self._objective(coefficients, pose)
            is_better = proposed < objective
            objective = torch.where(is_better, proposed, objective)
            damping = damping * torch.where(is_better, _LOWERED, _RAISED)
            damping = damping.clamp(_SMALLEST_DAMPING, _LARGEST_DAMPING)
            taken = is_better.expand(self.num_faces)
            self.coefficients = torch.where(taken[:, None], coefficients, self.coefficients)
            self.pose = Pose(
                *(
                    torch.where(taken.view(-1, *[1] * (new.ndim - 1)), new, old)
                    for new, old in zip(pose, self.pose, strict=True)
                )
            )
        error = self._residual(self.coefficients, self.pose).square().sum(2).mean(1)
        identity = self.coefficients[:, : self.num_identity]
        return FaceFit(identity, self.coefficients[:, self.num_identity :], self.pose, error)

    def _shape(self, coefficients: Tensor) -> Tensor:
        return self.mean + torch.einsum("lcp,np->nlc", self.bases, coefficients)

    def _residual(self, coefficients: Tensor, pose: Pose) -> Tensor:
        return pose(self._shape(coefficients)) - self.landmarks

    def _objective(self, coefficients: Tensor, pose: Pose) -> Tensor:
        """[groups], in the units of the mesh of the starting pose: what λ s² makes comparable."""
        distance = self._residual(coefficients, pose).square().sum((1, 2))
        penalty = self.precision * (pose.scale[:, None] * coefficients).square().sum(1)
        return self._by_group(distance + penalty)

    def _by_group(self, values: Tensor) -> Tensor:
        return values.sum(0, keepdim=True) if self.is_shared else values

    def _proposal(self, damping: Tensor) -> tuple[Tensor, Pose]:
        """The minimum of the damped quadratic model, by the Schur complement of the identities."""
        jacobian, residual = self._linearised()
        normal, gradient = jacobian.mT @ jacobian, (jacobian.mT @ residual[..., None]).squeeze(-1)
        scales = normal.diagonal(dim1=1, dim2=2)
        # Marquardt's scaling, with a floor for what no landmark depends on.
        added = damping.expand(self.num_faces)[:, None] * (scales + 1e-6 * scales.amax(1, True))
        normal = normal + torch.diag_embed(added)
        a = self.num_identity
        own, across, shared = normal[:, a:, a:], normal[:, a:, :a], normal[:, :a, :a]
        solved = torch.linalg.solve(own, torch.cat([across, gradient[:, a:, None]], 2))
        schur = self._by_group(shared - across.mT @ solved[..., :a])
        reduced = self._by_group(gradient[:, :a, None] - across.mT @ solved[..., a:])
        identity = torch.linalg.solve(schur, reduced).expand(self.num_faces, -1, -1)
        rest = solved[..., a:] - solved[..., :a] @ identity
        step = -torch.cat([identity, rest], 1).squeeze(-1)

        count = self.bases.shape[2]
        change = step[:, count:]
        pose = Pose(
            self.pose.scale * change[:, 0].exp(),
            torch.linalg.matrix_exp(_cross_matrix(change[:, 1:4])) @ self.pose.rotation,
            self.pose.translation + change[:, 4:],
        )
        return self.coefficients + step[:, :count], pose

    def _linearised(self) -> tuple[Tensor, Tensor]:
        """The residuals and their derivatives, [N, rows, A + B + 7] and [N, rows]; the rows are the
        landmarks' coordinates and then the penalised coefficients."""
        turned = self.pose.turned(self._shape(self.coefficients))
        scale, rotation = self.pose.scale, self.pose.rotation
        by_shape = torch.einsum("n,nij,ljp->nlip", scale, rotation, self.bases).flatten(1, 2)
        # A rotation by a small ω adds ω × y = −[y]ₓ ω.
        by_rotation = -_cross_matrix(turned).flatten(1, 2)
        count, num_points = self.bases.shape[2], len(self.mean)
        identity = torch.eye(3, dtype=turned.dtype, device=turned.device)
        by_translation = identity.repeat(num_points, 1).expand(self.num_faces, -1, -1)
        by_scale = turned.flatten(1)[..., None]
        jacobian = torch.cat([by_shape, by_scale, by_rotation, by_translation], 2)
        residual = (turned + self.pose.translation[:, None] - self.landmarks).flatten(1)

        weighted = self.precision**0.5 * scale[:, None] * self.coefficients
        penalties = jacobian.new_zeros(self.num_faces, count, count + 7)
        diagonal = self.precision**0.5 * scale[:, None].expand(-1, count)
        penalties[..., :count] = torch.diag_embed(diagonal)
        penalties[..., count] = weighted  # the penalty's scale grows with log s
        return torch.cat([jacobian, penalties], 1), torch.cat([residual, weighted], 1)


def _cross_matrix(vectors: Tensor) -> Tensor:
    """[v]ₓ of v × w = [v]ₓ w, [..., 3] → [..., 3, 3]."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    rows = (zero, -z, y, z, zero, -x, -y, x, zero)
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
