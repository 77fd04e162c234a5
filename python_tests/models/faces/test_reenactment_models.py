"""Models that key points drive: what they do without training, and what a little of it finds."""

import pytest
import torch
from torch import nn

from gencore.models import (
    Animation,
    DeltaMotion,
    DenseMotion,
    DenseMotionNetwork,
    FirstOrderMotion,
    ImageDecoder,
    KeyPointAnimator,
    KeyPointDetector,
    KeyPoints,
    blended_flow,
)
from gencore.nn import BottleneckRegressor, VolumeDecoder, VolumeEncoder
from gencore.ops import affine_warp, warp

SIDE = 16


class Shift(nn.Module):
    """An animator without weights: everything follows the only point."""

    def forward(self, source, source_points, driving):
        zero = torch.zeros_like(source[:, :1])
        masks = torch.cat([zero, torch.ones_like(zero)], 1)
        flow = blended_flow(masks, source_points, driving)
        return Animation(warp(source, flow), DenseMotion(flow, masks, zero))


class Centroid(nn.Module):
    """The place of all light, as key points."""

    def forward(self, x):
        axis = torch.arange(SIDE, dtype=x.dtype)
        total = x.sum((1, 2, 3))
        return torch.stack([x.sum((1, 2)) @ axis, x.sum((1, 3)) @ axis], 1) / total[:, None]


def blobs(centers):
    axis = torch.arange(SIDE, dtype=centers.dtype)
    x, y = (torch.exp(-((axis - centers[:, i, None]) ** 2) / 4) for i in range(2))
    return (y[:, :, None] * x[:, None])[:, None]


