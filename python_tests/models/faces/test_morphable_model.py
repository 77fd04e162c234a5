"""Faces of linear bases, poses in closed form, and the fit of landmarks."""

import math

import pytest
import torch
from testing.morphable_faces import NUM_LANDMARKS, make_model, make_pose, normals

from gencore.models import MorphableModel, Pose, best_pose, fit_landmarks


class TestPose:
    def test_rotations_are_orthogonal_and_proper(self):
        rotation = make_pose(50).rotation
        identity = torch.eye(3).double().expand(50, 3, 3)
        torch.testing.assert_close(rotation.mT @ rotation, identity)
        torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(50).double())

    @pytest.mark.parametrize("axis", range(3))
    def test_an_angle_turns_about_its_axis(self, axis):
        angles = torch.zeros(1, 3).double()
        angles[0, axis] = math.pi / 2
        basis = torch.eye(3).double()[None]
        after, then = basis[0, (axis + 1) % 3], basis[0, (axis + 2) % 3]
        turned = Pose.from_angles(angles)(basis)[0]
        torch.testing.assert_close(turned[axis], basis[0, axis])  # its own axis stays
        torch.testing.assert_close(turned[(axis + 1) % 3], then)
        torch.testing.assert_close(turned[(axis + 2) % 3], -after)

    def test_x_turns_first_and_z_last(self):
        a, b, c = 0.3, -0.7, 1.1
        whole = Pose.from_angles(torch.tensor([[a, b, c]]).double()).rotation
        parts = [torch.tensor([row]).double() for row in ([0, 0, c], [0, b, 0], [a, 0, 0])]
        product = torch.linalg.multi_dot([Pose.from_angles(part).rotation[0] for part in parts])
        torch.testing.assert_close(whole[0], product)

    def test_it_is_an_equation_of_columns(self):
        """s R x + b of one point, as the source has it."""
        pose, x = make_pose(1), normals(3, seed=9)
        expected = pose.scale[0] * (pose.rotation[0] @ x) + pose.translation[0]
        torch.testing.assert_close(pose(x.view(1, 1, 3))[0, 0], expected)

    def test_y32_the_best_one_is_found_exactly(self):
        points, pose = normals(8, 10, 3), make_pose(8)
        for found, true in zip(best_pose(points, pose(points)), pose, strict=True):
            torch.testing.assert_close(found, true)

    def test_y32_no_other_pose_is_nearer(self):
        points, targets = normals(1, 10, 3), normals(1, 10, 3, seed=7)
        leaves = [t.clone().requires_grad_() for t in best_pose(points, targets)]
        distance = (Pose(*leaves)(points) - targets).square().sum()
        scale, rotation, translation = torch.autograd.grad(distance, leaves)
        # Stationary in s and b, and in R along rotations: the gradient's part that is R times a
        # skew matrix is zero.
        skew = leaves[1].detach().mT @ rotation
        for slope in (scale, translation, skew - skew.mT):
            torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-10, rtol=0)

    def test_a_mirror_image_is_not_mirrored_back(self):
        """It is turned, and of 2,000 rotations with their best scales none is nearer."""
        points = normals(1, 10, 3)
        points = points - points.mean(1, keepdim=True)
        mirrored = points * torch.tensor([1.0, 1.0, -1.0]).double()
        found = best_pose(points, mirrored)
        torch.testing.assert_close(torch.linalg.det(found.rotation), torch.ones(1).double())
        turned = Pose.from_angles(3.2 * (2 * torch.rand(2000, 3).double() - 1))(points)
        scale = ((turned * mirrored).sum((1, 2)) / points.square().sum()).clamp(min=0)
        distance = (scale[:, None, None] * turned - mirrored).square().sum((1, 2))
        assert (found(points) - mirrored).square().sum() <= distance.min()

    def test_bad_input(self):
        with pytest.raises(ValueError, match=r"Pose\.from_angles: angles"):
            Pose.from_angles(torch.zeros(3))
        with pytest.raises(ValueError, match="best_pose: points are"):
            best_pose(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))
        with pytest.raises(ValueError, match="both alike"):
            best_pose(torch.zeros(1, 4, 3), torch.zeros(1, 5, 3))


