"""AV-ADE: the two criteria, where their gradients go, and the models that it is compared with."""

import math

import pytest
import torch
from testing.flow_testing import randn, ready
from torch import nn

from gencore.models import ADE_MODELS, AVADE, VADE, ImageFeatures
from gencore.nn import MLP, AffineCoupling, Compose, Transform

KEY = torch.tensor([5, 0])
SHAPE = (1, 4, 4)


def networks(seed=0):
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Flatten(), MLP(16, (8,), 4, zero_last=False))
    decoder = nn.Sequential(MLP(2, (8,), 16, zero_last=False), nn.Unflatten(1, SHAPE))
    critic = nn.Sequential(nn.Flatten(), MLP(16, (8,), 1, zero_last=False))
    return encoder.double(), decoder.double(), critic.double()


def make(features=None, **options):
    """A model of images of 4 x 4 pixels, and its critic."""
    encoder, decoder, critic = networks()
    if features is None:
        torch.manual_seed(1)
        features = ready(ImageFeatures(SHAPE, hidden_channels=4, num_blocks=1), 0.1)
    return AVADE(encoder, decoder, features, 2, **options).double(), critic


def gradients(module):
    return [weight.grad for weight in module.parameters()]


class Untouched(Transform):
    """A flow with weights that is the identity, without rounding."""

    def __init__(self):
        super().__init__()
        self.coupling = AffineCoupling(MLP(1, (3,), 2), mask="channel")

    def forward(self, x, context=None):
        z, log_det = self.coupling(x.reshape(-1, 2))
        return z.view_as(x), log_det.view(len(x), -1).sum(1)

    def inverse(self, z, context=None):
        x, log_det = self.coupling.inverse(z.reshape(-1, 2))
        return x.view_as(z), log_det.view(len(z), -1).sum(1)


class TestCriteria:
    def test_quality_is_minus_the_mean_logit_of_the_means_of_samples(self):
        model, critic = make(adversarial_weight=7.0)
        x = randn(5, *SHAPE)
        loss, coverage, quality = model.loss(x, critic, key=KEY)
        torch.testing.assert_close(quality, -critic(model.sample(5, noise=False, key=KEY)).mean())
        torch.testing.assert_close(coverage, -model.elbo(x, key=KEY).mean())
        torch.testing.assert_close(loss, coverage + 7 * quality)

    def test_with_noise_it_is_that_of_the_model_s_own_samples(self):
        """Algorithm 1 in the place of (5.6)."""
        model, critic = make(sample_noise=True)
        quality = model.loss(randn(5, *SHAPE), critic, key=KEY).quality
        torch.testing.assert_close(quality, -critic(model.sample(5, key=KEY)).mean())

    def test_of_the_best_linear_critic_it_is_the_divergence(self):
        """Data N(0, 1) and samples N(m, 1): ln p*(x)/p(x) = m²/2 − mx, and L_Q is KL = m²/2."""
        mean = 1.5
        decoder = nn.Linear(1, 1).double()
        nn.init.ones_(decoder.weight)
        nn.init.constant_(decoder.bias, mean)
        network = nn.Linear(1, 1).double()
        nn.init.constant_(network.weight, -mean)
        nn.init.constant_(network.bias, mean**2 / 2)
        model = AVADE(nn.Linear(1, 2).double(), decoder, Compose(), 1).double()
        num = 100_000
        quality = model.loss(randn(num, 1), network, key=KEY).quality
        assert quality.item() == pytest.approx(mean**2 / 2, abs=4 * mean / math.sqrt(num))

    def test_without_a_critic_it_is_v_ade(self):
        model, _ = make()
        plain = VADE(model.encoder, model.decoder, model.features, 2).double()
        x = randn(5, *SHAPE)
        loss, coverage, quality = model.loss(x, key=KEY)
        assert torch.equal(loss, plain(x, key=KEY))
        assert torch.equal(coverage, loss)
        assert quality is None
        assert torch.equal(model.sample(3, key=KEY), plain.sample(3, key=KEY))

    def test_the_identity_makes_it_av_gde(self):
        """Bit for bit, gradients among them."""
        x, found = randn(5, *SHAPE), []
        for features in (Untouched().double(), Compose()):
            model, critic = make(features)
            loss = model.loss(x, critic, key=KEY)
            loss.loss.backward()
            samples = model.adversarial_samples(5, key=KEY).detach()
            shared = [model.log_std.grad, *gradients(model.encoder), *gradients(model.decoder)]
            found.append([*loss, samples, *shared])
        for one, other in zip(*found, strict=True):
            assert torch.equal(one, other)

    def test_parts_of_a_batch_have_the_noise_of_the_whole(self):
        model, critic = make(sample_noise=True)
        x = randn(6, *SHAPE)
        whole = model.loss(x, critic, key=KEY)
        parts = [model.loss(x[i : i + 3], critic, key=KEY, first=i) for i in (0, 3)]
        for one, *others in zip(whole, *parts, strict=True):
            torch.testing.assert_close(one, sum(others) / 2)


