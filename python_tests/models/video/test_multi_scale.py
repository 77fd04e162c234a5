"""The multi-scale predictor of frames and its discriminator: shapes, exact cases, gradients."""

import pytest
import torch
from torch import nn

from gencore.models import MultiScaleDiscriminator, MultiScaleGenerator, image_pyramid
from gencore.objectives import multi_scale_generator_loss

SIDES = (4, 8, 16, 32)


def zero_weights(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    return module


class TestPyramid:
    def test_a_pixel_is_the_mean_of_what_it_covers(self):
        images = torch.arange(64.0).view(1, 1, 8, 8)
        coarse, middle, fine = image_pyramid(images, 3)
        assert torch.equal(fine, images)
        assert torch.equal(middle[0, 0, 1, 2], images[0, 0, 2:4, 4:6].mean())
        assert torch.equal(coarse[0, 0, 1, 0], images[0, 0, 4:8, 0:4].mean())

    def test_constants_stay(self):
        for image in image_pyramid(torch.full((2, 3, 16, 24), 0.3), 4):
            assert torch.equal(image, torch.full_like(image, 0.3))

    @pytest.mark.parametrize(
        ("shape", "scales", "message"),
        [
            ((1, 1, 12, 8), 4, "the images are 12 x 8; expected multiples of 8 for 4 scales"),
            ((1, 1, 8, 8), 0, "num_scales is 0; expected at least 1"),
        ],
    )
    def test_bad_input(self, shape, scales, message):
        with pytest.raises(ValueError, match=message):
            image_pyramid(torch.zeros(shape), scales)


class TestUpsampling:
    @pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
    def test_the_backward_pass_is_the_adjoint(self, upsampling):
        """⟨U x, y⟩ = ⟨x, Uᵀ y⟩ with the matrix U, whose columns are the images of unit pixels."""
        model = MultiScaleGenerator(width=0.01, upsampling=upsampling)
        matrix = model.upsample(torch.eye(12, dtype=torch.float64).view(12, 1, 3, 4)).flatten(1).T
        x = torch.randn(1, 1, 3, 4, dtype=torch.float64, requires_grad=True)
        y = torch.randn(1, 1, 6, 8, dtype=torch.float64)
        up = model.upsample(x)
        torch.testing.assert_close(up.flatten(), matrix @ x.flatten())
        (gradient,) = torch.autograd.grad((up * y).sum(), x)
        torch.testing.assert_close(gradient.flatten(), matrix.T @ y.flatten())

    @pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
    def test_constants_are_exact(self, upsampling):
        model = MultiScaleGenerator(width=0.01, upsampling=upsampling)
        constant = torch.full((1, 3, 5, 4), 0.7)
        torch.testing.assert_close(
            model.upsample(constant), torch.full((1, 3, 10, 8), 0.7), rtol=1e-6, atol=0
        )

    def test_bilinear_keeps_a_ramp_inside(self):
        """Pixel centres: the ramp's slope halves, and the border alone is flat."""
        ramp = torch.arange(4.0).expand(1, 1, 4, 4)
        up = MultiScaleGenerator(width=0.01).upsample(ramp)
        assert torch.equal(up[0, 0, 0, 1:-1], 0.25 + 0.5 * torch.arange(6.0))


class TestGenerator:
    def test_zero_weights_predict_zero_at_every_scale(self):
        model = zero_weights(MultiScaleGenerator(width=0.05))
        predictions = model(torch.rand(2, 4, 3, 32, 32))
        assert [tuple(image.shape) for image in predictions] == [(2, 3, s, s) for s in SIDES]
        assert all(torch.equal(image, torch.zeros_like(image)) for image in predictions)

    def test_without_residuals_the_guess_goes_up_through_the_scales(self):
        """Only the coarsest network has a bias: ŷ_k = tanh(u ŷ_{k−1}) of constants."""
        model = zero_weights(MultiScaleGenerator(width=0.05))
        with torch.no_grad():
            model.networks[0].convolutions[-1].bias.fill_(0.5)
        value = torch.tensor(0.5)
        for prediction in model(torch.rand(1, 4, 3, 32, 32)):
            value = value.tanh()
            torch.testing.assert_close(prediction, value.expand_as(prediction))

    def test_inputs_are_twelve_channels_and_then_fifteen(self):
        """And the layers are those of Table 4.1."""
        layers = [
            [(conv.in_channels, conv.kernel_size[0]) for conv in network.convolutions]
            for network in MultiScaleGenerator().networks
        ]
        assert layers == [
            [(12, 3), (128, 3), (256, 3), (128, 3)],
            [(15, 5), (128, 3), (256, 3), (128, 5)],
            [(15, 5), (128, 3), (256, 3), (512, 3), (256, 3), (128, 5)],
            [(15, 7), (128, 5), (256, 5), (512, 5), (256, 5), (128, 7)],
        ]

    def test_the_baseline_of_one_scale_is_the_finest_network(self):
        (network,) = MultiScaleGenerator(num_scales=1).networks
        assert network.convolutions[0].in_channels == 12
        assert [conv.kernel_size[0] for conv in network.convolutions] == [7, 5, 5, 5, 5, 7]

    @pytest.mark.parametrize("size", [(8, 8), (240, 320), (40, 16)])
    def test_any_size_that_can_be_halved(self, size):
        model = MultiScaleGenerator(width=0.02)
        with torch.no_grad():
            *_, fine = model(torch.rand(1, 4, 3, *size))
        assert fine.shape == (1, 3, *size)
        assert fine.abs().max() <= 1

    def test_it_is_convolutional(self):
        """Away from the border a larger image's prediction is the patch's."""
        torch.manual_seed(0)
        model = MultiScaleGenerator(8, num_scales=2, width=0.02).double()
        frames = torch.rand(1, 4, 3, 64, 64, dtype=torch.float64)
        whole, part = model(frames)[-1], model(frames[..., 8:56, 8:56])[-1]
        torch.testing.assert_close(whole[..., 28:36, 28:36], part[..., 20:28, 20:28])

    def test_every_scale_learns_from_the_finest_prediction(self):
        model = MultiScaleGenerator(width=0.05)
        model(torch.rand(2, 4, 3, 32, 32))[-1].sum().backward()
        assert all(weight.grad.abs().max() > 0 for weight in model.parameters() if weight.ndim > 1)

    def test_gradcheck(self):
        torch.manual_seed(0)
        model = MultiScaleGenerator(4, num_scales=2, num_inputs=2, channels=1, width=0.01).double()
        frames = torch.rand(1, 2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(model, (frames,))


class TestPredict:
    def test_n_frames_are_n_single_frames_with_the_window_shifted(self):
        torch.manual_seed(0)
        model = MultiScaleGenerator(width=0.05)
        frames = torch.rand(2, 4, 3, 32, 32)
        with torch.no_grad():
            together = model.predict(frames, 5)
            for step in range(5):
                single = model.predict(frames, 1)
                assert torch.equal(single[:, 0], together[:, step])
                frames = torch.cat([frames[:, 1:], single], 1)

    def test_the_noise_of_every_frame_is_new(self):
        torch.manual_seed(0)
        model = MultiScaleGenerator(width=0.05, noise_std=1.0)
        frames = torch.rand(1, 4, 3, 32, 32)
        seeded = [torch.Generator().manual_seed(3) for _ in range(2)]
        with torch.no_grad():
            together = model.predict(frames, 3, generator=seeded[0])
            assert not torch.equal(model.predict(frames, 1), model.predict(frames, 1))
            for step in range(3):
                single = model.predict(frames, 1, generator=seeded[1])
                assert torch.equal(single[:, 0], together[:, step])
                frames = torch.cat([frames[:, 1:], single], 1)


class TestNoise:
    def test_a_row_has_the_noise_of_its_place_in_the_batch(self):
        model = MultiScaleGenerator(width=0.05, noise_std=0.5)
        frames, key = torch.rand(6, 4, 3, 16, 16), torch.tensor([5, 0])
        whole = model(frames, key)
        for one, other in zip(whole, model(frames[4:], key, 4), strict=True):
            torch.testing.assert_close(one[4:], other)
        assert not torch.allclose(whole[-1][4:], model(frames[4:], key)[-1])

    def test_it_stands_in_the_widest_layer_with_its_standard_deviation(self):
        """A network whose later layers pass one middle feature on shows the noise itself."""
        model = zero_weights(MultiScaleGenerator(4, num_scales=1, width=0.05, noise_std=1e-2))
        (network,) = model.networks
        assert network.middle_width == max(conv.out_channels for conv in network.convolutions)
        with torch.no_grad():
            network.convolutions[1].bias.fill_(1.0)  # far from the ReLU's kink
            network.convolutions[2].weight[0, 0, 1, 1] = 1
            network.convolutions[3].weight[0, 0, 1, 1] = 1
            (prediction,) = model(torch.zeros(500, 4, 3, 4, 4), torch.tensor([1, 0]))
        noise = prediction[:, 0].atanh() - 1
        # 8000 values: their mean has the error σ/√8000, their deviation σ/√16000.
        assert noise.mean().abs() < 4e-2 / 8000**0.5
        assert noise.std().item() == pytest.approx(1e-2, abs=4e-2 / 16000**0.5)


class TestDiscriminator:
    def test_flattened_sizes_are_those_of_the_table(self):
        networks = MultiScaleDiscriminator(width=1.0).networks
        sizes = [network.num_features for network in networks]
        assert sizes == [2**2 * 64, 2**2 * 128, 4**2 * 256, 6**2 * 512]
        assert [network.classifier[0].in_features for network in networks] == sizes
        widths = [
            [m.out_features for m in n.classifier if isinstance(m, nn.Linear)] for n in networks
        ]
        assert widths == [[512, 256, 1], *[[1024, 512, 1]] * 3]
        assert all(network.features[0].in_channels == 15 for network in networks)

    @pytest.mark.parametrize("separate_frames", [False, True])
    @pytest.mark.parametrize(("size", "scales"), [(32, 4), (64, 5), (16, 3), (32, 1)])
    def test_a_logit_a_scale(self, size, scales, separate_frames):
        model = MultiScaleDiscriminator(
            size, num_scales=scales, width=0.02, batch_norm=True, separate_frames=separate_frames
        )
        frames, image = torch.rand(3, 4, 3, size, size), torch.rand(3, 3, size, size)
        assert model(frames, image_pyramid(image, scales)).shape == (3, scales)

    def test_a_scale_sees_its_own_candidate(self):
        torch.manual_seed(0)
        model = MultiScaleDiscriminator(width=0.05)
        frames, image = torch.rand(1, 4, 3, 32, 32), torch.rand(1, 3, 32, 32)
        candidates = image_pyramid(image, 4)
        before = model(frames, candidates)[0]
        after = model(frames, [*candidates[:2], candidates[2] + 1, candidates[3]])[0]
        assert (before != after).tolist() == [False, False, True, False]

    def test_separate_frames_share_the_first_layer(self):
        """What it makes of a frame does not depend on the others, nor on the frame's place."""
        model = MultiScaleDiscriminator(4, num_scales=1, width=0.1, separate_frames=True)
        first = model.networks[0].features[0]
        frames = torch.rand(1, 5, 3, 4, 4)
        features = first(frames.flatten(1, 2)).unflatten(1, (5, -1))
        turned = first(frames.roll(1, 1).flatten(1, 2)).unflatten(1, (5, -1))
        torch.testing.assert_close(turned, features.roll(1, 1))

    def test_it_has_no_running_averages(self):
        model = MultiScaleDiscriminator(width=0.02, batch_norm=True)
        assert [name for name, _ in model.named_buffers()] == []

    def test_the_coarsest_generator_learns_through_the_finest_discriminator_alone(self):
        """The gradient of (4.4) goes through all G_k', k' ≤ k."""
        torch.manual_seed(0)
        generator = MultiScaleGenerator(width=0.05)
        discriminator = MultiScaleDiscriminator(width=0.05)
        frames = torch.rand(2, 4, 3, 32, 32)
        logits = discriminator(frames, generator(frames))

        def coarsest(k):
            loss = multi_scale_generator_loss(logits[:, k : k + 1]).sum()
            weights = [network.convolutions[0].weight for network in generator.networks]
            found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
            return [g is not None and bool(g.abs().max() > 0) for g in found]

        for k in range(4):
            assert coarsest(k) == [k2 <= k for k2 in range(4)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiScaleGenerator(30), "MultiScaleGenerator: the images are 30 x 30; expected"),
        (lambda: MultiScaleGenerator(num_inputs=0), "num_inputs is 0; expected at least 1"),
        (lambda: MultiScaleGenerator(width=0), "width is 0 and noise_std 0.0; expected a positive"),
        (lambda: MultiScaleGenerator(noise_std=-1), "noise_std -1; expected a positive width and"),
        (lambda: MultiScaleGenerator(upsampling="cubic"), "expected one of bilinear, nearest"),
        (
            lambda: MultiScaleGenerator(width=0.01)(torch.zeros(1, 3, 3, 32, 32)),
            r"frames have shape \[1, 3, 3, 32, 32\]; expected \[N, 4, 3, H, W\]",
        ),
        (
            lambda: MultiScaleGenerator(width=0.01)(torch.zeros(1, 4, 3, 32, 36)),
            "the images are 32 x 36; expected multiples of 8",
        ),
        (
            lambda: MultiScaleGenerator(width=0.01).predict(torch.zeros(1, 4, 3, 8, 8), 0),
            "num_frames is 0",
        ),
        (lambda: MultiScaleDiscriminator(16), "coarsest of 4 scales of 16 pixels is 2; expected"),
        (lambda: MultiScaleDiscriminator(width=-1.0), "width is -1.0; expected a positive"),
        (
            lambda: MultiScaleDiscriminator(width=0.01)(torch.zeros(1, 4, 3, 16, 16), []),
            r"frames have shape \[1, 4, 3, 16, 16\]; expected \[N, 4, 3, 32, 32\]",
        ),
        (
            lambda: MultiScaleDiscriminator(width=0.01)(
                torch.zeros(1, 4, 3, 32, 32), image_pyramid(torch.zeros(1, 3, 32, 32), 3)
            ),
            r"candidates have shapes \[\[1, 3, 8, 8\].*; expected \[\[1, 3, 4, 4\]",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_levels_are_refused():
    with pytest.raises(TypeError, match=r"frames are torch.uint8; expected floating point"):
        MultiScaleGenerator(width=0.01)(torch.zeros(1, 4, 3, 32, 32, dtype=torch.uint8))
