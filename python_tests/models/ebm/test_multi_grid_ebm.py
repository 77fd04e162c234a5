"""Multi-grid models (Gao 2021, §2.2): Algorithm 1 against Gaussians in closed form, and a toy."""

import math

import pytest
import torch
from torch import nn

from gencore.metrics import kernel_distance
from gencore.models import ConvEnergy, ConvLayer, MultiGridEBM, StridedConvEnergy
from gencore.nn import block_expand, block_mean
from gencore.objectives import contrastive_divergence
from gencore.samplers import Langevin

F64 = torch.float64


class Gaussian(nn.Module):
    """½ xᵀPx of all pixels, with a trainable factor."""

    def __init__(self, precision):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=F64))
        self.precision = precision

    def forward(self, x):
        x = x.flatten(1)
        return 0.5 * self.scale * (x @ self.precision * x).sum(1)


def isotropic(size, precision=1.0):
    return Gaussian(precision * torch.eye(size * size, dtype=F64))


def gaussian_ebm(*precisions, sizes=(2, 4), **settings):
    energies = [isotropic(size, p) for size, p in zip(sizes, precisions, strict=True)]
    return MultiGridEBM(energies, sizes, 1, **settings).double()


class TestChains:
    def test_one_grid_has_the_law_of_the_unadjusted_chain(self):
        """Variance s²/(1 − δ²/(4s²)) in the end, r^l of the start after l steps (2.4)."""
        s, delta, num = 1.7, 0.8, 4000
        ebm = gaussian_ebm(
            1 / s**2, sizes=(2,), step_size=delta**2 / 2, noise_scale=delta, num_steps=100
        )
        stationary = s**2 / (1 - delta**2 / (4 * s**2))
        r = 1 - delta**2 / (2 * s**2)
        x0 = torch.full((num, 1, 1, 1), 3.0, dtype=F64)
        for steps in (5, 100):
            generator = torch.Generator().manual_seed(steps)
            (x,) = ebm.sample_from_coarse(x0, num_steps=steps, generator=generator)
            variance = stationary * (1 - r ** (2 * steps))
            error = 4.5 * math.sqrt(variance / x.numel())
            assert x.mean().item() == pytest.approx(3 * r**steps, abs=error)
            spread = 4.5 * variance * math.sqrt(2 / x.numel())
            assert x.var().item() == pytest.approx(variance, abs=spread)

    def test_each_grid_goes_on_from_the_one_before(self):
        """Without noise E = pX²/2 shrinks an image by (1 − ap)^l, and each grid has its own p."""
        ebm = gaussian_ebm(0.7, 0.3, step_size=0.1, num_steps=7)
        x0 = torch.tensor([1.0, -2.0], dtype=F64).view(2, 1, 1, 1)
        coarse, fine = ebm.sample_from_coarse(x0, noise=False)
        expected = block_expand(x0, 2) * (1 - 0.07) ** 7
        torch.testing.assert_close(coarse, expected, rtol=1e-12, atol=0)
        expected = block_expand(expected, 2) * (1 - 0.03) ** 7
        torch.testing.assert_close(fine, expected, rtol=1e-12, atol=0)

    def test_noise_of_the_grids_is_independent(self):
        """At energies of no slope the increments of the grids are pure noise."""
        ebm = gaussian_ebm(0.0, 0.0, step_size=0.1, noise_scale=1.0, num_steps=2)
        x0 = torch.zeros(3000, 1, 1, 1, dtype=F64)
        coarse, fine = ebm.sample_from_coarse(x0, generator=torch.Generator().manual_seed(0))
        added = fine - block_expand(coarse, 2)
        assert added.var().item() == pytest.approx(2, rel=4.5 * math.sqrt(2 / added.numel()))
        for other in (added[:, :, :2, :2], block_mean(added, 2)):
            product = (coarse * other).mean().item()
            assert abs(product) < 4.5 * 2 / math.sqrt(coarse.numel())

    def test_parts_of_a_batch_are_those_of_the_whole(self):
        ebm = MultiGridEBM.preset("small8", num_steps=2, noise_scale=0.1)
        x, key = torch.rand(6, 1, 8, 8), torch.tensor([3, 4])
        ebm.set_colors(x)
        whole = ebm.sample(6, key=key)
        parts = ebm.sample(2, key=key), ebm.sample(4, key=key, first=2)
        assert torch.equal(torch.cat(parts), whole)
        is_free = torch.rand(6, 1, 8, 8) < 0.5
        whole = ebm.inpaint(x, is_free, key=key)
        part = ebm.inpaint(x[2:], is_free[2:], key=key, first=2)
        assert torch.equal(part, whole[2:])

    def test_starts_are_colours_of_the_data(self):
        ebm = MultiGridEBM.preset("small8", channels=3, num_colors=64)
        x = torch.rand(16, 3, 8, 8)
        ebm.set_colors(x)
        drawn = ebm.coarse(500, generator=torch.Generator().manual_seed(0)).flatten(1)
        means = x.mean((2, 3))
        distance = (drawn[:, None] - means).abs().sum(2)
        assert distance.amin(1).max() < 1e-6
        counts = distance.argmin(1).bincount(minlength=16)
        p = 1 / 16
        assert (counts - 500 * p).abs().max() < 4.5 * math.sqrt(500 * p * (1 - p))


