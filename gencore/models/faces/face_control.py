"""Landmarks of faces that somebody else, or chance, sets in motion."""

from typing import get_args

import torch
from torch import Tensor

from gencore.choices import check_choice
from gencore.models.faces.face_fit import FaceFit
from gencore.models.faces.morphable_model import MorphableModel
from gencore.models.faces.names import ReenactmentScale
from gencore.models.faces.pose import Pose

__all__ = [
    "eye_shift",
    "frontal_landmarks",
    "random_expression_landmarks",
    "reenacted_landmarks",
]


def reenacted_landmarks(
    model: MorphableModel,
    source: FaceFit,
    driving: FaceFit,
    *,
    scale: ReenactmentScale = "driving",
) -> Tensor:
    r"""The landmarks of one person who moves as another does, [T, L, 3].

    .. math:: K_t = H(P_0^{id}, Q_t^{exp}, s_t, R_t, b_t)

    The identity is the source's, expression and pose are the driving person's. How large a face the
    driving identity has makes no difference; how large it stands in the picture does, unless the
    scale says otherwise.

    Args:
        model: of both fits.
        source: one face.
        driving: T frames.
        scale: s_t is the driving person's ("driving", as in the source), the source's ("source"),
            or the source's times s_t / s_0 of the driving person ("relative").

    Raises:
        ValueError: for several source faces, or another scale.

    References:
        Yan, "Deep generative models: design, improvements and applications", 2022, §4.3.5.

    Example:
        >>> import torch
        >>> from gencore.models import MorphableModel, fit_landmarks, reenacted_landmarks
        >>> model = MorphableModel(
        ...     torch.randn(9, 3), torch.randn(9, 3, 2), torch.randn(9, 3, 2), torch.arange(9)
        ... )
        >>> source, driving = torch.randn(1, 9, 3), torch.randn(5, 9, 3)
        >>> driven = fit_landmarks(model, driving, shared_identity=True)
        >>> reenacted_landmarks(model, fit_landmarks(model, source), driven).shape
        torch.Size([5, 9, 3])
    """
    owner = "reenacted_landmarks"
    check_choice(owner, "scale", scale, get_args(ReenactmentScale))
    if len(source.identity) != 1:
        raise ValueError(f"{owner}: source has {len(source.identity)} faces; expected one")
    pose = driving.pose
    if scale == "source":
        pose = pose._replace(scale=source.pose.scale.expand_as(pose.scale))
    elif scale == "relative":
        pose = pose._replace(scale=source.pose.scale * pose.scale / pose.scale[:1])
    identity = source.identity.expand(len(driving.expression), -1)
    return model.landmarks(identity, driving.expression, pose)


def frontal_landmarks(
    model: MorphableModel, fit: FaceFit, rotation: Tensor | None = None
) -> Tensor:
    """The landmarks [N, L, 3] of faces that look ahead, with all but their rotation kept.

    Args:
        model: of the fit.
        fit: N faces.
        rotation: R₀, the one of a face that looks ahead, [3, 3]; the identity if ``None``.

    Raises:
        ValueError: for a rotation of another shape.

    References:
        Yan, "Deep generative models: design, improvements and applications", 2022, §4.3.6,
        frontalisation.

    Example:
        >>> import torch
        >>> from gencore.models import MorphableModel, fit_landmarks, frontal_landmarks
        >>> model = MorphableModel(
        ...     torch.randn(9, 3), torch.randn(9, 3, 2), torch.randn(9, 3, 2), torch.arange(9)
        ... )
        >>> frontal_landmarks(model, fit_landmarks(model, torch.randn(4, 9, 3))).shape
        torch.Size([4, 9, 3])
    """
    turned = fit.pose.rotation
    if rotation is None:
        rotation = torch.eye(3, dtype=turned.dtype, device=turned.device)
    if rotation.shape != turned.shape[1:]:
        raise ValueError(
            f"frontal_landmarks: rotation has shape {list(rotation.shape)}; expected [3, 3]"
        )
    pose = fit.pose._replace(rotation=rotation.expand_as(turned))
    return model.landmarks(fit.identity, fit.expression, pose)


def random_expression_landmarks(
    model: MorphableModel, fit: FaceFit, *, generator: torch.Generator | None = None
) -> Tensor:
    """The landmarks [N, L, 3] of faces with an expression that is drawn from N(0, 1).

    Args:
        model: of the fit.
        fit: N faces, which keep identity and pose.
        generator: for the draw.

    References:
        Yan, "Deep generative models: design, improvements and applications", 2022, §4.3.6, random
        expressions.

    Example:
        >>> import torch
        >>> from gencore.models import MorphableModel, fit_landmarks, random_expression_landmarks
        >>> model = MorphableModel(
        ...     torch.randn(9, 3), torch.randn(9, 3, 2), torch.randn(9, 3, 2), torch.arange(9)
        ... )
        >>> random_expression_landmarks(model, fit_landmarks(model, torch.randn(4, 9, 3))).shape
        torch.Size([4, 9, 3])
    """
    expression = torch.randn(
        fit.expression.shape,
        generator=generator,
        dtype=fit.expression.dtype,
        device=fit.expression.device,
    )
    return model.landmarks(fit.identity, expression, fit.pose)


def eye_shift(pose: Pose, offset: Tensor) -> Tensor:
    """What moves the landmarks of eyes so that they look elsewhere: s R offset, [N, 3].

    It depends on the scale and the rotation of a face only.

    Args:
        pose: of N faces.
        offset: where the eyes go in the frame of the mesh, [3] or [N, 3].

    Raises:
        ValueError: for an offset of another shape.

    References:
        Yan, "Deep generative models: design, improvements and applications", 2022, §4.3.6, Δ_eye.

    Example:
        >>> import torch
        >>> from gencore.models import Pose, eye_shift
        >>> pose = Pose.from_angles(torch.zeros(1, 3), torch.tensor([2.0]))
        >>> eye_shift(pose, torch.tensor([0.5, 0.0, 0.0]))
        tensor([[1., 0., 0.]])
    """
    count = len(pose.scale)
    if list(offset.shape) not in ([3], [count, 3]):
        raise ValueError(
            f"eye_shift: offset has shape {list(offset.shape)}; expected [3] or [{count}, 3]"
        )
    return pose.turned(offset.expand(count, 3)[:, None]).squeeze(1)
