"""Likelihood regret: linear models of known posteriors, and all that it must leave alone."""

import copy
import math

import pytest
import torch
from testing.latent_testing import double
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

from gencore.data import load_images
from gencore.inference import NormalParameters
from gencore.inference.networks_of_rows import NetworkOfRows, with_parts
from gencore.models import (
    VAE,
    FlowPosterior,
    GaussianLikelihood,
    Glow,
    LevelLikelihood,
    TopDownVAE,
    VectorLevel,
    likelihood_regret,
)
from gencore.nn import MLP, BottomUp, Categorical, DCGANDiscriminator, DCGANGenerator
from gencore.ops import split_key
from gencore.ops.random import stream_key

MODES = ("latents", "encoder", "decoder", "both")
KEY = torch.tensor([3, 0])
POINTS = double([[0.5, 1.0, -2.0], [3.0, 0.0, 1.0]])


def linear_vae(angle=0.8):
    """x = Wz + b + 0.6ε with an encoder that is wrong in its mean and in its width, and p(z | x)
    and p(x) in closed form. At the angle 0 the columns of W are orthogonal."""
    encoder, decoder = nn.Linear(3, 4).double(), nn.Linear(2, 3).double()
    with torch.no_grad():
        decoder.weight.copy_(double([[1.0, angle], [0.0, 1.2], [0.0, 0.5]]))
        decoder.bias.copy_(double([0.3, -1.0, 0.2]))
        weight, bias = decoder.weight, decoder.bias
        precision = weight.T @ weight / 0.36 + torch.eye(2).double()
        encoder.weight[:2] = torch.linalg.solve(precision, weight.T / 0.36)
        encoder.bias[:2] = -encoder.weight[:2] @ bias + double([0.5, -0.3])
        encoder.weight[2:] = 0
        encoder.bias[2:] = -0.2
    vae = VAE(encoder, decoder, 2, likelihood=GaussianLikelihood(0.6)).double()
    with torch.no_grad():
        mean = torch.linalg.solve(precision, weight.T @ (POINTS - bias).T / 0.36).T
        posterior = MultivariateNormal(mean, precision_matrix=precision.expand(2, 2, 2))
        density = MultivariateNormal(bias, weight @ weight.T + 0.36 * torch.eye(3).double())
        best = MultivariateNormal(mean, torch.diag_embed((1 / precision.diagonal()).expand(2, 2)))
    return vae, posterior, best, density.log_prob(POINTS)


def gaussian(q):
    return MultivariateNormal(q.mean.detach(), torch.diag_embed((2 * q.log_std.detach()).exp()))


def image_model():
    """Convolutions and batch normalisation, whose statistics are not those of a fresh layer."""
    torch.manual_seed(0)
    network = DCGANDiscriminator((1, 8, 8), width=4)
    encoder = nn.Sequential(network.features, nn.Linear(network.num_features, 6))
    decoder = DCGANGenerator(3, (4, 8, 8), width=4, pixel_range="free")
    vae = VAE(encoder, decoder, 3, likelihood=LevelLikelihood(Categorical(4), 1))
    vae(images(32)).loss.backward()
    vae.zero_grad()
    return vae


def images(num):
    return torch.randint(4, (num, 1, 8, 8), generator=torch.Generator().manual_seed(1)) / 3


def top_down():
    torch.manual_seed(0)
    encoder = BottomUp(nn.Linear(6, 8), nn.Linear(8, 5))
    levels = [
        VectorLevel(2, MLP(5, (8,), 4, zero_last=False)),
        VectorLevel(3, MLP(2 + 8, (8,), 6, zero_last=False), MLP(2, (8,), 6)),
    ]
    return TopDownVAE(encoder, levels, MLP(5, (8,), 6, zero_last=False))