class TestObjective:
    def test_the_gradient_of_each_grid_is_its_difference_of_moments(self):
        """(2.3) with f = −sX²/2: ½(E‖x⁺‖² − E‖x⁻‖²) for each s, and with no noise x⁻ is known."""
        ebm = gaussian_ebm(0.7, 0.3, step_size=0.1, noise_scale=0.0, num_steps=5)
        x = torch.randn(10, 1, 4, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
        terms = ebm(x)
        terms.loss.backward()
        means = x.mean((2, 3))
        shrunk = means.square().mean().item() * (1 - 0.07) ** 10
        coarse = block_mean(x, 2).square().sum((1, 2, 3)).mean().item()
        fine = x.square().sum((1, 2, 3)).mean().item()
        expected = (
            0.35 * (coarse - 4 * shrunk),
            0.15 * (fine - 16 * shrunk * (1 - 0.03) ** 10),
        )
        for energy, value in zip(ebm.energies, expected, strict=True):
            assert energy.scale.grad.item() == pytest.approx(value, rel=1e-10)

    def test_starts_at_data_are_contrastive_divergence(self):
        energy = isotropic(4, 0.5)
        ebm = MultiGridEBM([energy], [4], 1, num_steps=1, step_size=0.1).double()
        x, key = torch.randn(8, 1, 4, 4, dtype=F64), torch.tensor([1, 2])
        terms = ebm(x, starts=[x], key=key)
        expected = contrastive_divergence(energy, x, lambda e: Langevin(e, 0.1), 1, key=key)
        assert terms.loss.item() == expected.loss.item()
        assert torch.equal(terms.samples[0], expected.samples)


class TestInpainting:
    def test_the_conditional_of_a_gaussian(self):
        """Mean −P_MM⁻¹ P_MV x_V, and covariance (P_MM − (a/2) P_MM²)⁻¹, that of the steps."""
        generator = torch.Generator().manual_seed(0)
        root = torch.randn(4, 4, dtype=F64, generator=generator)
        precision = root @ root.T / 4 + torch.eye(4, dtype=F64)
        step, num = 0.3, 8000
        ebm = MultiGridEBM([Gaussian(precision)], [2], 1, step_size=step, num_steps=60).double()
        observed = torch.tensor([0.5, -1.5, 2.0, 0.3], dtype=F64).view(1, 1, 2, 2)
        is_free = torch.tensor([[True, False], [False, True]])[None, None]
        x = ebm.inpaint(observed.expand(num, -1, -1, -1), is_free, generator=generator)
        free = is_free.flatten()
        seen = observed.flatten()[~free]
        within = precision[free][:, free]
        mean = -torch.linalg.solve(within, precision[free][:, ~free] @ seen)
        covariance = torch.linalg.inv(within - step / 2 * within @ within)
        found = x.flatten(1)[:, free]
        assert ((found.mean(0) - mean).abs() < 4.5 * (covariance.diagonal() / num).sqrt()).all()
        variances = covariance.diagonal()
        spread = (variances.outer(variances) + covariance**2).sqrt()
        error = (torch.cov(found.T) - covariance).abs()
        assert (error < 4.5 * spread / math.sqrt(num)).all()

    def test_visible_pixels_keep_their_bits_and_hidden_ones_are_not_looked_at(self):
        ebm = MultiGridEBM.preset("small16", channels=3, num_steps=3, noise_scale=0.1)
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(5, 3, 16, 16, generator=generator)
        is_free = torch.rand(5, 1, 16, 16, generator=generator) < 0.6
        is_free[0], is_free[1] = True, False
        ebm.set_colors(x)  # where an image is hidden wholly
        key = torch.tensor([1, 2])
        filled = ebm.inpaint(x, is_free, key=key)
        everywhere = is_free.expand(x.shape)
        assert torch.equal(filled[~everywhere], x[~everywhere])
        assert (filled != x)[everywhere].all()
        hidden = ebm.inpaint(x.masked_fill(is_free, math.nan), is_free, key=key)
        assert torch.equal(hidden, filled)

    def test_what_is_visible_of_coarse_pixels(self):
        """With energies of no slope and no noise, pixels stay where Algorithm 1 starts them."""
        ebm = gaussian_ebm(0.0, 0.0, step_size=0.1, noise_scale=0.0, num_steps=1)
        x = torch.arange(16.0, dtype=F64).view(1, 1, 4, 4)
        is_free = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
        is_free[..., :2, :2] = is_free[..., 3, 3] = True  # a block, and one pixel of another
        filled = ebm.inpaint(x, is_free)
        visible = x[~is_free].mean()
        torch.testing.assert_close(filled[0, 0, 0, 0], visible)  # of the whole image: 1 x 1
        torch.testing.assert_close(filled[0, 0, 3, 3], torch.tensor((10 + 11 + 14) / 3, dtype=F64))

    def test_training_moves_hidden_pixels_alone(self):
        ebm = MultiGridEBM.preset("small16", num_steps=2, noise_scale=0.1)
        x = torch.rand(4, 1, 16, 16)
        is_free = torch.zeros(4, 1, 16, 16, dtype=torch.bool)
        is_free[..., 4:8, 4:8] = True
        coarse, fine = ebm(x, is_free=is_free).samples
        free = torch.zeros(4, 4, dtype=torch.bool)
        free[1, 1] = True
        data = block_mean(x, 4)
        assert torch.equal(coarse[..., ~free], data[..., ~free])
        assert (coarse != data)[..., free].all()
        assert torch.equal(fine[~is_free], x[~is_free])
        assert (fine != x)[is_free].all()


class TestFeatures:
    @pytest.mark.parametrize(("layers", "size"), [(None, 15_360), ((1, 2, 3), 14_336)])
    def test_the_sizes_of_the_source(self, layers, size):
        ebm = MultiGridEBM.preset("gao2021", num_steps=1)
        assert ebm.features(torch.zeros(1, 3, 64, 64), layers=layers).shape == (1, size)

    def test_they_are_maxima_of_blocks_of_the_maps(self):
        energy = StridedConvEnergy((1, 8, 8), [ConvLayer(3, 3), ConvLayer(5, 3, 4)])
        x = torch.randn(2, 1, 8, 8)
        maps = energy.feature_maps(x)
        expected = maps[0].unflatten(3, (4, 2)).unflatten(2, (4, 2)).amax((3, 5))
        features = energy.features(x)
        assert torch.equal(features[:, : 3 * 16], expected.flatten(1))
        assert torch.equal(features[:, 3 * 16 :], maps[1].flatten(1))  # 2 x 2 stays


def two_kinds(num, generator):
    """16 × 16 images of a bright blob at the left or at the right, of the same mean."""
    kind = torch.randint(2, (num,), generator=generator)
    centre = torch.stack([7.5 + torch.randn(num, generator=generator), 4.0 + 7 * kind])
    centre[1] += 0.5 * torch.randn(num, generator=generator)
    rows, columns = torch.arange(16.0)[:, None], torch.arange(16.0)
    y, x = (place.view(-1, 1, 1) for place in centre)
    blob = torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 8)
    return (2 * blob - 1)[:, None], kind


