"""Generative latent flow: who gets which gradient, and the degeneracy (Yan 2022, §3.2.3)."""

import math

import pytest
import torch
from testing.chain_testing import assert_means
from testing.latent_testing import Affine, LinearPosterior, double
from torch import nn

from gencore.models import (
    VAE,
    Autoencoder,
    CouplingFlow,
    Flow,
    FrozenGenerator,
    GenerativeLatentFlow,
    LatentEBM,
)
from gencore.nn import MLP, MLPEnergy, PerceptualDistance

X = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def small(regularised=False, **options):
    torch.manual_seed(0)
    encoder, decoder = MLP(3, (8,), 2, zero_last=False), MLP(2, (8,), 3, zero_last=False)
    flow = CouplingFlow(2, num_layers=2, hidden_widths=(8,))
    autoencoder = Autoencoder(encoder, decoder, 2)
    return GenerativeLatentFlow(autoencoder, flow, regularised=regularised, **options).double()


def fitted(codes):
    """The affine flow of the largest likelihood: A Aᵀ and b are the codes' covariance and mean."""
    mean = codes.mean(0)
    covariance = (codes - mean).T @ (codes - mean) / len(codes)
    return Flow(Affine(torch.linalg.cholesky(covariance), mean), [codes.shape[1]]), covariance


def gradients(value, module):
    weights = list(module.parameters())
    found = torch.autograd.grad(value, weights, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]


class TestGradients:
    def test_the_density_moves_the_encoder_only_where_it_regularises(self):
        for regularised in (False, True):
            model = small(regularised)
            encoder = gradients(model(X).nll, model.autoencoder.encoder)
            assert all((g.abs().sum() > 0) == regularised for g in encoder)
            assert all((g == 0).all() for g in gradients(model(X).nll, model.autoencoder.decoder))

    def test_one_stage_has_the_gradients_of_two(self):
        model = small()
        loss = model(X).loss
        codes, error = model.autoencoder(X)
        stages = error.mean(), -model.flow.log_prob(codes.detach()).mean()
        for stage, part in zip(stages, (model.autoencoder, model.flow), strict=True):
            torch.testing.assert_close(gradients(loss, part), gradients(stage, part))
            assert all(g.abs().sum() > 0 for g in gradients(loss, part))

    def test_the_weight_is_that_of_the_reconstruction(self):
        terms = small(True, recon_weight=7.0)(X)
        torch.testing.assert_close(terms.loss, 7 * terms.reconstruction + terms.nll)
        decoded = small().reconstruct(X)
        expected = 0.5 * (X - decoded).square().sum(1).mean()
        torch.testing.assert_close(terms.reconstruction, expected)


class TestDegeneracy:
    @pytest.mark.parametrize("c", [0.5, 0.01])
    def test_smaller_codes_gain_the_logarithm_of_their_scale(self, c):
        """With the flow fitted anew; the decoder undoes c, so that nothing else changes."""
        losses = []
        for scale in (1.0, c):
            encoder, decoder = nn.Linear(3, 2).double(), nn.Linear(2, 3).double()
            torch.manual_seed(0)
            for network, factor in ((encoder, scale), (decoder, 1 / scale)):
                weight = torch.randn(network.weight.shape, dtype=torch.float64)
                network.weight.data.copy_(factor * weight)
                network.bias.data.zero_()
            autoencoder = Autoencoder(encoder, decoder, 2)
            flow, _ = fitted(autoencoder.encode(X).detach())
            losses.append(GenerativeLatentFlow(autoencoder, flow, regularised=True)(X))
        torch.testing.assert_close(losses[0].reconstruction, losses[1].reconstruction)
        fall = losses[0].nll - losses[1].nll
        torch.testing.assert_close(fall, double(2 * math.log(1 / c)))

    def test_the_fitted_flow_reaches_the_entropy_of_a_gaussian(self):
        """½ log det(2πe C), and its samples have the moments of the codes."""
        identity = nn.Identity()
        flow, covariance = fitted(X)
        model = GenerativeLatentFlow(Autoencoder(identity, identity, 3), flow)
        expected = 0.5 * torch.logdet(2 * math.pi * math.e * covariance)
        torch.testing.assert_close(model(X).nll, expected)
        assert model(X).reconstruction == 0
        with torch.no_grad():
            z = model.sample(20_000, key=torch.tensor([1, 0])) - X.mean(0)
        assert_means(z, torch.zeros(3))
        assert_means(z[:, :, None] * z[:, None], covariance)