def centers(num, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 5 + 6 * torch.rand(num, 2, generator=generator, dtype=torch.float64)


def small_delta_model():
    torch.manual_seed(0)
    small = {"depth": 4, "width": 8, "num_blocks": 1}
    animator = KeyPointAnimator(
        DenseMotionNetwork(5, channels=4, widths=(8,), depth=4),
        VolumeDecoder(3, in_channels=4, **small),
        VolumeEncoder(3, out_channels=4, **small),
    )
    return DeltaMotion(BottleneckRegressor(15, width=16, num_blocks=(1,)), animator)


def images(n, seed=0):
    return torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


class TestFirstOrder:
    def make(self):
        torch.manual_seed(0)
        return FirstOrderMotion(
            KeyPointDetector(3, widths=(8, 8)),
            KeyPointAnimator(DenseMotionNetwork(3, widths=(8,)), ImageDecoder(widths=(8,))),
        )

    def test_y30_a_blob_that_moves_is_followed(self):
        """With points that are where the light is, the warped source is the driving frame."""
        model = FirstOrderMotion(lambda x: KeyPoints(Centroid()(x)[:, None]), Shift())
        where = torch.tensor([[6.0, 7.0], [8.0, 5.0]]).double()
        source, driving = blobs(where).split(1)
        torch.testing.assert_close(model(source, driving).image, driving, atol=2e-4, rtol=0)

    def test_the_detector_and_the_animator_are_used_as_the_equation_says(self):
        model = self.make().eval()
        source, driving = images(2), images(2, seed=1)
        expected = model.animator(source, model.detector(source), model.detector(driving))
        assert torch.equal(model(source, driving).image, expected.image)

    def test_a_film_is_animated_frame_by_frame(self):
        model = self.make().eval()
        source, film = images(1), images(4, seed=1)
        absolute = model.train().animate(source, film, relative=False)
        assert model.training  # as it was before
        model.eval()
        torch.testing.assert_close(absolute[2:3], model(source, film[2:3]).image)
        # The first frame of a relative film is the source in its own pose.
        torch.testing.assert_close(model.animate(source, film)[:1], model(source, source).image)

    def test_equivariance_of_a_detector_that_moves_with_the_image(self):
        """The place of all light moves with the image; one that does not move pays the distance."""
        where = torch.tensor([[6.0, 7.0], [8.0, 9.0]]).double()
        x = blobs(where)
        matrix = torch.tensor([[[0.0, -1.0, 0.5], [1.0, 0.0, -1.0]]]).double().expand(2, 2, 3)
        model = FirstOrderMotion(lambda x: KeyPoints(Centroid()(x)[:, None]), Shift())
        loss = model.equivariance_loss(x, matrix)
        assert loss.position.max() < 2e-3  # the blob's tail is cut off at the border
        assert (loss.jacobian == 0).all()
        still = FirstOrderMotion(lambda x: KeyPoints(where[:, None]), Shift())
        moved = Centroid()(affine_warp(x, matrix))
        center = (SIDE - 1) / 2
        back = torch.stack([-(where[:, 1] - center) + 0.5, where[:, 0] - center - 1], 1) + center
        expected = (where - back).abs().mean(1)
        torch.testing.assert_close(still.equivariance_loss(x, matrix).position, expected)
        assert (moved - where).abs().max() > 1

    def test_equivariance_of_jacobians(self):
        """A_Y = A_X U' has no loss, whatever A_X is."""
        matrix = torch.tensor([[[0.9, -0.3, 0.0], [0.4, 1.1, 0.0]]]).double()
        around = torch.tensor([[[[1.0, 0.5], [0.2, 2.0]]]]).double()
        answers = iter([around, around @ matrix[:, None, :, :2], around, around])
        center = torch.full((1, 1, 2), (SIDE - 1) / 2).double()
        model = FirstOrderMotion(lambda x: KeyPoints(center, next(answers)), Shift())
        x = torch.zeros(1, 1, SIDE, SIDE).double()
        good = model.equivariance_loss(x, matrix)
        torch.testing.assert_close(good.jacobian, torch.zeros(1).double())
        torch.testing.assert_close(good.position, torch.zeros(1).double())
        bad = model.equivariance_loss(x, matrix).jacobian
        product = around[0, 0] @ matrix[0, :, :2] @ torch.linalg.inv(around[0, 0])
        torch.testing.assert_close(bad[0], (product - torch.eye(2).double()).abs().mean())

    def test_the_objective_is_its_equation_and_reaches_all_parts(self):
        model, (source, driving) = self.make(), (images(2), images(2, seed=1))
        matrix = torch.eye(2, 3).expand(2, 2, 3) + 0.1
        loss = model.loss(source, driving, matrix, equivariance_weight=0.3)
        reconstruction = (model(source, driving).image - driving).abs().mean((1, 2, 3))
        equivariance = model.equivariance_loss(driving, matrix)
        expected = reconstruction + 0.3 * (equivariance.position + equivariance.jacobian)
        torch.testing.assert_close(loss.loss, expected)
        assert loss.position.min() > 0
        loss.loss.sum().backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []
        seen = []
        model.detector.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        model.loss(source, driving, matrix)
        assert len(seen) == 3  # the source, the driving frames, and these moved: each once
        without = model.loss(source, driving, matrix, equivariance_weight=0)
        torch.testing.assert_close(without.loss, reconstruction)

    def test_bad_input(self):
        model = self.make()
        with pytest.raises(ValueError, match="FirstOrderMotion: source has shape"):
            model(images(1), images(2))
        with pytest.raises(ValueError, match="animate: source has shape"):
            model.animate(images(2), images(2))


class TestDelta:
    def test_y31_without_corrections_it_is_the_supervised_model(self):
        model = small_delta_model().eval()
        landmarks = SIDE * torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(1))
        found = model(images(2), landmarks, images(2, seed=1), landmarks.flip(0))
        supervised = model.animate(images(2), landmarks, landmarks.flip(0))
        assert (found.source_delta == 0).all()
        assert torch.equal(found.animation.image, supervised.image)

    def test_corrections_move_the_points_of_both_images(self):
        model = small_delta_model().eval()
        nn.init.normal_(model.delta_network.last.weight)
        source, driving = images(2), images(2, seed=1)
        q = SIDE * torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(1))
        found = model(source, q, driving, q.flip(0))
        torch.testing.assert_close(
            found.source_delta, model.delta_network(source).unflatten(1, (5, 3))
        )
        points = q + found.source_delta, q.flip(0) + found.driving_delta
        expected = model.animate(source, *points)
        torch.testing.assert_close(found.animation.image, expected.image)

    def test_the_objective_is_equation_4_9(self):
        model = small_delta_model().eval()
        nn.init.normal_(model.delta_network.last.weight)
        q = SIDE * torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(1))
        source, driving = images(2), images(2, seed=1)
        loss = model.loss(source, q, driving, q, delta_weight=0.7)
        found = model(source, q, driving, q)
        for n in range(2):
            reconstruction = (driving[n] - found.animation.image[n]).abs().mean()
            delta = found.source_delta[n].abs().sum() + found.driving_delta[n].abs().sum()
            torch.testing.assert_close(loss.loss[n], reconstruction + 0.7 * delta)
        model.distance = lambda a, b: (a - b).square().sum((1, 2, 3))
        squared = (driving - found.animation.image).square().sum((1, 2, 3))
        perceptual = model.loss(source, q, driving, q, delta_weight=0.0)
        torch.testing.assert_close(perceptual.loss, squared)

    def train(self, delta_weight, steps=150):
        """Landmarks that a detector puts 30 % too far from the middle, and a linear network of the
        light's place, which can put them back by −0.3 times the distance of the light."""
        torch.manual_seed(0)
        middle = (SIDE - 1) / 2
        network = nn.Sequential(Centroid(), nn.Linear(2, 2)).double()
        nn.init.zeros_(network[1].weight)
        nn.init.zeros_(network[1].bias)
        model = DeltaMotion(network, Shift())
        optimizer = torch.optim.Adam(model.parameters(), 0.05)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 1e-4)
        for step in range(steps):
            source, driving = centers(16, seed=2 * step), centers(16, seed=2 * step + 1)
            q_s, q_d = ((middle + 1.3 * (c - middle))[:, None] for c in (source, driving))
            loss = model.loss(blobs(source), q_s, blobs(driving), q_d, delta_weight=delta_weight)
            optimizer.zero_grad()
            loss.loss.mean().backward()
            optimizer.step()
            schedule.step()
        return network[1].weight.detach(), loss.delta.mean().item()

    def test_y31_a_planted_bias_is_found_and_a_penalty_shrinks_the_corrections(self):
        free, size = self.train(0.0)
        torch.testing.assert_close(free, -0.3 * torch.eye(2).double(), atol=0.02, rtol=0)
        _, smaller = self.train(0.005)
        _, none = self.train(1.0)
        assert none < 0.1 < smaller < 0.9 * size

    def test_bad_input(self):
        model = small_delta_model()
        with pytest.raises(ValueError, match="delta_network makes"):
            model.delta(images(2), torch.zeros(2, 4, 3))
        with pytest.raises(ValueError, match="delta_weight"):
            model.loss(images(1), torch.zeros(1, 5, 3), images(1), torch.zeros(1, 5, 3),
                       delta_weight=-1.0)  # fmt: skip


