"""Discriminators trained on samples: classifiers of Gaussians, and auto-encoders as energies."""

import math

import pytest
import torch
from torch.distributions import Normal

from gencore.models import AutoencoderEnergy
from gencore.nn import MLP, stop_gradient
from gencore.objectives import (
    EnergyGame,
    HingeGame,
    LeastSquaresGame,
    LogisticGame,
    pulling_away_term,
)

DATA, MODEL = Normal(0.0, 1.0), Normal(1.0, 0.7)


def quantiles(law, num):
    """num points of which each stands for as much of the law's mass, [num, 1]."""
    return law.icdf((torch.arange(num, dtype=torch.float64) + 0.5) / num)[:, None]


def trained(game):
    """A network whose scores minimise the game's loss over both laws: by sums over a grid, since
    points of the laws would say nothing of what lies beyond the outermost of them."""
    torch.manual_seed(0)
    network = MLP(1, (32,), 1, activation="tanh", zero_last=False).double()
    x = torch.linspace(-6, 6, 601, dtype=torch.float64)[:, None]
    p, q = (0.02 * law.log_prob(x).exp() for law in (DATA, MODEL))
    nothing, each = torch.zeros_like(x), torch.vmap(game.discriminator_loss)
    optimizer = torch.optim.LBFGS(
        network.parameters(), max_iter=400, history_size=20, tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss():
        optimizer.zero_grad()
        scores = network(x)
        # Of a score of data and one of samples the loss is a sum, of which the other term stands.
        terms = p.T @ each(scores, nothing) + q.T @ each(nothing, scores)
        terms.backward()
        return terms

    optimizer.step(loss)
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def classifier():
    """A logit of x, trained to tell two Gaussians."""
    return trained(LogisticGame())


class TestClassifier:
    """On the interval from the first to the last .05 % of either law, with .1 % of neither
    outside."""

    SHARES = torch.tensor([0.0005, 0.9995])
    ENDS = torch.cat([DATA.icdf(SHARES), MODEL.icdf(SHARES)])
    X = torch.linspace(ENDS.min(), ENDS.max(), 4001, dtype=torch.float64)[:, None]
    LOG_RATIO = DATA.log_prob(X) - MODEL.log_prob(X)

    def test_it_is_the_ratio_of_the_densities(self, classifier):
        error = (classifier(self.X).sigmoid() - self.LOG_RATIO.sigmoid()).abs()
        assert error.max() < 0.02
        assert (0.5 - self.LOG_RATIO.sigmoid()).abs().mean() > 0.2  # what D = ½ would have

    def test_least_squares_have_the_same_best_discriminator(self):
        error = (trained(LeastSquaresGame())(self.X) - self.LOG_RATIO.sigmoid()).abs()
        assert error.max() < 0.02

    def test_its_losses_are_divergences(self, classifier):
        """Against quadrature: 2 ln 2 − 2 JS, and KL(p_θ‖p*) of the combined loss."""
        x = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
        p, q = DATA.log_prob(x).exp(), MODEL.log_prob(x).exp()
        m = (p + q) / 2
        js = torch.trapezoid((p * (p / m).log() + q * (q / m).log()) / 2, x).item()
        reverse_kl = torch.trapezoid(q * (q / p).log(), x).item()
        real, fake = (classifier(quantiles(law, 2000)) for law in (DATA, MODEL))
        loss = LogisticGame().discriminator_loss(real, fake).item()
        assert loss == pytest.approx(2 * math.log(2) - 2 * js, abs=2e-3)
        combined = LogisticGame("combined").generator_loss(fake).item()
        assert combined == pytest.approx(reverse_kl, abs=0.02)


@pytest.mark.parametrize("game", [LogisticGame(), HingeGame(), LeastSquaresGame()], ids=repr)
def test_the_generator_s_gradient_moves_it_to_the_data(classifier, game):
    """A shifted Gaussian, whose samples should go left and spread."""
    shift = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    game.generator_loss(stop_gradient(classifier)(quantiles(MODEL, 200) + shift)).backward()
    assert shift.grad > 0


class TestAutoencoder:
    """Auto-encoders of a circle in the plane, in the game of energies."""

    MARGIN = 1.0

    def circle(self, num=128):
        angle = 2 * math.pi * torch.rand(num)
        return torch.stack([angle.cos(), angle.sin()], 1)

    @pytest.fixture
    def energy(self):
        torch.manual_seed(0)
        return AutoencoderEnergy(
            MLP(2, (32,), 8, zero_last=False), MLP(8, (32,), 2, zero_last=False)
        )

    def test_data_alone_bring_all_energies_down(self, energy):
        """An auto-encoder of wide codes then is the identity, and no energy elsewhere is high."""
        optimizer = torch.optim.Adam(energy.parameters(), 1e-2)
        for _ in range(200):
            optimizer.zero_grad()
            energy(self.circle()).mean().backward()
            optimizer.step()
        assert energy(self.circle()).mean() < 1e-3

    def test_the_game_with_a_generator_raises_the_energy_elsewhere(self, energy):
        """Of noise as far from the origin, in the mean square, as the circle is."""

        @torch.no_grad()
        def ratio():
            return (
                energy(0.5**0.5 * torch.randn(1000, 2)).mean() / energy(self.circle(1000)).mean()
            ).item()

        assert ratio() == pytest.approx(1, abs=0.2)
        generator, game = MLP(2, (32,), 2, zero_last=False), EnergyGame(self.MARGIN)
        optimizers = [
            torch.optim.Adam(player.parameters(), 2e-3, betas=(0.5, 0.999))
            for player in (energy, generator)
        ]
        for _ in range(500):
            fake = generator(torch.randn(128, 2))
            optimizers[0].zero_grad()
            game.discriminator_loss(energy(self.circle()), energy(fake.detach())).backward()
            optimizers[0].step()
            optimizers[1].zero_grad()
            energies, codes = energy.energy_and_codes(fake)
            (game.generator_loss(energies) + 0.1 * pulling_away_term(codes)).backward()
            optimizers[1].step()
        assert ratio() > 5
        with torch.no_grad():
            radius = generator(torch.randn(1000, 2)).norm(dim=1).mean().item()
        assert radius == pytest.approx(1, abs=0.15)

    def test_above_the_margin_samples_train_the_generator_alone(self, energy):
        game, far = EnergyGame(self.MARGIN), 10 * self.circle(8)
        assert energy(far).min() > self.MARGIN
        fake = far.requires_grad_()
        loss = game.discriminator_loss(torch.zeros(1), energy(fake))
        assert not any(g.any() for g in torch.autograd.grad(loss, energy.parameters()))
        (pull,) = torch.autograd.grad(game.generator_loss(energy(fake)), fake)
        assert (pull.norm(dim=1) > 0).all()

    def test_gradients(self):
        """Of the losses in all weights, with samples on both sides of the margin."""
        torch.manual_seed(0)
        energy = AutoencoderEnergy(
            MLP(2, (6,), 3, zero_last=False), MLP(3, (6,), 2, zero_last=False)
        ).double()
        x = torch.tensor([[0.3, -0.2], [1.0, 2.0], [0.1, 0.4]], dtype=torch.float64)
        margin = energy(x)[[1, 2]].mean().item()
        for game in (EnergyGame(margin), EnergyGame(margin, power=2)):
            values = [parameter.detach().clone() for parameter in energy.parameters()]
            names = [name for name, _ in energy.named_parameters()]

            def loss(*values, game=game, names=names):
                weights = dict(zip(names, values, strict=True))
                energies = torch.func.functional_call(energy, weights, (x,))
                return game.discriminator_loss(energies[:1], energies[1:])

            assert torch.autograd.gradcheck(loss, [v.requires_grad_() for v in values])

    def test_energies_and_codes_are_those_of_the_methods(self, energy):
        x = self.circle(5)
        energies, codes = energy.energy_and_codes(x)
        assert torch.equal(codes, energy.encode(x))
        torch.testing.assert_close(energies, (energy.reconstruct(x) - x).square().sum(1))