def energy_distance(x, y):
    """2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖: the kernel distance of −‖x − y‖."""
    return kernel_distance(x, y, lambda a, b: -torch.cdist(a, b), lambda x: x.flatten(1))


def toy_ebm(sizes, num_steps, **settings):
    layers = [ConvLayer(16, 3), ConvLayer(32, 3)], [ConvLayer(16, 5, 2), ConvLayer(32, 5, 2)]
    energies = [StridedConvEnergy((1, size, size), layers[size == 16]) for size in sizes]
    return MultiGridEBM(
        energies, sizes, 1,
        num_steps=num_steps, step_size=0.2, noise_scale=0.05, clamp=(-1.0, 1.0), **settings,
    )  # fmt: skip


def fit(ebm, num_updates, batch_size, generator, starts):
    """Adam, whose learning rate falls to 0: without that the modes take turns to the end."""
    optimizer = torch.optim.Adam(ebm.energies.parameters(), 1e-3, betas=(0.5, 0.999))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_updates)
    for _ in range(num_updates):
        x, _ = two_kinds(batch_size, generator)
        x += 0.03 * torch.randn(x.shape, generator=generator)
        terms = ebm(x, starts=starts(x), generator=generator)
        optimizer.zero_grad()
        terms.loss.backward()
        nn.utils.clip_grad_norm_(ebm.parameters(), 10.0)
        optimizer.step()
        schedule.step()


