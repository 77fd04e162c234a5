"""Networks that grow: no jump where a level begins or ends, scaled weights, normalised pixels."""

import copy
import pickle

import pytest
import torch
from torch import nn

from gencore.nn import (
    Growth,
    GrowthSchedule,
    MinibatchStdDev,
    PixelNorm,
    ProgressiveDiscriminator,
    ProgressiveGenerator,
    block_expand,
    block_mean,
)
from gencore.nn.parametrized import equalized

SHAPE, WIDTHS = (2, 4, 3), (8, 6, 4, 4)


@pytest.fixture(params=[torch.float32, torch.float64])
def networks(request):
    torch.manual_seed(0)
    generator = ProgressiveGenerator(5, SHAPE, WIDTHS)
    discriminator = ProgressiveDiscriminator(SHAPE, WIDTHS)
    for network in (generator, discriminator):
        for name, weight in network.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(weight)
    return generator.to(request.param), discriminator.to(request.param)


def latents(network):
    return torch.randn(3, 5, dtype=next(network.parameters()).dtype)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_b17_without_a_share_it_is_the_small_network(networks, level):
    """α = 0, bit for bit: the smaller image with every pixel four times, and its logit."""
    generator, discriminator = networks
    z = latents(generator)
    small = generator(z, level - 1)
    assert torch.equal(generator(z, level, 0.0), block_expand(small, 2))
    x = torch.randn_like(block_expand(small, 2))
    logits = discriminator(block_mean(x, 2), level - 1)
    assert torch.equal(discriminator(x, level, 0.0), logits)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_b17_with_the_whole_share_it_is_the_grown_network(networks, level):
    """α = 1: what the smaller network had to itself is gone. A limit, and not a case apart."""
    generator, discriminator = networks
    z = latents(generator)
    x = torch.randn_like(generator(z, level))
    grown = generator(z, level), discriminator(x, level)
    epsilon = torch.finfo(z.dtype).eps
    near = generator(z, level, 1 - epsilon), discriminator(x, level, 1 - epsilon)
    torch.testing.assert_close(near, grown)
    for weight in generator.rgbs[level - 1].parameters():
        nn.init.constant_(weight, 7.0)
    for weight in discriminator.from_rgbs[level - 1].parameters():
        nn.init.constant_(weight, 7.0)
    assert torch.equal(generator(z, level), grown[0])
    assert torch.equal(discriminator(x, level), grown[1])
    assert not torch.equal(generator(z, level, 0.5), grown[0])
    assert not torch.equal(discriminator(x, level, 0.5), grown[1])


def test_images_are_linear_in_the_share(networks):
    generator, _ = networks
    z = latents(generator)
    ends = generator(z, 2, 0.0), generator(z, 2, 1.0)
    torch.testing.assert_close(generator(z, 2, 0.25), 0.75 * ends[0] + 0.25 * ends[1])


def test_a_level_leaves_those_after_it_alone(networks):
    generator, discriminator = networks
    x = generator(latents(generator), 1, 0.5)
    assert x.shape == (3, 2, 8, 6)
    discriminator(x, 1, 0.5).sum().backward()
    for network, ends in ((generator, "rgbs"), (discriminator, "from_rgbs")):
        for level in range(4):
            parts = (network.levels[level], getattr(network, ends)[level])
            reached = [w.grad is not None for part in parts for w in part.parameters()]
            assert all(reached) if level < 2 else not any(reached)


def test_data_are_faded_in_like_samples(networks):
    _, discriminator = networks
    dtype = next(discriminator.parameters()).dtype
    x = torch.rand(1, 2, 32, 24, dtype=dtype)
    y = discriminator.scale_images(x, 2, 0.25)
    fine = x.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))
    means = fine.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))
    rough = means.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(y, 0.75 * rough + 0.25 * fine)
    assert torch.equal(discriminator.scale_images(x), x)


def test_statistics_of_the_batch_reach_the_last_layers():
    spread = nn.Sequential(nn.Unflatten(0, (1, -1)), MinibatchStdDev(), nn.Flatten(0, 1))
    torch.manual_seed(0)
    plain = ProgressiveDiscriminator(SHAPE, WIDTHS)
    seeing = ProgressiveDiscriminator(SHAPE, WIDTHS, batch_statistics=spread)
    x = torch.randn(4, 2, 8, 6)
    for discriminator, alone in ((plain, True), (seeing, False)):
        changed = x.clone()
        changed[1:] *= 3
        first = discriminator(x, 1)[0], discriminator(changed, 1)[0]
        assert torch.allclose(*first) == alone
    with pytest.raises(
        ValueError, match=r"batch_statistics gives \[4, 8, 5, 3\] of \[4, 8, 4, 3\]"
    ):
        ProgressiveDiscriminator(SHAPE, WIDTHS, batch_statistics=MinibatchStdDev())