class TestMorphableModel:
    def test_y32_a_mesh_is_its_equation(self):
        model, pose = make_model(), make_pose(1)
        identity, expression = normals(1, 4, seed=5), normals(1, 3, seed=6)
        mesh = model.mesh(identity, expression, pose)[0]
        for vertex in (0, 17, 59):
            point = model.mean[vertex].clone()
            for a in range(4):
                point += model.identity_basis[vertex, :, a] * identity[0, a]
            for b in range(3):
                point += model.expression_basis[vertex, :, b] * expression[0, b]
            point = pose.scale[0] * (pose.rotation[0] @ point) + pose.translation[0]
            torch.testing.assert_close(mesh[vertex], point)

    def test_y32_landmarks_are_rows_of_the_mesh(self):
        model, pose, coefficients = make_model(), make_pose(5), (normals(5, 4), normals(5, 3))
        mesh = model.mesh(*coefficients, pose)
        assert torch.equal(model.landmarks(*coefficients, pose), mesh[:, model.landmark_indices])

    def test_gradients(self):
        model = make_model()
        pose = [t.clone().requires_grad_() for t in make_pose(2)]
        inputs = [normals(2, 4).requires_grad_(), normals(2, 3).requires_grad_(), *pose]
        assert torch.autograd.gradcheck(lambda i, e, *p: model.landmarks(i, e, Pose(*p)), inputs)

    def test_scans_of_a_linear_law_are_in_its_span(self):
        neutral = normals(12, 2) @ normals(2, 90, seed=1) + normals(90, seed=2)
        offsets = normals(9, 1, seed=3) @ normals(1, 90, seed=4)
        neutral, offsets = neutral.unflatten(1, (30, 3)), offsets.unflatten(1, (30, 3))
        model = MorphableModel.from_scans(
            neutral, offsets, torch.arange(5), num_identity=2, num_expression=1
        )
        # Every scan is a mesh, and its coefficients have the variance 1 over the scans.
        basis = model.identity_basis.flatten(0, 1)
        centered = (neutral - neutral.mean(0)).flatten(1).T
        coefficients = torch.linalg.lstsq(basis, centered).solution
        torch.testing.assert_close(basis @ coefficients, centered)
        torch.testing.assert_close(coefficients.var(1), torch.ones(2).double())
        mean = (neutral.mean(0) + offsets.mean(0)).flatten()
        torch.testing.assert_close(model.mean.flatten(), mean)

    def test_bad_input(self):
        model = make_model()
        mean, basis = torch.zeros(5, 3), torch.zeros(5, 3, 2)
        with pytest.raises(ValueError, match=r"mean is .* expected floating point \[V, 3\]"):
            MorphableModel(torch.zeros(5), basis, basis, torch.arange(2))
        with pytest.raises(ValueError, match="expression_basis is"):
            MorphableModel(mean, basis, torch.zeros(4, 3, 2), torch.arange(2))
        with pytest.raises(ValueError, match="landmark_indices has 5; expected 0 to 4"):
            MorphableModel(mean, basis, basis, torch.tensor([0, 5]))
        with pytest.raises(ValueError, match=r"landmarks: expression has shape \[1, 4\]"):
            model.landmarks(normals(1, 4), normals(1, 4))
        with pytest.raises(ValueError, match="more than 3 scans"):
            MorphableModel.from_scans(
                normals(3, 9, 3), normals(9, 9, 3), torch.arange(2), num_identity=3,
                num_expression=1,
            )  # fmt: skip