class Toy:
    """Multi-grid models of two kinds of images, and one-step contrastive divergence."""

    def __init__(self, seed):
        torch.manual_seed(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.data, _ = two_kinds(500, self.generator)

    def multi_grid(self, num_updates):
        """Of 16 images, 10 steps at each of 2 grids: 320 of the sampler's gradients of one image
        an update."""
        ebm = toy_ebm((4, 16), 10)
        fit(ebm, num_updates, 16, self.generator, lambda x: None)
        ebm.set_colors(self.data)
        return ebm

    def divergence(self, num_updates, batch_size):
        ebm = toy_ebm((16,), 1, energy_penalty=0.1)  # without it, no chain stays near the data
        fit(ebm, num_updates, batch_size, self.generator, lambda x: [x])
        ebm.set_colors(self.data)
        return ebm

    def distance(self, ebm, num_steps):
        samples = ebm.sample(500, num_steps=num_steps, generator=self.generator)
        return energy_distance(samples, self.data)

    def check_samples(self, ebm):
        """Blocks have the data's means, and one start has samples of both kinds, none twice."""
        samples = ebm.sample(500, generator=self.generator)
        error = block_mean(samples, 4).mean(0) - block_mean(self.data, 4).mean(0)
        assert error.abs().max() < 0.1  # of [-1, 1]
        x0 = self.data[:1].mean((2, 3), True)
        coarse, fine = ebm.sample_from_coarse(x0, 100, generator=self.generator)
        assert torch.pdist(fine.flatten(1)).min() > 0.5
        for grid in (coarse, fine):
            left, right = (half.mean((1, 2, 3)) for half in grid.chunk(2, 3))
            assert 0.1 < (right > left).float().mean() < 0.9


@pytest.mark.slow
def test_two_kinds_of_images_from_one_start_and_nearer_than_contrastive_divergence():
    toy = Toy(0)
    many, one = toy.multi_grid(250), toy.divergence(625, 128)  # as many gradients of the sampler
    toy.check_samples(many)
    assert toy.distance(many, 10) < 0.1 * min(toy.distance(one, steps) for steps in (10, 100))


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_seeds_and_the_best_of_contrastive_divergence(seed):
    """Of many updates of few images and few of many, and of chains of any length."""
    toy = Toy(seed)
    many = toy.multi_grid(400)
    toy.check_samples(many)
    best = min(
        toy.distance(one, steps)
        for one in (toy.divergence(1000, 128), toy.divergence(8000, 16))
        for steps in (10, 20, 100, 500)
    )
    assert toy.distance(many, 10) < 0.1 * best


def test_wrong_input_is_named():
    energy = ConvEnergy.preset("digits")
    with pytest.raises(ValueError, match=r"2 energies for sizes \(8,\); expected one for each"):
        MultiGridEBM([energy, energy], [8], 1)
    with pytest.raises(ValueError, match=r"sizes are \(3, 8\); expected each to divide the next"):
        MultiGridEBM([energy, energy], [3, 8], 1)
    ebm, x = MultiGridEBM([energy], [8], 1), torch.zeros(2, 1, 8, 8)
    for call in (ebm, ebm.pyramid, ebm.set_colors):
        with pytest.raises(ValueError, match=r"shape \[2, 1, 4, 4\]; expected \[N, 1, 8, 8\]"):
            call(torch.zeros(2, 1, 4, 4))
    with pytest.raises(ValueError, match="2 starts for 1 grids"):
        ebm(x, starts=[x, x])
    with pytest.raises(ValueError, match=r"x0 has shape \[2, 1, 8, 8\]; expected \[M, 1, 1, 1\]"):
        ebm.sample_from_coarse(x)
    with pytest.raises(TypeError, match=r"is_free is torch\.float32; expected bool"):
        ebm.inpaint(x, x)
    with pytest.raises(ValueError, match=r"is_free has shape \[3, 1, 8, 8\]; expected one that"):
        ebm.inpaint(x, torch.ones(3, 1, 8, 8, dtype=torch.bool))
    with pytest.raises(TypeError, match="finest energy is a ConvEnergy; expected a StridedConv"):
        ebm.features(x)
    with pytest.raises(ValueError, match="name is 'large'; expected one of gao2021"):
        MultiGridEBM.preset("large")
    with pytest.raises(ValueError, match="got no images"):
        ebm.set_colors(x[:0])
    with pytest.raises(ValueError, match="not finite"):
        ebm.set_colors(x + math.nan)
    with pytest.raises(RuntimeError, match="no 1 x 1 images to start from"):
        ebm.sample(2)
    with pytest.raises(RuntimeError, match="no 1 x 1 images to start from"):
        ebm.inpaint(x, torch.ones(2, 1, 8, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="clamp"):
        MultiGridEBM([energy], [8], 1, clamp=(1.0, -1.0))
    with pytest.raises(ValueError, match="grad_clamp"):
        MultiGridEBM([energy], [8], 1, grad_clamp=-1.0)
    with pytest.raises(ValueError, match=r"expected \[C, H, W\]"):
        StridedConvEnergy((8, 8), [ConvLayer(3, 3)])
    with pytest.raises(ValueError, match=r"layers are \(5,\)"):
        StridedConvEnergy((1, 8, 8), [ConvLayer(3, 3)]).features(x, layers=[5])
    with pytest.raises(ValueError, match="an odd kernel_size"):
        StridedConvEnergy((1, 8, 8), [ConvLayer(3, 4)])