def test_learning_rates_are_equalised():
    """Stored weights are N(0, 1), used ones N(0, 2/fan-in), and one step of sign descent moves used
    weights by c."""
    torch.manual_seed(0)
    layer = equalized(nn.Conv2d(20, 30, 3))
    stored = layer.parametrizations.weight.original
    count = stored.numel()
    assert abs(float(stored.detach().std()) - 1) < 5 / (2 * count) ** 0.5
    factor = (2 / (20 * 9)) ** 0.5
    torch.testing.assert_close(layer.weight, factor * stored)
    layer.weight.sum().backward()
    torch.testing.assert_close(stored.grad, torch.full_like(stored, factor))
    assert torch.equal(layer.bias, torch.zeros(30))
    for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        torch.testing.assert_close(other.weight, layer.weight)
    with pytest.raises(TypeError, match="layer is ConvTranspose2d; expected a linear layer or"):
        equalized(nn.ConvTranspose2d(2, 2, 3))
    with pytest.raises(TypeError, match="layer is ReLU"):
        equalized(nn.ReLU())


def test_every_layer_of_the_networks_is_equalised(networks):
    for network in networks:
        for module in network.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                assert nn.utils.parametrize.is_parametrized(module, "weight")


def test_activations_keep_their_scale():
    """He's factors with pixel normalisation: no level's features die or grow."""
    torch.manual_seed(0)
    generator = ProgressiveGenerator(64, (3, 4, 4), (64,) * 4)
    spreads = [generator(torch.randn(64, 64), level).std().item() for level in range(4)]
    assert all(0.5 < spread < 1.5 for spread in spreads)


def test_pixel_norm():
    torch.manual_seed(0)
    a = torch.randn(4, 6, 3, 2, dtype=torch.float64, requires_grad=True)
    b = PixelNorm()(a)
    torch.testing.assert_close(b.square().mean(1), torch.ones(4, 3, 2, dtype=torch.float64))
    torch.testing.assert_close(PixelNorm()(7 * a), b)
    assert torch.equal(PixelNorm()(torch.zeros(1, 3, 1, 1)), torch.zeros(1, 3, 1, 1))
    assert torch.autograd.gradcheck(PixelNorm(), (a,))
    with pytest.raises(ValueError, match="PixelNorm: eps must be finite and not negative"):
        PixelNorm(-1.0)


def test_the_schedule_of_the_source():
    schedule = GrowthSchedule(3, phase_images=800)
    stable, fading = [0, 799], [800, 1000, 1599]
    assert [schedule(images) for images in stable] == [Growth(0, 1.0)] * 2
    assert [schedule(images).alpha for images in fading] == [0.0, 0.25, 799 / 800]
    assert {schedule(images).level for images in fading} == {1}
    assert schedule(1600) == schedule(2399) == Growth(1, 1.0)
    assert schedule(2400) == Growth(2, 0.0)
    assert schedule(3200) == schedule(10**9) == Growth(2, 1.0)
    assert GrowthSchedule(1, 10)(15) == Growth(0, 1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ProgressiveGenerator(0, SHAPE, WIDTHS), "latent_size is 0"),
        (lambda: ProgressiveGenerator(5, (3, 4), WIDTHS), r"coarse_shape is \(3, 4\); expected \["),
        (lambda: ProgressiveDiscriminator(SHAPE, ()), r"widths is \(\); expected at least one"),
        (lambda: ProgressiveGenerator(5, SHAPE, WIDTHS)(torch.zeros(1, 4)), r"shape \[1, 4\]; exp"),
        (
            lambda: ProgressiveGenerator(5, SHAPE, WIDTHS)(torch.zeros(1, 5), 4),
            "level is 4; expected one from 0 to 3",
        ),
        (
            lambda: ProgressiveGenerator(5, SHAPE, WIDTHS)(torch.zeros(1, 5), 0, 0.5),
            "alpha is 0.5 at level 0",
        ),
        (
            lambda: ProgressiveDiscriminator(SHAPE, WIDTHS)(torch.zeros(1, 2, 8, 6), 1, 1.5),
            "alpha is 1.5 at level 1",
        ),
        (
            lambda: ProgressiveDiscriminator(SHAPE, WIDTHS)(torch.zeros(1, 2, 8, 8), 1),
            r"images have shape \[1, 2, 8, 8\]; expected \[N, 2, 8, 6\] at level 1",
        ),
        (lambda: GrowthSchedule(0), "num_levels is 0"),
    ],
)
def test_what_does_not_fit_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()