class TestFit:
    def test_y32_landmarks_without_noise_are_met(self):
        model, pose = make_model(), make_pose(6)
        identity, expression = normals(6, 4, seed=5), normals(6, 3, seed=6)
        landmarks = model.landmarks(identity, expression, pose)
        fit = fit_landmarks(model, landmarks)
        assert fit.error.max() < 1e-20
        torch.testing.assert_close(fit.identity, identity)
        torch.testing.assert_close(fit.expression, expression)
        for found, true in zip(fit.pose, pose, strict=True):
            torch.testing.assert_close(found, true)
        found = model.landmarks(fit.identity, fit.expression, fit.pose)
        torch.testing.assert_close(found, landmarks)

    def test_y32_at_the_pose_found_the_coefficients_solve_the_normal_equations(self):
        model, precision = make_model(), 0.5
        landmarks = model.landmarks(normals(3, 4), normals(3, 3), make_pose(3))
        landmarks = landmarks + 0.1 * normals(3, NUM_LANDMARKS, 3, seed=8)
        fit = fit_landmarks(model, landmarks, prior_precision=precision, num_steps=200)
        chosen = model.landmark_indices
        bases = torch.cat([model.identity_basis, model.expression_basis], 2)[chosen].flatten(0, 1)
        for n in range(3):
            s, r, b = (part[n] for part in fit.pose)
            # In the frame of the mesh: s² (‖B P + x̄ − y‖² + λ‖P‖²).
            y = ((landmarks[n] - b) @ r / s - model.mean[chosen]).flatten()
            gram = bases.T @ bases + precision * torch.eye(7).double()
            expected = torch.linalg.solve(gram, bases.T @ y)
            found = torch.cat([fit.identity[n], fit.expression[n]])
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)

    def test_y32_a_pose_alone_is_that_of_umeyama(self):
        """Coefficients that cost much are zero, and what is left is the pose of the mean face."""
        model, landmarks = make_model(), normals(2, NUM_LANDMARKS, 3)
        fit = fit_landmarks(model, landmarks, prior_precision=1e12)
        mean = model.mean[model.landmark_indices].expand(2, -1, -1)
        for found, closed in zip(fit.pose, best_pose(mean, landmarks), strict=True):
            torch.testing.assert_close(found, closed, rtol=1e-6, atol=1e-8)

    def test_y32_it_goes_with_the_landmarks(self):
        """Landmarks that are scaled, turned and moved have the same face in another pose."""
        model, landmarks, moved = make_model(), normals(1, NUM_LANDMARKS, 3), make_pose(1)
        options = {"prior_precision": 0.3, "num_steps": 200}
        fit, other = (
            fit_landmarks(model, points, **options) for points in (landmarks, moved(landmarks))
        )
        torch.testing.assert_close(other.expression, fit.expression, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(
            other.pose.scale, moved.scale * fit.pose.scale, rtol=1e-5, atol=0
        )
        turned = moved.rotation @ fit.pose.rotation
        torch.testing.assert_close(other.pose.rotation, turned, rtol=1e-4, atol=1e-6)

    def test_a_shared_identity_is_one_and_needs_fewer_landmarks(self):
        """12 landmarks of a frame are 36 numbers for 30 coefficients and a pose of 7: one frame
        does not determine the face, and ten frames of one person do."""
        model = make_model(num_identity=27, num_expression=3)
        model.landmark_indices = model.landmark_indices[:12]
        identity = normals(1, 27, seed=5).expand(10, -1)
        landmarks = model.landmarks(identity, normals(10, 3, seed=6), make_pose(10))
        together = fit_landmarks(model, landmarks, shared_identity=True, num_steps=200)
        assert together.error.max() < 1e-12
        assert (together.identity == together.identity[:1]).all()
        torch.testing.assert_close(together.identity, identity, rtol=1e-3, atol=1e-3)
        alone = fit_landmarks(model, landmarks[:1], num_steps=200)
        assert alone.error.max() < 1e-12
        assert (alone.identity - identity[:1]).norm() > 0.1

    def test_overlapping_bases_are_fitted_and_not_told_apart(self):
        model = make_model(3, 3)
        model.expression_basis = model.identity_basis
        landmarks = model.landmarks(normals(2, 3), normals(2, 3, seed=1), make_pose(2))
        assert fit_landmarks(model, landmarks).error.max() < 1e-12

    def test_single_precision(self):
        model = make_model().float()
        landmarks = model.landmarks(normals(2, 4).float(), normals(2, 3).float())
        assert fit_landmarks(model, landmarks).error.max() < 1e-8

    def test_bad_input(self):
        model = make_model()
        with pytest.raises(ValueError, match=r"landmarks are .* expected finite"):
            fit_landmarks(model, normals(2, 5, 3))
        with pytest.raises(ValueError, match=r"landmarks are .*float32"):
            fit_landmarks(model, normals(2, NUM_LANDMARKS, 3).float())
        with pytest.raises(ValueError, match="expected finite"):
            fit_landmarks(model, torch.full((1, NUM_LANDMARKS, 3), torch.nan).double())
        with pytest.raises(ValueError, match="prior_precision"):
            fit_landmarks(model, normals(1, NUM_LANDMARKS, 3), prior_precision=-1.0)
        with pytest.raises(ValueError, match="num_steps"):
            fit_landmarks(model, normals(1, NUM_LANDMARKS, 3), num_steps=0)
