"""Pyramids that give their images back, and images drawn from coarse to fine."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

from gencore.models import LaplacianGAN
from gencore.nn import DCGANDiscriminator, DCGANGenerator, NotatedNetwork
from gencore.objectives import (
    WassersteinGame,
    gaussian_pyramid,
    laplacian_pyramid,
    laplacian_reconstruction,
)

COARSE = (2, 6, 5)


class Records(nn.Module):
    """Counts its calls and gives a multiple of the first channels that it is given."""

    def __init__(self, factor=0.5, channels=2):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.channels, self.seen = channels, []

    def forward(self, x):
        self.seen.append(x.detach())
        return self.factor * x[:, : self.channels]


class Start(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(7, 60)

    def forward(self, z):
        return self.linear(z).reshape(-1, *COARSE)


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.tensor(1.0)), []

    def forward(self, x):
        self.seen.append(x.detach())
        return self.weight * x.mean((1, 2, 3))


def tiny(num_refiners=2, **options):
    torch.manual_seed(0)
    return LaplacianGAN(
        Start(),
        [Records() for _ in range(num_refiners)],
        [Mean() for _ in range(num_refiners + 1)],
        latent_size=7,
        coarse_shape=COARSE,
        **options,
    )


class TestPyramid:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("num_levels", [0, 1, 3])
    def test_b12_the_bands_give_the_image(self, dtype, num_levels):
        """Each level rounds a difference and a sum of numbers below 2."""
        torch.manual_seed(0)
        x = torch.rand(3, 2, 16, 24, dtype=dtype)
        back = laplacian_reconstruction(laplacian_pyramid(x, num_levels))
        assert (back - x).abs().max() <= 2 * num_levels * torch.finfo(dtype).eps
        if num_levels == 0:
            assert torch.equal(back, x)

    @pytest.mark.parametrize("num_levels", [1, 2, 4])
    def test_b12_levels_of_grey_come_back_bit_for_bit(self, num_levels):
        """They and all their blurred halves are multiples of a power of 2."""
        torch.manual_seed(0)
        x = torch.randint(256, (3, 1, 32, 32)).double()
        assert torch.equal(laplacian_reconstruction(laplacian_pyramid(x, num_levels)), x)

    def test_any_bands_are_those_of_an_image(self):
        """The reconstruction is linear, and sees every band: its Jacobian has full rank."""
        torch.manual_seed(0)
        bands = [torch.randn(1, 1, 4, 4).double(), torch.randn(1, 1, 2, 2).double()]
        (fine, coarse) = torch.autograd.functional.jacobian(
            lambda *bands: laplacian_reconstruction(bands), tuple(bands)
        )
        assert torch.equal(fine.reshape(16, 16), torch.eye(16).double())
        assert torch.linalg.matrix_rank(coarse.reshape(16, 4)) == 4

    def test_halves_are_blurred(self):
        """A linear slope stays one away from the border, at every second pixel."""
        slope = torch.arange(16.0).expand(1, 1, 16, 16)
        image, half, quarter = gaussian_pyramid(slope, 2)
        assert torch.equal(image, slope)
        torch.testing.assert_close(half[0, 0, 0, 1:-1], torch.arange(2.0, 14.0, 2))
        assert quarter[0, 0, 0, 1] == 4 + 0.375 / 16  # the first of the halves is no 0 but .375
        with pytest.raises(ValueError, match="gaussian_pyramid: x has shape"):
            gaussian_pyramid(slope, 5)
        with pytest.raises(TypeError, match=r"gaussian_pyramid: x is torch\.int64"):
            gaussian_pyramid(slope.long(), 1)

    def test_bands_that_do_not_fit(self):
        with pytest.raises(ValueError, match="got no bands"):
            laplacian_reconstruction([])
        bands = [torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 2, 2)]
        with pytest.raises(ValueError, match=r"a band of shape \[1, 1, 8, 8\] is before one of"):
            laplacian_reconstruction(bands)


class TestSampling:
    def test_b12_from_coarse_to_fine(self):
        """Each level is the enlarged last one and a band that is made of it: here 1.5 times it."""
        gan = tiny()
        noise = gan.sample_noise(4)
        assert noise.shape == (4, 7 + 12 * 10 + 24 * 20)
        levels = gan.decode_levels(noise)
        assert [tuple(image.shape) for image in levels] == [
            (4, 2, 6, 5), (4, 2, 12, 10), (4, 2, 24, 20),
        ]  # fmt: skip
        torch.testing.assert_close(levels[0], gan.generators[0](noise[:, :7]))
        for coarse, fine in pairwise(levels):
            up = functional.interpolate(coarse, scale_factor=2, mode="bilinear")
            torch.testing.assert_close(fine, 1.5 * up)
        planes = noise[:, 7 : 7 + 120].reshape(4, 1, 12, 10)
        assert torch.equal(gan.generators[1].seen[0][:, 2:], planes)
        torch.testing.assert_close(gan.decode_noise(noise), levels[-1])

    def test_samples_in_any_split(self):
        gan = tiny()
        key = torch.tensor([3, 0])
        whole = gan.sample(5, key=key)
        parts = gan.sample(2, key=key), gan.sample(3, key=key, first=2)
        torch.testing.assert_close(torch.cat(parts), whole)
        assert not torch.equal(whole, gan.sample(5))

    def test_without_refiners_it_is_a_gan(self):
        gan = tiny(0)
        assert gan.noise_size == 7
        assert gan.sample(3).shape == (3, *COARSE)

    def test_networks_of_convolutions(self):
        torch.manual_seed(0)
        gan = LaplacianGAN(
            DCGANGenerator(10, (3, 8, 8), width=4),
            [NotatedNetwork("4 -convp5,ReLU-> 8 -convp5-> 3") for _ in range(2)],
            [DCGANDiscriminator((3, side, side), width=4) for side in (8, 16, 32)],
            latent_size=10,
            coarse_shape=(3, 8, 8),
        )
        x = torch.rand(4, 3, 32, 32)
        (gan(x) + gan.discriminator_loss(x)).backward()
        assert all(weight.grad.isfinite().all() for weight in gan.parameters())
        assert gan.sample(2).shape == (2, 3, 32, 32)


class TestTraining:
    def test_each_level_has_its_own_game(self):
        """The logistic losses of three levels, with the pyramid of the data as their condition."""
        gan = tiny()
        x, key = torch.rand(4, 2, 24, 20), torch.tensor([5, 0])
        noise = gan.sample_noise(4, key=key)
        coarser = functional.conv2d(
            functional.pad(x.reshape(8, 1, 24, 20), (2, 2, 2, 2), mode="replicate"),
            torch.outer(*[torch.tensor([1.0, 4, 6, 4, 1]) / 16] * 2)[None, None],
            stride=2,
        ).reshape(4, 2, 12, 10)
        loss = gan.discriminator_loss(x, key=key)
        reals = [d.seen[0] for d in gan.discriminators]
        fakes = [d.seen[1] for d in gan.discriminators]
        torch.testing.assert_close(reals[2], x)
        torch.testing.assert_close(reals[1], coarser)
        up = functional.interpolate(coarser, scale_factor=2, mode="bilinear")
        torch.testing.assert_close(fakes[2], 1.5 * up)  # of the data's, not of the samples' coarse
        torch.testing.assert_close(fakes[0], gan.generators[0](noise[:, :7]).detach())
        expected = sum(
            functional.softplus(-real.mean((1, 2, 3))).mean()
            + functional.softplus(fake.mean((1, 2, 3))).mean()
            for real, fake in zip(reals, fakes, strict=True)
        )
        torch.testing.assert_close(loss, expected)
        expected = sum(functional.softplus(-fake.mean((1, 2, 3))).mean() for fake in fakes)
        torch.testing.assert_close(gan(x, key=key), expected)

    def test_gradients_reach_one_side_alone(self):
        gan = tiny()
        x = torch.rand(4, 2, 24, 20)
        for loss, reached, left in (
            (gan(x), gan.generators, gan.discriminators),
            (gan.discriminator_loss(x), gan.discriminators, gan.generators),
        ):
            gan.zero_grad()
            loss.backward()
            assert all(weight.grad is not None for weight in reached.parameters())
            assert all(weight.grad is None for weight in left.parameters())

    def test_any_game_will_do(self):
        gan = tiny(1, game=WassersteinGame())
        x, key = torch.rand(4, 2, 12, 10), torch.tensor([1, 0])
        loss = gan.discriminator_loss(x, key=key)
        real = sum(d.seen[0].mean() for d in gan.discriminators)
        torch.testing.assert_close(loss, -gan(x, key=key) - real)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: LaplacianGAN(Start(), [], [], latent_size=7, coarse_shape=COARSE),
            "got 0 discriminators and 1 generators",
        ),
        (
            lambda: LaplacianGAN(Start(), [], [Mean()], latent_size=0, coarse_shape=COARSE),
            "latent_size is 0",
        ),
        (
            lambda: LaplacianGAN(Start(), [], [Mean()], latent_size=7, coarse_shape=(6, 5)),
            r"coarse_shape is \(6, 5\)",
        ),
        (
            lambda: tiny()(torch.zeros(1, 2, 24, 21)),
            r"images have shape \[1, 2, 24, 21\]; ex",
        ),
        (
            lambda: LaplacianGAN(
                Start(), [], [Mean()], latent_size=7, coarse_shape=(2, 5, 6)
            ).sample(1),
            r"generator 0 gives \[1, 2, 6, 5\]; expected \[1, 2, 5, 6\]",
        ),
        (
            lambda: LaplacianGAN(
                Start(), [Records(channels=1)], [Mean(), Mean()], latent_size=7, coarse_shape=COARSE
            ).sample(1),
            r"a generator of bands gives \[1, 1, 12, 10\]; expected \[1, 2, 12, 10\]",
        ),
    ],
)
def test_what_does_not_fit_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()