class TestLinearModels:
    @pytest.mark.parametrize("of", ["latents", "encoder"])
    def test_y25_the_regret_is_a_difference_of_divergences(self, of):
        """E LR_1 = KL(q_φ ‖ p(z | x)) − KL(q̂ ‖ p(z | x)) with the best diagonal Gaussian q̂, and the
        bound after it log p(x) less that divergence."""
        vae, posterior, best, log_prob = linear_vae()
        gap = kl_divergence(best, posterior)
        expected = kl_divergence(gaussian(vae.encode(POINTS)), posterior) - gap
        assert (expected > 0.3).all()
        assert (gap > 0.05).all()
        x = POINTS.repeat(600, 1)
        found = likelihood_regret(
            vae, x, of, num_samples=1, num_steps=700, learning_rate=0.01, batch_size=1200, key=KEY
        )
        # What Adam's noise leaves of the way to the optimum is of second order.
        for point in range(2):
            values, after = found.regret[point::2], found.after[point::2]
            error = values.std() / math.sqrt(len(values))
            assert abs(values.mean() - expected[point]) < 4 * error + 0.01
            error = after.std() / math.sqrt(len(after))
            assert abs(after.mean() - (log_prob - gap)[point]) < 4 * error + 0.01
        torch.testing.assert_close(found.regret, found.after - found.before)

    def test_y25_the_regret_is_not_negative_and_vanishes_with_more_samples(self):
        """Where a Gaussian is the posterior, the bound after is log p(x), and no bound before is
        higher on average; with K it comes to the same."""
        vae, _, _, log_prob = linear_vae(angle=0.0)
        x = POINTS.repeat(200, 1)
        means = []
        for num in (1, 8, 64, 512):
            found = likelihood_regret(
                vae, x, "latents", num_samples=num, num_steps=500, learning_rate=0.01,
                batch_size=400, key=KEY,
            )  # fmt: skip
            for point in range(2):
                after = found.after[point::2]
                error = after.std().item() / math.sqrt(len(after))
                assert abs(after.mean() - log_prob[point]) < 4 * error + 0.005
            means.append(found.regret.mean().item())
            error = found.regret.std().item() / math.sqrt(len(x))
            assert means[-1] > -4 * error - 0.005
        assert means[0] > 2 * means[1] > 4 * means[2] > 8 * means[3]
        assert abs(means[3]) < 0.02

    def test_an_encoder_that_is_exact_has_none(self):
        vae, posterior, _, _ = linear_vae(angle=0.0)
        with torch.no_grad():
            vae.encoder.bias[:2] -= double([0.5, -0.3])
            vae.encoder.bias[2:] = posterior.covariance_matrix[0].diagonal().log() / 2
        found = likelihood_regret(vae, POINTS, "encoder", num_samples=1, key=KEY)
        torch.testing.assert_close(found.regret, torch.zeros_like(found.regret), rtol=0, atol=0.05)


class TestWhatItLeavesAlone:
    @pytest.mark.parametrize("of", MODES)
    def test_y25_y26_model_and_data_keep_their_bits(self, of):
        """So the decoder and the encoder of each data point are the trained ones again."""
        vae, x = image_model(), images(5)
        vae.decoder.eval()  # one part is in evaluation already
        before = copy.deepcopy(vae.state_dict())
        modes, pixels = [part.training for part in vae.modules()], x.clone()
        parts = list(vae.modules())
        found = likelihood_regret(vae, x, of, num_samples=2, num_steps=3, learning_rate=0.1)
        assert (found.regret != 0).all()
        assert not any(part.requires_grad for part in found)
        for name, part in vae.state_dict().items():
            assert torch.equal(part, before[name]), name
        assert [part.training for part in vae.modules()] == modes
        assert list(vae.modules()) == parts
        assert all(p.grad is None and p.requires_grad for p in vae.parameters())
        assert torch.equal(x, pixels)

    def test_also_where_it_fails(self):
        vae, x = image_model(), images(2)
        before = copy.deepcopy(vae.state_dict())
        with pytest.raises(ValueError, match="not finite"):
            likelihood_regret(
                vae, x, "both", num_samples=1, num_steps=3, learning_rate=1e30, key=KEY
            )
        assert all(torch.equal(part, before[name]) for name, part in vae.state_dict().items())
        assert vae.training

    @pytest.mark.parametrize("of", MODES)
    def test_y26_scores_do_not_depend_on_the_other_data(self, of):
        """As they would if what one data point was fitted to met the next one."""
        vae, x = image_model().double(), images(4).double()
        options = {"num_samples": 3, "num_steps": 4, "learning_rate": 0.02, "key": KEY}
        whole = likelihood_regret(vae, x, of, **options)
        parts = likelihood_regret(vae, x, of, **options, batch_size=3, chunk_size=2)
        alone = likelihood_regret(vae, x[2:3], of, **options, first=2)
        for all_of, cut, one in zip(whole, parts, alone, strict=True):
            torch.testing.assert_close(cut, all_of, rtol=1e-8, atol=1e-8)
            torch.testing.assert_close(one, all_of[2:3], rtol=1e-8, atol=1e-8)

    @pytest.mark.parametrize("of", MODES)
    def test_no_steps_give_no_regret(self, of):
        found = likelihood_regret(image_model(), images(3), of, num_samples=4, num_steps=0)
        assert torch.equal(found.regret, torch.zeros(3))