class TestGradients:
    @pytest.mark.parametrize("train_features", [False, True])
    def test_the_adversary_moves_the_decoder_and_the_flow_only_if_told(self, train_features):
        model, critic = make(train_features=train_features)
        model.loss(randn(5, *SHAPE), critic, key=KEY).quality.backward()
        assert all(grad.abs().sum() > 0 for grad in gradients(model.decoder))
        assert all(grad is None for grad in (*gradients(model.encoder), *gradients(critic)))
        flow = gradients(model.features)
        if train_features:
            assert sum(0 if grad is None else grad.abs().sum() for grad in flow) > 0
        else:
            assert all(grad is None for grad in flow)

    @pytest.mark.parametrize("train_features", [False, True])
    def test_it_passes_through_the_inverse_to_the_decoder(self, train_features):
        """As derivatives of the critic at f⁻¹ along one weight of the decoder."""
        model, critic = make(train_features=train_features)
        model.loss(randn(5, *SHAPE), critic, key=KEY).quality.backward()
        bias = list(model.decoder.parameters())[-1]
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                bias[3] += step
                values.append(-critic(model.sample(5, noise=False, key=KEY)).mean())
                bias[3] -= step
        torch.testing.assert_close(bias.grad[3], (values[0] - values[1]) / 2e-5)

    def test_the_flow_is_trained_by_the_likelihood(self):
        """Its gradient is that of L_C alone, whatever the weight of L_Q."""
        x, found = randn(5, *SHAPE), []
        for critic_weight in (0.0, 100.0):
            model, critic = make(adversarial_weight=critic_weight)
            model.loss(x, critic, key=KEY).loss.backward()
            found.append(gradients(model.features))
        assert any(grad is not None and grad.abs().sum() > 0 for grad in found[0])
        for one, other in zip(*found, strict=True):
            assert one is other is None or torch.equal(one, other)

    def test_a_gan_trains_its_decoder_alone(self):
        model, critic = make(Compose(), coverage=False, adversarial_weight=1.0)
        x = randn(5, *SHAPE)
        loss, coverage, quality = model.loss(x, critic, key=KEY)
        assert coverage is None
        assert torch.equal(loss, quality)
        loss.backward()
        trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
        assert trained == {name for name, w in model.named_parameters() if w.grad is not None}
        assert all(name.startswith("decoder") for name in trained)
        with pytest.raises(ValueError, match="without coverage the loss needs a critic"):
            model.loss(x)

    def test_running_averages_are_those_of_data(self):
        """With batch normalisation in f the adversary's samples leave it alone, and take it."""
        torch.manual_seed(0)
        features = ImageFeatures(SHAPE, hidden_channels=4, batch_norm=True).double()
        model, _ = make(features)
        x = randn(32, *SHAPE)
        model(x)
        before = {name: value.clone() for name, value in model.features.named_buffers()}
        samples = model.adversarial_samples(5, key=KEY)
        assert model.features.training
        assert all(torch.equal(v, before[name]) for name, v in model.features.named_buffers())
        model.eval()
        torch.testing.assert_close(samples, model.sample(5, noise=False, key=KEY))


class TestEncoderInput:
    def test_both_bounds_are_of_the_same_likelihood(self):
        """Many importance samples of q(z | x) and of q(z | f(x)) agree on log p(x)."""
        torch.manual_seed(0)
        flow = ready(AffineCoupling(MLP(1, (8,), 2)), 0.3)
        encoder, decoder = MLP(2, (8,), 2, zero_last=False), MLP(1, (8,), 2, zero_last=False)
        models = [
            VADE(encoder, decoder, flow, 1, encoder_input=name).double()
            for name in ("features", "data")
        ]
        x = randn(4, 2)
        weights = [model.log_weights(x, 20_000, key=KEY).exp().detach() for model in models]
        means = [weight.mean(1) for weight in weights]
        error = sum(weight.var(1) for weight in weights).sqrt() / math.sqrt(20_000)
        assert ((means[0] - means[1]).abs() < 4 * error).all()
        for model, seen in zip(models, (flow(x)[0], x), strict=True):
            torch.testing.assert_close(torch.cat(model.encode(x), 1), encoder(seen))

    def test_another_is_refused(self):
        with pytest.raises(ValueError, match="VADE: encoder_input is 'z'; expected one of feature"):
            VADE(nn.Linear(2, 2), nn.Linear(1, 2), Compose(), 1, encoder_input="z")


def test_the_table_of_models():
    """Table 5.1: f_ψ, adversary, likelihood."""
    assert {name: tuple(map(int, model)) for name, model in ADE_MODELS.items()} == {
        "gan": (0, 1, 0), "vae": (0, 0, 1), "vade": (1, 0, 1), "avgde": (0, 1, 1),
        "avade": (1, 1, 1),
    }  # fmt: skip


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="AVADE: adversarial_weight must be finite and not"):
        make(adversarial_weight=-1.0)
    with pytest.raises(ValueError, match=r"AVADE: adversarial_weight .* got nan"):
        make(adversarial_weight=math.nan)
