"""Faces that somebody else sets in motion: what is kept and what changes."""

import pytest
import torch
from testing.morphable_faces import make_model, make_pose, normals

from gencore.models import (
    FaceFit,
    MorphableModel,
    Pose,
    eye_shift,
    frontal_landmarks,
    random_expression_landmarks,
    reenacted_landmarks,
)

MODEL = make_model()


def make_fit(count, seed=0, identity=None):
    identity = normals(1, 4, seed=seed).expand(count, -1) if identity is None else identity
    return FaceFit(
        identity, normals(count, 3, seed=seed + 1), make_pose(count, seed + 2), torch.zeros(count)
    )


def landmarks_of(fit):
    return MODEL.landmarks(fit.identity, fit.expression, fit.pose)


@pytest.mark.parametrize("scale", ["driving", "source", "relative"])
def test_y33_a_face_that_drives_itself_does_not_change(scale):
    fit = make_fit(1)
    found = reenacted_landmarks(MODEL, fit, fit, scale=scale)
    torch.testing.assert_close(found, landmarks_of(fit))


def test_y33_who_drives_makes_no_difference():
    source, driving = make_fit(1), make_fit(5, seed=10)
    other = driving._replace(identity=normals(1, 4, seed=30).expand(5, -1))
    first, second = (reenacted_landmarks(MODEL, source, drive) for drive in (driving, other))
    assert torch.equal(first, second)


def test_y33_expression_and_pose_are_the_driving_persons():
    source, driving = make_fit(1), make_fit(5, seed=10)
    found = reenacted_landmarks(MODEL, source, driving)
    # The driver's own landmarks with the source's identity in their place.
    swapped = driving._replace(identity=source.identity.expand(5, -1))
    torch.testing.assert_close(found, landmarks_of(swapped))


def test_y33_scales():
    source, driving = make_fit(1), make_fit(3, seed=10)

    def sizes(scale):
        points = reenacted_landmarks(MODEL, source, driving, scale=scale)
        shape = MODEL.landmarks(source.identity.expand(3, -1), driving.expression)
        spread = [(p - p.mean(1, keepdim=True)).norm(dim=(1, 2)) for p in (points, shape)]
        return spread[0] / spread[1]

    s, t = source.pose.scale, driving.pose.scale
    torch.testing.assert_close(sizes("driving"), t)
    torch.testing.assert_close(sizes("source"), s.expand(3))
    torch.testing.assert_close(sizes("relative"), s * t / t[0])


def test_y33_a_frontal_face_is_symmetric_if_the_mean_is():
    """Of vertices in pairs that mirror each other, the landmarks do too, without a rotation."""
    half = normals(10, 3)
    mirror = torch.tensor([-1.0, 1.0, 1.0]).double()
    model = MorphableModel(
        torch.cat([half, half * mirror]),
        torch.zeros(20, 3, 4).double(),
        torch.zeros(20, 3, 3).double(),
        torch.arange(20),
    )
    fit = make_fit(2)
    points = frontal_landmarks(model, fit) - fit.pose.translation[:, None]
    torch.testing.assert_close(points[:, :10], points[:, 10:] * mirror)
    turned = model.landmarks(fit.identity, fit.expression, fit.pose)
    turned = turned - fit.pose.translation[:, None]
    assert (turned[:, :10] - turned[:, 10:] * mirror).abs().max() > 0.1


def test_y33_a_frontal_face_keeps_all_but_its_rotation():
    fit, rotation = make_fit(3), Pose.from_angles(torch.tensor([[0.1, 0.2, 0.3]]).double()).rotation
    found = frontal_landmarks(MODEL, fit, rotation[0])
    expected = fit.pose._replace(rotation=rotation.expand(3, -1, -1))
    torch.testing.assert_close(found, landmarks_of(fit._replace(pose=expected)))
    # One that looks ahead already stays.
    ahead = fit._replace(pose=expected)
    torch.testing.assert_close(frontal_landmarks(MODEL, ahead, rotation[0]), landmarks_of(ahead))


def test_y33_random_expressions_are_normal_around_the_face_without_one():
    count = 4000
    fit = make_fit(1)
    many = FaceFit(
        fit.identity.expand(count, -1),
        fit.expression.expand(count, -1),
        Pose(*(part.expand(count, *part.shape[1:]) for part in fit.pose)),
        fit.error.expand(count),
    )
    points = random_expression_landmarks(
        MODEL, many, generator=torch.Generator().manual_seed(0)
    ).flatten(1)
    neutral = landmarks_of(fit._replace(expression=torch.zeros(1, 3).double())).flatten()
    basis = MODEL.expression_basis[MODEL.landmark_indices]
    basis = fit.pose.scale[0] * torch.einsum("ij,ljb->lib", fit.pose.rotation[0], basis)
    deviations = basis.flatten(0, 1).norm(dim=1)
    # 60 means and 60 variances, each within 4.5 of its standard errors.
    z = (points.mean(0) - neutral) / (deviations / count**0.5)
    assert z.abs().max() < 4.5
    z = (points.var(0) / deviations**2 - 1) / (2 / count) ** 0.5
    assert z.abs().max() < 4.5


def test_y33_eyes_move_by_scale_and_rotation_only():
    first, second = make_fit(4), make_fit(4, seed=20)
    offset = torch.tensor([0.2, -0.1, 0.0]).double()
    moved = first.pose._replace(translation=second.pose.translation)
    assert torch.equal(eye_shift(first.pose, offset), eye_shift(moved, offset))
    shift = eye_shift(first.pose, offset)
    torch.testing.assert_close(shift.norm(dim=1), first.pose.scale * offset.norm())
    # An eye of the mesh that is moved by the offset is where the shift takes its landmark.
    eye = normals(4, 1, 3)
    torch.testing.assert_close(first.pose(eye + offset), first.pose(eye) + shift[:, None])


def test_bad_input():
    fits = make_fit(2)
    with pytest.raises(ValueError, match="source has 2 faces; expected one"):
        reenacted_landmarks(MODEL, fits, fits)
    with pytest.raises(ValueError, match="reenacted_landmarks: scale"):
        reenacted_landmarks(MODEL, make_fit(1), fits, scale="both")
    with pytest.raises(ValueError, match=r"rotation has shape \[2, 2\]"):
        frontal_landmarks(MODEL, fits, torch.eye(2))
    with pytest.raises(ValueError, match="eye_shift: offset"):
        eye_shift(fits.pose, torch.zeros(2))