@pytest.mark.parametrize("of", ["encoder", "decoder", "both"])
def test_each_data_point_steps_as_by_torch_alone(of):
    """A copy of the model a data point, by torch's Adam, one after another."""
    vae, x, steps = image_model().double().eval(), images(3).double(), 4
    found = likelihood_regret(
        vae, x, of, num_samples=3, num_steps=steps, learning_rate=0.01, key=KEY
    )
    keys = split_key(stream_key(KEY, "latents"), steps)
    for row in range(3):
        copied = copy.deepcopy(vae)
        trained = {
            "encoder": copied.encoder.parameters(), "decoder": copied.decoder.parameters(),
            "both": copied.parameters(),
        }[of]  # fmt: skip
        optimizer = torch.optim.Adam(trained, 0.01)
        for key in keys:
            optimizer.zero_grad()
            (-copied.analytic_elbo(x[row : row + 1], key=key, first=row)).sum().backward()
            optimizer.step()
        with torch.no_grad():
            after = copied.log_prob_bound(x[row : row + 1], 3, key=KEY, first=row)
            reconstruction = copied.reconstruct(x[row : row + 1])
        torch.testing.assert_close(found.after[row : row + 1], after, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(
            found.reconstruction[row : row + 1], reconstruction, rtol=1e-6, atol=1e-7
        )


def test_y26_a_decoder_that_adapts_fits_the_data_themselves():
    """LR_D and LR_ED of the data are higher than LR_Z: nothing keeps the decoder from learning an
    image by heart, in the distribution or not."""
    torch.manual_seed(0)
    train, test = (load_images("digits", split=part).images / 255 for part in ("train", "test"))
    encoder = nn.Sequential(nn.Flatten(), MLP(64, (64,), 16, activation="relu", zero_last=False))
    decoder = nn.Sequential(
        MLP(8, (64,), 64, activation="relu", zero_last=False), nn.Unflatten(1, (1, 8, 8))
    )
    vae = VAE(encoder, decoder, 8, likelihood="bernoulli")
    optimizer = torch.optim.Adam(vae.parameters(), 3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        vae(train[torch.randint(len(train), (100,))]).loss.backward()
        optimizer.step()
    options = {"num_samples": 50, "num_steps": 50, "learning_rate": 1e-3, "key": KEY}
    found = {of: likelihood_regret(vae, test[:24], of, **options).regret for of in MODES}
    assert (found["decoder"] > found["latents"]).all()
    assert (found["both"] > found["latents"]).all()
    assert found["decoder"].mean() > 3 * found["latents"].mean()


class TestModels:
    @pytest.mark.parametrize("of", ["encoder", "decoder", "both"])
    def test_a_hierarchy(self, of):
        model = top_down()
        x = 2 * torch.randn(4, 6).repeat(50, 1)
        found = likelihood_regret(
            model, x, of, num_samples=1, num_steps=60, learning_rate=0.01, batch_size=200, key=KEY
        )
        assert found.regret.shape == (200,)
        assert found.regret.mean() > 0
        assert found.reconstruction.shape == x.shape

    def test_a_posterior_with_a_flow(self):
        flow = FlowPosterior(2, 3, hidden_widths=(4,))
        vae = VAE(MLP(3, (8,), 7), MLP(2, (8,), 3), 2, posterior_flow=flow)
        x = torch.randn(3, 3)
        found = likelihood_regret(vae, x, num_samples=5, num_steps=3, learning_rate=0.01)
        assert found.regret.isfinite().all()
        with pytest.raises(TypeError, match="has a flow, and cannot be given"):
            likelihood_regret(vae, x, "latents", num_samples=5)

    @pytest.mark.parametrize(("of", "num_steps"), [("latents", 300), ("encoder", 100)])
    def test_defaults_are_those_of_the_source(self, of, num_steps):
        vae, _, _, _ = linear_vae()
        stated = {"num_steps": num_steps, "learning_rate": 1e-4}
        found, expected = (
            likelihood_regret(vae, POINTS, of, num_samples=1, key=KEY, **given)
            for given in ({}, stated)
        )
        assert torch.equal(found.regret, expected.regret)

    def test_half_precision(self):
        vae, x = image_model().bfloat16(), images(2).bfloat16()
        found = likelihood_regret(vae, x, num_samples=2, num_steps=2, learning_rate=0.01)
        assert found.reconstruction.dtype == torch.bfloat16
        assert found.regret.isfinite().all()

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"of": "z"}, ValueError, "of is 'z'; expected one of latents, encoder, decoder, both"),
            ({"num_samples": 0}, ValueError, "num_samples is 0; expected 1 or more"),
            ({"num_steps": 0.5}, TypeError, "num_steps must be an integer"),
            ({"batch_size": 0}, ValueError, "batch_size is 0"),
            ({"learning_rate": -1.0}, ValueError, "learning_rate"),
            ({"x": torch.zeros(0, 3)}, ValueError, r"x has shape \[0, 3\]; expected \[N, ...\]"),
            ({"x": torch.zeros(2, 3).long()}, TypeError, "likelihood_regret: x"),
            ({"model": Glow((1, 4, 4), num_levels=1, num_steps=1)}, TypeError, "model is a Glow"),
            ({"model": top_down(), "of": "latents"}, TypeError, "posterior of a TopDownVAE"),
        ],
    )
    def test_what_cannot_be_scored(self, change, error, message):
        vae = VAE(MLP(3, (4,), 4), MLP(2, (4,), 3), 2)
        given = {"model": vae, "x": torch.zeros(2, 3), "of": "encoder", "num_samples": 1, **change}
        with pytest.raises(error, match=message):
            likelihood_regret(**given)


class TestNetworksOfRows:
    def test_rows_are_networks_of_their_own(self):
        torch.manual_seed(0)
        networks = [MLP(3, (5,), 2, zero_last=False).double() for _ in range(3)]
        of_rows = NetworkOfRows(networks[0])
        of_rows.rows = torch.stack([NetworkOfRows(network).start for network in networks])
        x = torch.randn(6, 3).double()
        expected = [net(part) for net, part in zip(networks, x.split(2), strict=True)]
        torch.testing.assert_close(of_rows(x), torch.cat(expected))

    def test_a_network_without_parameters(self):
        with pytest.raises(ValueError, match="NetworkOfRows: Flatten has no parameters"):
            NetworkOfRows(nn.Flatten())

    def test_a_twin_shares_the_rest(self):
        vae = VAE(MLP(3, (4,), 4), MLP(2, (4,), 3), 2)
        encoder, decoder = vae.encoder, vae.decoder
        twin = with_parts(vae, decoder=nn.Linear(2, 3))
        assert twin.encoder is vae.encoder is encoder
        assert vae.decoder is decoder is not twin.decoder
        assert isinstance(twin.encode(torch.zeros(1, 3)), NormalParameters)