class TestAnimator:
    def test_coarser_features_have_their_own_pixels(self):
        """A whole shift of the image by r pixels is one of the features by one."""
        seen = []

        class Motion(nn.Module):
            def forward(self, features, source, driving):
                seen.append((source, driving))
                zero = torch.zeros_like(features[:, :1])
                masks = torch.cat([zero, torch.ones_like(zero)], 1)
                return DenseMotion(blended_flow(masks, source, driving), masks, zero + 1)

        class Decoder(nn.Module):
            def forward(self, features, visibility):
                return features * visibility

        animator = KeyPointAnimator(Motion(), Decoder(), nn.AvgPool2d(4))
        x = images(1).double()
        points = KeyPoints(torch.tensor([[[5.5, 1.5]]]).double())
        found = animator(x, points, points.shifted(torch.tensor([[[-4.0, 8.0]]]).double()))
        coarse = nn.functional.avg_pool2d(x, 4)
        assert torch.equal(found.image[:, :, 2:, :3], coarse[:, :, :2, 1:])
        # The middle of the second coarse pixel, and of the first row.
        torch.testing.assert_close(seen[0][0].positions[0, 0], torch.tensor([1.0, 0.0]).double())

    def test_what_is_invisible_is_not_seen(self):
        torch.manual_seed(0)
        decoder = ImageDecoder(widths=(4,)).eval()
        x, hidden = images(1), torch.zeros(1, 1, SIDE, SIDE)
        assert torch.equal(decoder(x, hidden), decoder(1 - x, hidden))
        volumes = VolumeDecoder(3, in_channels=2, depth=3, width=4, num_blocks=1).eval()
        v = torch.rand(1, 2, 3, 4, 4)
        assert torch.equal(volumes(v, hidden[..., :4, :4]), volumes(1 - v, hidden[..., :4, :4]))


class TestNetworks:
    def test_a_new_regressor_says_zero_and_can_learn(self):
        network = BottleneckRegressor(6, width=16, num_blocks=(2, 1))
        y = network(images(2))
        assert (y == 0).all()
        y.sum().backward()
        assert network.last.weight.grad.abs().sum() > 0

    def test_the_blocks_are_those_of_the_table(self):
        """Table 4.10: four groups of 256, 512, 1024 and 2048 channels, each half as fine."""
        with torch.device("meta"):
            network = BottleneckRegressor(60)
            y = network.features(torch.zeros(1, 3, 256, 256))
        assert y.shape == (1, 2048, 8, 8)

    def test_the_volumes_are_those_of_the_table(self):
        with torch.device("meta"):
            volume = VolumeEncoder()(torch.zeros(1, 3, 256, 256))
            assert volume.shape == (1, 32, 16, 64, 64)
            image = VolumeDecoder()(volume, torch.ones(1, 1, 64, 64))
        assert image.shape == (1, 3, 256, 256)

    def test_bad_input(self):
        with pytest.raises(ValueError, match="VolumeEncoder: images have shape"):
            VolumeEncoder()(torch.zeros(1, 3, 6, 8))
        with pytest.raises(ValueError, match="num_blocks is -1"):
            VolumeDecoder(num_blocks=-1)
        with pytest.raises(ValueError, match="BottleneckRegressor: num_blocks"):
            BottleneckRegressor(3, num_blocks=())
