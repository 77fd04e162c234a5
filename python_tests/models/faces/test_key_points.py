"""The motion that key points tell: exact where it has to be."""

import math

import pytest
import torch

from gencore.models import (
    DenseMotionNetwork,
    KeyPointDetector,
    KeyPoints,
    blended_flow,
    key_point_flows,
    key_point_heatmaps,
    relative_key_points,
)
from gencore.ops import warp

SIZES = [(7, 9), (4, 5, 6)]


def normals(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_points(n, k, d, seed=0, jacobians=True):
    positions = 3 + normals(n, k, d, seed=seed)
    around = torch.eye(d).double() + 0.2 * normals(n, k, d, d, seed=seed + 1)
    return KeyPoints(positions, around if jacobians else None)


def make_masks(n, k, size, seed=5):
    return normals(n, k + 1, *size, seed=seed).softmax(1)


def place(*coordinates):
    return torch.tensor(coordinates, dtype=torch.float64)


class TestFlows:
    @pytest.mark.parametrize("size", SIZES)
    def test_y30_they_are_the_equation(self, size):
        d = len(size)
        source, driving = make_points(2, 3, d), make_points(2, 3, d, seed=10)
        flows = key_point_flows(source, driving, size)
        for n, k in ((0, 0), (1, 2)):
            for index in (tuple(0 for _ in size), tuple(side - 1 for side in size)):
                q = place(*reversed(index))  # the last side is x
                of_driving = driving.jacobians[n, k] @ (q - driving.positions[n, k])
                there = torch.linalg.inv(source.jacobians[n, k]) @ of_driving
                there = there + source.positions[n, k]
                torch.testing.assert_close(flows[(n, k, slice(None), *index)], there - q)

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("jacobians", [True, False])
    def test_y30_equal_points_do_not_move_anything(self, size, jacobians):
        points = make_points(2, 3, len(size), jacobians=jacobians)
        assert (key_point_flows(points, points, size) == 0).all()
        assert (blended_flow(make_masks(2, 3, size), points, points) == 0).all()
        x = normals(2, 1, *size)
        assert torch.equal(warp(x, blended_flow(make_masks(2, 3, size), points, points)), x)

    def test_y30_there_and_back_is_the_identity(self):
        """T_ds ∘ T_sd = 1 at places that need not be pixels: two affine maps that are read off the
        flows at three pixels."""
        source, driving = make_points(1, 1, 2), make_points(1, 1, 2, seed=10)

        def affine(a, b):
            flow = key_point_flows(a, b, (2, 2))[0, 0]
            at_zero = flow[:, 0, 0]
            matrix = torch.eye(2).double() + torch.stack(
                [flow[:, 0, 1] - at_zero, flow[:, 1, 0] - at_zero], 1
            )
            return lambda q: matrix @ q + at_zero

        there, back = affine(source, driving), affine(driving, source)
        for q in (place(0.3, -2.0), place(5.5, 1.0)):
            torch.testing.assert_close(back(there(q)), q)

    def test_y30_a_point_comes_from_its_source(self):
        source, driving = KeyPoints(place(5, 2).view(1, 1, 2)), KeyPoints(place(3, 4).view(1, 1, 2))
        x = torch.zeros(1, 1, 7, 9).double()
        x[0, 0, 2, 5] = 1
        y = warp(x, key_point_flows(source, driving, (7, 9))[:, 0])
        assert y[0, 0, 4, 3] == 1
        assert y.sum() == 1

    def test_y30_a_linear_ramp_is_warped_exactly(self):
        source, driving = make_points(1, 1, 2), make_points(1, 1, 2, seed=10)
        rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
        ramp = (2.0 * columns - 3.0 * rows + 1).double()
        flow = key_point_flows(source, driving, (8, 8))[:, 0]
        there = torch.stack([columns, rows]).double() + flow[0]
        inside = ((there >= 0) & (there <= 7)).all(0)
        assert inside.sum() > 10
        y = warp(ramp[None, None], flow)[0, 0]
        torch.testing.assert_close(y[inside], (2 * there[0] - 3 * there[1] + 1)[inside])


class TestBlend:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("jacobians", [True, False])
    def test_y30_it_is_the_mean_of_the_flows(self, size, jacobians):
        d = len(size)
        source = make_points(2, 3, d, jacobians=jacobians)
        driving = make_points(2, 3, d, seed=10, jacobians=jacobians)
        masks = make_masks(2, 3, size)
        flows = key_point_flows(source, driving, size)
        expected = (masks[:, 1:].unsqueeze(2) * flows).sum(1)
        torch.testing.assert_close(blended_flow(masks, source, driving), expected)

    def test_y30_equal_motions_need_no_mask(self):
        source = make_points(2, 1, 2)
        driving = make_points(2, 1, 2, seed=10)
        many = [
            KeyPoints(p.positions.expand(2, 4, 2), p.jacobians.expand(2, 4, 2, 2))
            for p in (source, driving)
        ]
        masks = make_masks(2, 4, (5, 6))
        masks[:, 0] = 0
        masks = masks / masks.sum(1, keepdim=True)
        flow = blended_flow(masks, *many)
        torch.testing.assert_close(flow, key_point_flows(source, driving, (5, 6))[:, 0])

    @pytest.mark.parametrize("size", [(3, 4), (2, 3, 3)])
    def test_gradients(self, size):
        d = len(size)
        source, driving = make_points(1, 2, d), make_points(1, 2, d, seed=10)
        inputs = [normals(1, 3, *size), *source, *driving]
        for tensor in inputs:
            tensor.requires_grad_()

        def warped(logits, p, a, q, b):
            flow = blended_flow(logits.softmax(1), KeyPoints(p, a), KeyPoints(q, b))
            x = torch.linspace(0, 1, math.prod(size)).double().square().view(1, 1, *size)
            return warp(x, flow, padding="border")

        assert torch.autograd.gradcheck(warped, inputs)


class TestHeatmaps:
    @pytest.mark.parametrize("size", SIZES)
    def test_y30_they_are_the_equation(self, size):
        source, driving = make_points(2, 3, len(size)), make_points(2, 3, len(size), seed=10)
        maps = key_point_heatmaps(source, driving, size, variance=2.5)
        index = tuple(side // 2 for side in size)
        q = place(*reversed(index))
        for n, k in ((0, 0), (1, 2)):
            distances = [(p.positions[n, k] - q).square().sum() for p in (driving, source)]
            expected = math.exp(-distances[0] / 2.5) - math.exp(-distances[1] / 2.5)
            assert maps[(n, k, *index)].item() == pytest.approx(expected, rel=1e-9)


class TestRelative:
    def test_a_film_that_stands_still_moves_nothing(self):
        source, frame = make_points(1, 3, 2), make_points(1, 3, 2, seed=10)
        moved = relative_key_points(source, frame.expanded(4))
        torch.testing.assert_close(moved.positions, source.positions.expand(4, -1, -1))
        torch.testing.assert_close(moved.jacobians, source.jacobians.expand(4, -1, -1, -1))

    def test_a_film_of_the_source_is_followed(self):
        film = make_points(5, 3, 2)
        first = KeyPoints(film.positions[:1], film.jacobians[:1])
        for found, true in zip(relative_key_points(first, film), film, strict=True):
            torch.testing.assert_close(found, true)

    def test_the_motion_near_a_point_is_that_of_the_film(self):
        """What the source's map does between its pose and the new one is what the film's does
        between its first frame and a later one."""
        source, film = make_points(1, 1, 2), make_points(2, 1, 2, seed=10)
        moved = relative_key_points(source, film).jacobians[1, 0]
        expected = torch.linalg.inv(film.jacobians[0, 0]) @ film.jacobians[1, 0]
        torch.testing.assert_close(torch.linalg.inv(source.jacobians[0, 0]) @ moved, expected)


class TestDetector:
    def test_points_are_means_of_places_under_the_maps(self):
        detector = KeyPointDetector(1, channels=1, widths=(2,), temperature=0.01).double()
        with torch.no_grad():
            # Maps that are the image itself: the hourglass' skip is the last channel.
            detector.maps.weight.zero_()
            detector.maps.weight[0, -1, 3, 3] = 1
        x = torch.zeros(1, 1, 8, 10).double()
        x[0, 0, 5, 2] = 1
        points = detector(x)
        torch.testing.assert_close(points.positions[0, 0], place(2, 5), atol=1e-6, rtol=0)
        assert torch.equal(points.jacobians[0, 0], torch.eye(2).double())

    def test_without_jacobians(self):
        assert (
            KeyPointDetector(2, widths=(4,), has_jacobians=False)(torch.rand(1, 3, 4, 4)).jacobians
            is None
        )


class TestDenseMotion:
    @pytest.mark.parametrize("size", [(8, 12), (4, 8, 8)])
    def test_equal_points_and_any_network_leave_the_source(self, size):
        torch.manual_seed(0)
        depth = None if len(size) == 2 else size[0]
        network = DenseMotionNetwork(3, channels=2, widths=(4, 4), depth=depth).double()
        points = make_points(2, 3, len(size))
        motion = network(normals(2, 2, *size), points, points)
        assert (motion.flow == 0).all()
        torch.testing.assert_close(motion.masks.sum(1), torch.ones(2, *size).double())
        assert motion.visibility.shape == (2, 1, *size[-2:])

    def test_the_network_sees_the_warped_sources_and_the_heatmaps(self):
        torch.manual_seed(0)
        network, seen = DenseMotionNetwork(1, channels=1, widths=(4,)).double(), []
        network.hourglass.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        source, driving = make_points(1, 1, 2), make_points(1, 1, 2, seed=10)
        x = normals(1, 1, 4, 6)
        network(x, source, driving)
        flow = key_point_flows(source, driving, (4, 6))[:, 0]
        maps = key_point_heatmaps(source, driving, (4, 6), variance=network.variance)
        expected = torch.cat([x, torch.zeros_like(x), warp(x, flow), maps], 1)
        torch.testing.assert_close(seen[0], expected)


class TestBadInput:
    def test_points(self):
        two, three = make_points(1, 2, 2), make_points(1, 2, 3)
        with pytest.raises(ValueError, match="key_point_flows: key points have shapes"):
            key_point_flows(two, three, (4, 4))
        with pytest.raises(ValueError, match=r"size is \(4, 4\); expected 3 sides"):
            key_point_flows(three, three, (4, 4))
        with pytest.raises(ValueError, match="one set of key points has Jacobians"):
            key_point_flows(two, KeyPoints(two.positions), (4, 4))
        with pytest.raises(ValueError, match="jacobians have shape"):
            key_point_flows(two, KeyPoints(two.positions, torch.eye(2)), (4, 4))
        with pytest.raises(ValueError, match="blended_flow: masks have shape"):
            blended_flow(torch.ones(1, 2, 4, 4), two, two)
        with pytest.raises(ValueError, match="variance is 0"):
            key_point_heatmaps(two, two, (4, 4), variance=0)

    def test_networks(self):
        with pytest.raises(ValueError, match="KeyPointDetector: num_points"):
            KeyPointDetector(0)
        with pytest.raises(ValueError, match="temperature is -1"):
            KeyPointDetector(2, temperature=-1)
        with pytest.raises(ValueError, match="Hourglass: features have shape"):
            KeyPointDetector(2, widths=(4, 4))(torch.rand(1, 3, 6, 8))
        network = DenseMotionNetwork(3, widths=(4,)).double()
        with pytest.raises(ValueError, match="there are 2 key points; expected 3"):
            network(normals(1, 3, 4, 4), make_points(1, 2, 2), make_points(1, 2, 2))
