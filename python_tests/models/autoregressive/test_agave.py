"""AGAVE, its baselines and auxiliary images: exact sums, quadrature over latents, causality.

Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, chapter 3.
"""

import copy
import itertools
import math

import pytest
import torch
from testing.binary_chains import ENTROPY, FLIP, chain_model, chains, costs, train
from torch import nn
from torch.distributions import Normal, kl_divergence

from gencore.models import (
    AGAVE,
    AuxiliaryPixelCNN,
    AuxiliaryVAE,
    DownSampledTarget,
    FlowPosterior,
    FullResolutionTarget,
    GatedPixelCNN,
    GrayscaleDecoder,
    GrayscaleTarget,
    PixelCNNPlusPlus,
)
from gencore.nn import FeatureStack, ImageDecoder, ImageEncoder
from gencore.ops import random_key

SHAPE = (1, 3, 3)
LATENTS = 2


def randomize(module, scale=0.7, seed=0):
    """Weights that make everything depend on everything."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        if parameter.dim() > 1:
            fan_in = parameter[0].numel()
            parameter.data.normal_(std=scale / math.sqrt(fan_in) * 1.5, generator=generator)
        else:
            parameter.data.normal_(std=0.3, generator=generator)
    return module.eval()


def make_vae(target, latents=LATENTS, iaf_steps=0):
    contexts = 3 if iaf_steps else 0
    sizes = {"channels": 6, "num_scales": 1}
    return AuxiliaryVAE(
        ImageEncoder(target.image_shape, 2 * latents + contexts, **sizes),
        ImageDecoder(latents, target.shape, **sizes),
        target,
        latents,
        posterior=FlowPosterior(latents, contexts, num_steps=iaf_steps, hidden_widths=(8,)),
    )


def gated(target, layers=2, **options):
    """A Gated PixelCNN given features of f(z) at all depths."""
    stack = FeatureStack(target.shape[0], 4, layers)
    pixels = GatedPixelCNN(
        target.image_shape, 6, layers, levels=target.levels, first_kernel_size=3,
        context_channels=stack.out_channels, **options,
    )  # fmt: skip
    return pixels, stack


def plus_plus(target, **options):
    """A PixelCNN++ given features of f(z) that it makes itself."""
    return (
        PixelCNNPlusPlus(
            target.image_shape, 6, 1, 1, context_channels=target.shape[0], deep_context=True,
            levels=target.levels, dropout=0.0, **options,
        ),
        None,
    )  # fmt: skip


def make(target, pixels=gated, latents=LATENTS, iaf_steps=0):
    target = copy.deepcopy(target)  # whose scales are the model's
    return randomize(AGAVE(make_vae(target, latents, iaf_steps), *pixels(target)))


def all_images(shape, levels=2):
    pixels = math.prod(shape)
    every = list(itertools.product(range(levels), repeat=pixels))
    return torch.tensor(every).view(-1, *shape)


def levels_like(shape, levels, num, seed=0):
    return torch.randint(levels, (num, *shape), generator=torch.Generator().manual_seed(seed))


FULL = FullResolutionTarget(SHAPE, 2)


class TestPixelsGivenLatents:
    @pytest.mark.parametrize("pixels", [gated, plus_plus])
    def test_probabilities_of_all_images_add_up_to_one(self, pixels):
        model = make(FULL, pixels).double()
        x = all_images(SHAPE)
        for z in torch.randn(2, LATENTS, generator=torch.Generator().manual_seed(1)).double():
            context = model.context(model.vae.decode(z[None])).expand(len(x), -1, -1, -1)
            total = model.primary.log_prob(x, context).exp().sum()
            assert total.item() == pytest.approx(1.0, abs=1e-6)

    @pytest.mark.parametrize("pixels", [gated, plus_plus])
    def test_parameters_depend_on_earlier_pixels_and_on_all_of_f(self, pixels):
        target = FullResolutionTarget((3, 4, 4), 4)
        model = make(target, pixels).double()
        x = levels_like((3, 4, 4), 4, 1)
        generator = torch.Generator().manual_seed(2)
        f = torch.randn(1, 3, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)

        def parameters(x):
            return model.primary(x, model.context(f)).flatten(2)[0]

        before = parameters(x)
        for j in range(16):
            moved = x.clone().flatten(2)
            moved[:, :, j] = (moved[:, :, j] + 1) % 4
            change = parameters(moved.view_as(x)) - before
            if model.primary.channel_groups == 1:
                assert change[:, : j + 1].eq(0).all()
            else:  # a channel sees the others of its pixel that come before it
                assert change[:, :j].eq(0).all()
                assert change[: len(change) // 3, j].eq(0).all()
            assert j == 15 or change[:, j + 1 :].ne(0).any()
        (gradient,) = torch.autograd.grad(before[:, 0].square().sum(), f)
        # The first pixel is given f at later ones.
        assert gradient[0, :, 0, 1].ne(0).all()
        assert gradient[0, :, 1, 1].ne(0).all()


class TestObjective:
    x = levels_like(SHAPE, 2, 5)

    def test_it_consists_of_its_terms(self):
        model, key = make(FULL), random_key()
        mean, log_std = model.vae.encoder(model.vae.input(self.x)).chunk(2, 1)
        z, kl = model.vae.infer(self.x, key=key)
        f = model.vae.decode(z)
        primary = model.primary.log_prob(self.x, model.context(f))
        # Of two levels the bins are below and above the one edge, 1 level or 1 scaled; in levels
        # the mean is (f + 1)/2 and the scale half of exp(log_scale).
        logit = ((f + 1) / 2 - 1) / (0.5 * model.vae.target.likelihood.log_scale.exp())
        auxiliary = -nn.functional.softplus(torch.where(self.x == 1, -logit, logit))
        expected_kl = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum(1)
        torch.testing.assert_close(kl, expected_kl)
        for weight, auxiliary_weight in ((1.0, 0.0), (1.0, 1.0), (8.0, 1.0)):
            loss = model(self.x, kl_weight=weight, auxiliary_weight=auxiliary_weight, key=key)
            total = primary + auxiliary_weight * auxiliary.flatten(1).sum(1) - weight * expected_kl
            torch.testing.assert_close(loss, -total.mean())

    def test_the_bound_that_is_reported_has_weight_one_and_no_auxiliary_term(self):
        model, key = make(FULL), random_key()
        loss = model(self.x, kl_weight=1.0, auxiliary_weight=0.0, key=key)
        torch.testing.assert_close(model.bound(self.x, key=key).mean(), -loss)

    def test_apart_from_each_other_the_decoders_share_no_gradient(self):
        model = make(FULL)
        terms = model.loss_terms(self.x, joint=False)
        terms.primary.sum().backward(retain_graph=True)
        assert all(p.grad is None or p.grad.eq(0).all() for p in model.vae.parameters())
        model.zero_grad()
        (terms.auxiliary - terms.kl).sum().backward()
        assert all(p.grad is None for p in model.primary.parameters())
        assert any(p.grad.ne(0).any() for p in model.vae.encoder.parameters())

    @pytest.mark.parametrize("iaf_steps", [0, 1])
    def test_parts_of_a_batch_have_the_noise_of_the_whole(self, iaf_steps):
        model, key = make(FULL, iaf_steps=iaf_steps), random_key()
        for method in (model.bound, lambda x, **options: model.iw_bound(x, 4, chunk=3, **options)):
            whole = method(self.x, key=key)
            parts = [method(self.x[:2], key=key), method(self.x[2:], key=key, first=2)]
            torch.testing.assert_close(torch.cat(parts), whole)
            assert not torch.allclose(method(self.x[2:], key=key), whole[2:])

    def test_weights_with_an_autoregressive_posterior_are_those_of_its_density(self):
        """One latent: log w = log p(x | z) + log p(z) − log q(z | x), whose q is inverted."""
        model, key = make(FULL, iaf_steps=1).double(), random_key()
        seen = []
        weights = model.vae.log_weights(
            self.x, 3, lambda f, number: torch.zeros(len(f), dtype=f.dtype), key=key
        )
        decode = model.vae.decode
        model.vae.decode = lambda z: seen.append(z) or decode(z)
        model.vae.log_weights(self.x, 3, key=key)
        z = seen[0]
        parameters = model.vae.encoder(model.vae.input(self.x)).repeat_interleave(3, 0)
        mean, log_std, context = parameters.split([LATENTS, LATENTS, 3], 1)
        log_q = model.vae.posterior.log_prob(z, mean, log_std, context)
        log_p = Normal(0.0, 1.0).log_prob(z).sum(1)
        torch.testing.assert_close(weights.flatten(), log_p - log_q)


class Quadrature:
    """Exact numbers of a model with one latent, by a fine grid over it."""

    def __init__(self, model, x):
        self.grid = torch.linspace(-9, 9, 1001, dtype=torch.float64)
        self.log_width = math.log(self.grid[1] - self.grid[0])
        with torch.no_grad():
            context = model.context(model.vae.decode(self.grid[:, None]))
            self.log_likelihood = torch.stack(
                [
                    model.primary.log_prob(image.expand(len(context), *image.shape), context)
                    for image in x
                ]
            )  # [N, grid]
            mean, log_std = model.vae.encoder(model.vae.input(x)).chunk(2, 1)
        self.q, self.prior = Normal(mean, log_std.exp()), Normal(0.0, 1.0)
        self.log_q = self.q.log_prob(self.grid)
        joint = self.log_likelihood + self.prior.log_prob(self.grid)
        self.log_p = torch.logsumexp(joint, 1) + self.log_width
        self.log_posterior = joint - self.log_p[:, None]

    def mean_over_q(self, values):
        return (self.log_q.exp() * values).sum(1) * math.exp(self.log_width)

    @property
    def elbo(self):
        return self.mean_over_q(self.log_likelihood) - kl_divergence(self.q, self.prior).squeeze(1)

    @property
    def divergence(self):
        """KL(q(z | x) ‖ p(z | x))."""
        return self.mean_over_q(self.log_q - self.log_posterior)


class TestBounds:
    """All binary images of three pixels, and one latent."""

    target = FullResolutionTarget((1, 1, 3), 2)
    x = all_images((1, 1, 3))

    @pytest.fixture
    def model(self):
        return make(self.target, latents=1).double()

    def test_what_the_bound_loses(self, model):
        """(3.7) and (3.9) for a distribution p* of the images: −E[ELBO] = E[−log p + KL] ≥ H + KL,
        with the entropy H of p*."""
        exact = Quadrature(model, self.x)
        assert exact.log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-9)
        weights = torch.rand(8, generator=torch.Generator().manual_seed(3)).double()
        p = weights / weights.sum()
        loss = -(p * exact.elbo).sum()
        torch.testing.assert_close(loss, (p * (exact.divergence - exact.log_p)).sum())
        entropy, divergence = -(p * p.log()).sum(), (p * exact.divergence).sum()
        assert divergence > 0.01
        assert loss > entropy + divergence
        # With p* the model's own distribution, it is an equation.
        p = exact.log_p.exp()
        torch.testing.assert_close(
            -(p * exact.elbo).sum(), -(p * exact.log_p).sum() + (p * exact.divergence).sum()
        )

    def test_the_bound_is_unbiased(self, model):
        exact, num = Quadrature(model, self.x), 1500
        with torch.no_grad():
            draws = model.bound(self.x.repeat(num, 1, 1, 1), key=torch.tensor([0, 0]))
        draws = draws.view(num, -1)
        error = draws.std(0) / math.sqrt(num)
        assert ((draws.mean(0) - exact.elbo).abs() < 4.5 * error).all()

    def test_the_weighted_bound_grows_to_the_likelihood(self, model):
        exact, num = Quadrature(model, self.x), 200
        means, errors = [exact.elbo.mean()], [0.0]
        for k in (4, 24):
            with torch.no_grad():
                x = self.x.repeat(num, 1, 1, 1)
                draws = model.iw_bound(x, k, chunk=100_000, key=torch.tensor([1, 0]))
            draws = draws.view(num, -1).mean(1)
            means.append(draws.mean())
            errors.append((draws.std() / math.sqrt(num)).item())
        means.append(exact.log_p.mean())
        errors.append(0.0)
        for (low, high), (a, b) in zip(
            itertools.pairwise(means), itertools.pairwise(errors), strict=True
        ):
            assert high - low > 3 * math.hypot(a, b)
        assert means[-1] - means[-2] < 0.25 * (means[-1] - means[0])

    def test_one_latent_is_the_plain_bound(self):
        model = make(self.target, latents=1, iaf_steps=1)
        key = random_key()
        torch.testing.assert_close(model.iw_bound(self.x, 1, key=key), model.bound(self.x, key=key))


# Auxiliary images of two pixels or channels, so that all of them can be summed over.
TARGETS = [
    FullResolutionTarget((2, 1, 1), 16),
    FullResolutionTarget((1, 1, 2), 16, bins=4),
    DownSampledTarget((1, 2, 4), 2, 16),
    GrayscaleTarget((3, 1, 2), 16, bins=8),
    GrayscaleTarget((1, 1, 2), 16, bins=16),
]


class TestTargets:
    @pytest.mark.parametrize("target", TARGETS, ids=str)
    def test_probabilities_of_all_auxiliary_images_add_up_to_one(self, target):
        size = target.levels // target.bins
        y = size * all_images(target.shape, target.bins)
        generator = torch.Generator().manual_seed(0)
        for log_scale in (-6.0, -1.0, 2.0):
            target.likelihood.log_scale.data.fill_(log_scale)
            f = 2 * torch.randn(1, *target.shape, generator=generator)
            log_prob = target.log_prob(f.expand(len(y), -1, -1, -1), y)
            assert log_prob.exp().sum().item() == pytest.approx(1.0, abs=1e-5)

    @pytest.mark.parametrize("target", TARGETS, ids=str)
    def test_auxiliary_images_and_samples_are_multiples_of_the_bins(self, target):
        target.likelihood.log_scale.data.fill_(0.5)
        x = levels_like(target.image_shape, target.levels, 200)
        drawn = target.sample(
            torch.randn(200, *target.shape), generator=torch.Generator().manual_seed(0)
        )
        every = torch.arange(0, target.levels, target.levels // target.bins)
        for y in (target.target(x), drawn):
            assert y.shape == (200, *target.shape)
            assert set(y.unique().tolist()) <= set(every.tolist())
        assert torch.equal(target.target(x.to(torch.uint8)).long(), target.target(x))

    def test_samples_have_the_probabilities_of_the_likelihood(self):
        target = FullResolutionTarget((1, 1, 1), 16, bins=4)
        target.likelihood.log_scale.data.fill_(-1.0)
        f, num = torch.full((1, 1, 1, 1), 0.3), 20_000
        y = torch.arange(0, 16, 4).view(-1, 1, 1, 1)
        p = target.log_prob(f.expand(4, -1, -1, -1), y).exp()
        drawn = target.sample(f.expand(num, -1, -1, -1), generator=torch.Generator().manual_seed(0))
        found = torch.stack([(drawn == level).float().mean() for level in y.flatten()])
        assert ((found - p).abs() < 4 * (p * (1 - p) / num).sqrt()).all()

    def test_what_they_keep_of_an_image(self):
        x = torch.arange(16).view(1, 1, 4, 4)
        assert torch.equal(FullResolutionTarget((1, 4, 4), 16).target(x), x)
        quarter = FullResolutionTarget((1, 4, 4), 16, bins=4).target(x)
        assert torch.equal(quarter, torch.tensor([0, 4, 8, 12]).view(1, 1, 4, 1).expand_as(x))
        # Means 2.5, 4.5, 10.5, 12.5: halves go up.
        half = DownSampledTarget((1, 4, 4), 2, 16).target(x)
        assert half.flatten().tolist() == [3, 5, 11, 13]
        colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]])
        grey = GrayscaleTarget((3, 1, 1), 256, bins=256).target(colours.view(4, 3, 1, 1))
        assert grey.flatten().tolist() == [76, 150, 29, 255]
        grey = GrayscaleTarget((3, 1, 1), 256).target(colours.view(4, 3, 1, 1))
        assert grey.flatten().tolist() == [64, 144, 16, 240]

    @pytest.mark.parametrize(
        ("target", "shape"),
        [
            (FullResolutionTarget((3, 32, 32), bins=32), (3, 32, 32)),
            (DownSampledTarget((3, 32, 32), 2), (3, 16, 16)),
            (DownSampledTarget((3, 32, 32), 4), (3, 8, 8)),
            (GrayscaleTarget((3, 32, 32)), (1, 32, 32)),
        ],
        ids=str,
    )
    def test_f_is_repeated_over_the_pixels_that_it_stands_for(self, target, shape):
        assert target.shape == shape
        f = torch.randn(2, *shape)
        context = target.context(f)
        assert context.shape == (2, shape[0], 32, 32)
        factor = 32 // shape[1]
        for row, column in ((0, 0), (13, 30), (31, 31)):
            assert torch.equal(context[:, :, row, column], f[:, :, row // factor, column // factor])
        image = target.image(f)
        assert image.shape == (2, 3, 32, 32)
        assert image.min() == 0
        assert image.max() == 1

    def test_only_the_image_itself_has_its_likelihood(self):
        shape = (3, 4, 4)
        assert FullResolutionTarget(shape).determines_image
        assert not FullResolutionTarget(shape, bins=32).determines_image
        assert not DownSampledTarget(shape, 2).determines_image
        assert not GrayscaleTarget(shape).determines_image

    @pytest.mark.parametrize(
        ("make_target", "message"),
        [
            (lambda: FullResolutionTarget((1, 4, 4), 16, bins=5), "bins is 5"),
            (lambda: DownSampledTarget((1, 4, 6), 4), "factor is 4; expected a divisor"),
            (lambda: GrayscaleTarget((2, 4, 4)), "expected 1 or 3 channels"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, make_target, message):
        with pytest.raises(ValueError, match=message):
            make_target()


class TestUse:
    target = DownSampledTarget((3, 4, 4), 2, 4)

    @pytest.fixture
    def model(self):
        return make(self.target, plus_plus)

    def test_samples_and_their_f(self, model):
        x, f = model.sample(
            6, return_aux=True, method="naive", generator=torch.Generator().manual_seed(0)
        )
        assert (x.shape, f.shape) == ((6, 3, 4, 4), (6, 3, 2, 2))
        assert x.min() >= 0
        assert x.max() <= 3
        again = model.sample(6, method="naive", generator=torch.Generator().manual_seed(0))
        assert torch.equal(again, x)

    def test_pixels_have_the_probabilities_of_the_model(self):
        """First pixels of an image of two, given one z: a histogram of all images."""
        target = FullResolutionTarget((1, 1, 2), 2)
        model, num = make(target), 4000
        z = torch.randn(1, LATENTS, generator=torch.Generator().manual_seed(2))
        drawn = model.decode(
            z.expand(num, -1), method="naive", generator=torch.Generator().manual_seed(0)
        ).x
        every = all_images((1, 1, 2))
        context = model.context(model.vae.decode(z)).expand(4, -1, -1, -1)
        p = model.primary.log_prob(every, context).exp()
        found = torch.stack([(drawn == image).flatten(1).all(1).float().mean() for image in every])
        assert ((found - p).abs() < 4 * (p * (1 - p) / num).sqrt()).all()

    def test_lines_run_from_image_to_image(self, model):
        x = levels_like((3, 4, 4), 4, 4)
        lines = model.interpolate(x[:2], x[2:], 5, method="naive")
        assert lines.x.shape == (10, 3, 4, 4)
        ends = model.vae.decode(model.encode(x))
        f = lines.auxiliary.unflatten(0, (2, 5))
        torch.testing.assert_close(f[:, 0], ends[:2])
        torch.testing.assert_close(f[:, -1], ends[2:])
        middle = model.vae.decode((model.encode(x[:2]) + model.encode(x[2:])) / 2)
        torch.testing.assert_close(f[:, 2], middle)
        seen = model.reconstruct(x, method="naive").auxiliary
        torch.testing.assert_close(seen, ends)

    def test_latents_in_the_middle_of_the_posterior(self):
        model = make(self.target, iaf_steps=1)
        x = levels_like((3, 4, 4), 4, 3)
        mean, _, context = model.vae._posterior_of(x)
        z = model.encode(x)
        # Where the step's input is the mean.
        torch.testing.assert_close(model.vae.posterior.transform(z, context)[0], mean)

    def test_what_does_not_fit_is_refused(self):
        vae = make_vae(self.target)
        with pytest.raises(ValueError, match=r"primary makes images \[3, 4, 4\] of 2 levels"):
            AGAVE(vae, GatedPixelCNN((3, 4, 4), 6, 1, levels=2))
        with pytest.raises(ValueError, match="posterior has 3 latents"):
            AuxiliaryVAE(vae.encoder, vae.decoder, self.target, 2, posterior=FlowPosterior(3))
        with pytest.raises(ValueError, match="the encoder gives"):
            AuxiliaryVAE(vae.encoder, vae.decoder, self.target, 3)
        with pytest.raises(ValueError, match=r"the decoder gives \[2, 3, 2, 2\]"):
            AuxiliaryVAE(vae.encoder, vae.decoder, FullResolutionTarget((3, 4, 4), 4), LATENTS)
        with pytest.raises(ValueError, match=r"the decoder does not take \[2, 2\]"):
            AuxiliaryVAE(vae.encoder, ImageDecoder(5, (3, 2, 2)), self.target, LATENTS)
        with pytest.raises(ValueError, match="given maps of 3 channels; primary has context_chann"):
            AGAVE(vae, GatedPixelCNN((3, 4, 4), 6, 1, levels=4, context_channels=4))
        x = levels_like((3, 4, 4), 4, 1)
        with pytest.raises(ValueError, match="steps is 1; expected 2 or more"):
            make(self.target).interpolate(x, x, 1)


class TestRestrictedDecoders:
    def test_with_few_layers_a_pixel_sees_few_pixels(self):
        """Two layers of 3×3 see two pixels up and to each side; the rest has to come from z."""
        side, layers = 9, 2
        target = FullResolutionTarget((1, side, side), 2)
        model = make(target, lambda target: gated(target, layers, channel_groups=1))
        x, row, column = levels_like((1, side, side), 2, 1), 5, 4
        f = torch.zeros(1, 1, side, side)

        def parameters(x):
            return model.primary(x, model.context(f))[:, :, row, column]

        before = parameters(x)
        seen = torch.zeros(side, side, dtype=torch.bool)
        for i, j in itertools.product(range(side), repeat=2):
            moved = x.clone()
            moved[0, 0, i, j] = 1 - moved[0, 0, i, j]
            seen[i, j] = parameters(moved).ne(before).any()
        expected = torch.zeros_like(seen)
        expected[row - layers : row, column - layers : column + layers + 1] = True
        expected[row, column - layers : column] = True
        assert torch.equal(seen, expected)

    def test_a_grey_decoder_does_not_see_chroma(self):
        network = PixelCNNPlusPlus((3, 2, 2), 6, 1, 1, levels=256, dropout=0.0)
        model = randomize(GrayscaleDecoder(network))
        # Of luma 0.299·R + 0.587·G + 0.114·B = 100: grey, reddish, bluish, greenish.
        colours = torch.tensor([[100, 100, 100], [200, 50, 95], [60, 90, 256 - 1], [0, 160, 53]])
        luma = (colours * torch.tensor([299, 587, 114])).sum(1) / 1000
        same = (luma - 100).abs() < 0.5
        assert same.sum() >= 3
        images = colours[same].view(-1, 3, 1, 1).expand(-1, -1, 2, 2)
        parameters = model(images)
        assert torch.equal(parameters, parameters[:1].expand_as(parameters))
        # It does see luma.
        brighter = images[:1].clone()
        brighter[:, 1, 0, 0] += 50
        assert model(brighter)[0, :, 0, 1].ne(parameters[0, :, 0, 1]).any()

    def test_a_grey_decoder_sums_to_one(self):
        network = GatedPixelCNN((3, 1, 2), 6, 1, levels=2, channel_groups=1)
        model = randomize(GrayscaleDecoder(network))
        total = model.log_prob(all_images((3, 1, 2))).exp().sum()
        assert total.item() == pytest.approx(1.0, abs=1e-5)

    def test_a_grey_decoder_draws_naively(self):
        model = GrayscaleDecoder(GatedPixelCNN((3, 2, 2), 6, 1, levels=4, channel_groups=1))
        drawn = [
            model.sample(3, method=method, generator=torch.Generator().manual_seed(0))
            for method in ("incremental", "naive")
        ]
        assert drawn[0].shape == (3, 3, 2, 2)
        assert torch.equal(*drawn)
        with pytest.raises(ValueError, match="luma is not compiled"):
            model.plan(3)

    def test_a_grey_decoder_needs_colours(self):
        with pytest.raises(ValueError, match="expected 3 channels"):
            GrayscaleDecoder(GatedPixelCNN((1, 4, 4), 6, 1))
        with pytest.raises(ValueError, match="channel_groups 3; expected 3 channels, and 1"):
            GrayscaleDecoder(GatedPixelCNN((3, 4, 4), 6, 1))


class TestAuxiliaryPixelCNN:
    target = GrayscaleTarget((3, 1, 2), 4, bins=2)

    @pytest.fixture
    def model(self):
        auxiliary = GatedPixelCNN((1, 1, 2), 6, 1, levels=2)
        return randomize(AuxiliaryPixelCNN(auxiliary, *reversed_pair(gated(self.target))))

    def test_the_probabilities_of_all_pairs_add_up_to_one(self, model):
        """Σ p(y) p(x | y) = 1 over all x and y; over the y that belong to x it is less."""
        x = all_images((3, 1, 2), 4)
        y = all_images((1, 1, 2))
        joint = 0.0
        for auxiliary, log_p in zip(y, model.auxiliary.log_prob(y), strict=True):
            context = model.context(auxiliary[None]).expand(len(x), -1, -1, -1)
            conditional = model.primary.log_prob(x, context)
            joint += (log_p + conditional).exp().sum().item()
            # The bound of those images whose luma this is.
            own = (self.target.target(x) // 2 == auxiliary).flatten(1).all(1)
            torch.testing.assert_close(
                model.bound(x[own]), log_p + conditional[own], rtol=1e-4, atol=1e-4
            )
        assert joint == pytest.approx(1.0, abs=1e-4)
        assert model.bound(x).exp().sum() < 1

    def test_samples_come_with_their_auxiliary_images(self, model):
        x, y = model.sample(8, return_aux=True, method="naive")
        assert x.shape == (8, 3, 1, 2)
        # The middles of two bins of the range from -1 to 1.
        assert set(y.unique().tolist()) <= {-0.5, 0.5}

    def test_the_target_that_it_was_given_stays_as_it_was(self):
        target = GrayscaleTarget((3, 1, 2), 4, bins=2)
        auxiliary = GatedPixelCNN((1, 1, 2), 6, 1, levels=2)
        primary = GatedPixelCNN((3, 1, 2), 6, 1, levels=4, context_channels=1)
        model = AuxiliaryPixelCNN(auxiliary, primary, target)
        assert all(parameter.requires_grad for parameter in target.parameters())
        # All weights that it has to learn get a gradient.
        model.bound(levels_like((3, 1, 2), 4, 2)).sum().backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)

    def test_other_images_are_refused(self):
        primary, stack = gated(self.target)
        with pytest.raises(ValueError, match=r"auxiliary makes images \[1, 1, 2\] of 4 levels"):
            AuxiliaryPixelCNN(GatedPixelCNN((1, 1, 2), 6, 1, levels=4), primary, self.target, stack)


def reversed_pair(pair):
    """Of pixels and stack what an auxiliary pixelCNN takes, with the target between."""
    primary, stack = pair
    return primary, TestAuxiliaryPixelCNN.target, stack


class TestMarkovChains:
    """Binary chains that flip with probability 0.1, whose entropy is known. The autoregressive
    decoder can be exact, so that alone it has no use for latents."""

    def test_the_entropy(self):
        h = -FLIP * math.log(FLIP) - (1 - FLIP) * math.log(1 - FLIP)
        assert pytest.approx(math.log(2) + 15 * h) == ENTROPY
        x = chains(4000, torch.Generator().manual_seed(0)).flatten(1)
        flips = (x[:, 1:] != x[:, :-1]).float()
        assert flips.mean().item() == pytest.approx(FLIP, abs=0.006)
        assert x.float().mean().item() == pytest.approx(0.5, abs=0.03)

    @pytest.mark.slow
    def test_the_auxiliary_term_keeps_the_latents_in_use(self):
        """A tenth of the steps of the test below: the posterior collapses without the auxiliary
        term, does not with it, and is about to once the term is dropped."""
        alone = chain_model(seed=0)
        train(alone, 300, kl_weight=1.0, auxiliary_weight=0.0)
        primary, _, kl = costs(alone)
        assert kl < 0.05
        assert primary + kl == pytest.approx(ENTROPY, abs=0.1)

        guided = chain_model(seed=0)
        train(guided, 600, kl_weight=2.0)
        with_term = costs(guided)
        assert with_term.kl > 1.2
        assert with_term.primary < primary - 1.0
        train(guided, 300, kl_weight=1.0, auxiliary_weight=0.0)
        assert costs(guided).kl < 0.7 * with_term.kl

    @pytest.mark.long
    def test_information_preference(self):
        """The numbers of docs/agave.md."""
        alone = chain_model(seed=0)
        train(alone, 4000, kl_weight=1.0, auxiliary_weight=0.0)
        table = {"no auxiliary term": costs(alone)}
        for kl_weight in (1.0, 2.0, 4.0, 8.0):
            model = chain_model(seed=0)
            train(model, 4000, kl_weight=kl_weight)
            table[f"kl_weight {kl_weight:.0f}"] = costs(model)
            if kl_weight == 2.0:
                for steps in (500, 1000, 1500, 2000):
                    train(model, 500, kl_weight=1.0, auxiliary_weight=0.0)
                    table[f"then dropped, {steps} steps"] = costs(model)
        for name, cost in table.items():
            bound = cost.primary + cost.kl
            print(f"{name:28s}", *(f"{number:7.3f}" for number in (*cost, bound)))

        collapsed, guided = table["no auxiliary term"], table["kl_weight 2"]
        assert collapsed.kl < 0.05
        assert collapsed.primary + collapsed.kl == pytest.approx(ENTROPY, abs=0.06)
        assert guided.kl > 1.5
        assert guided.primary < collapsed.primary - 1.5
        assert table["then dropped, 2000 steps"].kl < 0.6
        kls = [table[f"kl_weight {kl_weight}"].kl for kl_weight in (1, 2, 4, 8)]
        assert kls == sorted(kls, reverse=True)