def test_the_limit_of_a_narrow_posterior_is_the_regularised_loss():
    """ELBO_Flow less the posterior's entropy tends to −(3.2) less ½ D log 2π."""
    torch.manual_seed(0)
    weight = torch.randn(2, 3, dtype=torch.float64)
    decoder = MLP(2, (8,), 3, zero_last=False).double()
    flow = CouplingFlow(2, num_layers=2, hidden_widths=(8,)).double()
    encoder = nn.Linear(3, 2, bias=False).double()
    encoder.weight.data.copy_(weight)
    glf = GenerativeLatentFlow(Autoencoder(encoder, decoder, 2), flow, regularised=True)
    expected = -glf(X).loss.detach() - 1.5 * math.log(2 * math.pi)
    zero, gaps = double([0.0, 0.0, 0.0]), []
    for width in (0.3, 0.1, 1e-4):
        std = torch.full((2,), width, dtype=torch.float64)
        vae = VAE(LinearPosterior(weight, (zero, zero[:2]), std), decoder, 2, prior=flow)
        entropy = math.log(2 * math.pi * math.e) + 2 * math.log(width)
        values = vae.log_weights(X, 2000, key=torch.tensor([1, 0])).detach().flatten() - entropy
        gaps.append(values.mean() - expected)
    # −log q alone has the standard deviation 1 of two halves of χ².
    assert abs(gaps[-1]) < 4 / math.sqrt(values.numel())
    assert abs(gaps[-1]) < abs(gaps[1]) < abs(gaps[0])


def test_noise_of_data_reconstructs_them():
    model = small()
    noise = model.encode_noise(X)
    torch.testing.assert_close(model.decode_noise(noise), model.reconstruct(X))
    ends = model.interpolate(noise[:2], noise[2:4], 3)
    torch.testing.assert_close(ends[:, 0], model.reconstruct(X[:2]))
    torch.testing.assert_close(ends[:, 2], model.reconstruct(X[2:4]))
    middle = model.decode_noise((noise[:2] + noise[2:4]) / 2)
    torch.testing.assert_close(ends[:, 1], middle)


class TestPerceptualDistance:
    def stages(self):
        torch.manual_seed(0)
        return nn.Conv2d(1, 4, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 2, 3))

    def test_it_is_the_mean_difference_at_each_depth(self):
        first, second = self.stages()
        x, y = torch.rand(2, 3, 1, 8, 8).unbind()
        expected = torch.zeros(3)
        for a, b in (
            (x, y), (first(x), first(y)), (second(first(x)), second(first(y))),
        ):  # fmt: skip
            expected += torch.stack([(p - q).abs().mean() for p, q in zip(a, b, strict=True)])
        distance = PerceptualDistance((first, second))
        torch.testing.assert_close(distance(x, y), expected)
        assert (distance(x, x) == 0).all()
        with pytest.raises(ValueError, match=r"x has shape \[3, 1, 8, 8\] and y \[1, 1, 8, 8\]"):
            distance(x, y[:1])
        with pytest.raises(ValueError, match="stages is empty"):
            PerceptualDistance(())

    def test_the_network_of_the_features_is_frozen(self):
        """It has no gradients, the decoder has, and it stays in evaluation."""
        stages = (*self.stages(), nn.BatchNorm2d(2))
        distance = PerceptualDistance(stages)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        decoder = nn.Sequential(nn.Linear(2, 64), nn.Unflatten(1, (1, 8, 8)))
        autoencoder = Autoencoder(encoder, decoder, 2, distance=distance)
        model = GenerativeLatentFlow(autoencoder, CouplingFlow(2, hidden_widths=(4,))).train()
        before = {name: value.clone() for name, value in distance.state_dict().items()}
        optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], 0.1)
        model(torch.rand(5, 1, 8, 8)).loss.backward()
        optimizer.step()
        assert not any(stage.training for stage in distance.stages.modules())
        assert all(weight.grad is None for weight in distance.parameters())
        assert all(weight.grad.abs().sum() > 0 for weight in autoencoder.encoder.parameters())
        for name, value in distance.state_dict().items():
            assert torch.equal(value, before[name])


def test_a_latent_ebm_trains_on_a_frozen_copy():
    model = small().float()
    base = FrozenGenerator(model)
    ebm = LatentEBM(base, MLPEnergy(3, (8,)), (base.noise_size,), num_steps=2).train()
    ebm(X.float(), ebm.start(50)).loss.backward()
    assert not any(weight.requires_grad for weight in base.parameters())
    assert all(weight.requires_grad for weight in model.parameters())
    assert not base.model.training
    u = torch.randn(4, 2)
    torch.testing.assert_close(base(u), model.eval().decode_noise(u))


def test_shapes_that_do_not_fit_are_named():
    encoder, decoder = MLP(3, (), 2), MLP(2, (), 3)
    with pytest.raises(ValueError, match=r"GenerativeLatentFlow: the flow is over \[3\]"):
        GenerativeLatentFlow(Autoencoder(encoder, decoder, 2), CouplingFlow(3, hidden_widths=(4,)))
    with pytest.raises(ValueError, match=r"encoder gives \[5, 2\] .* expected \[5, 1\]"):
        Autoencoder(encoder, decoder, 1)(torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"decoder gives \[5, 4\] for data \[5, 3\]"):
        Autoencoder(encoder, MLP(2, (), 4), 2)(torch.zeros(5, 3))
