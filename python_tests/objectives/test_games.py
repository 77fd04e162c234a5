"""The games of adversarial training: exact sums over a few symbols, for every game alike."""

import math

import pytest
import torch
from torch import nn

from gencore.objectives import (
    AdversarialGame,
    EnergyGame,
    FDivergenceGame,
    HingeGame,
    LeastSquaresGame,
    LogisticGame,
    WassersteinGame,
    make_game,
    mixup_discriminator_loss,
)

P = torch.tensor([0.5, 0.25, 0.2, 0.05], dtype=torch.float64)
Q = torch.tensor([0.1, 0.25, 0.35, 0.3], dtype=torch.float64)
M = (P + Q) / 2
TV = 0.5 * (P - Q).abs().sum()
MARGIN = 3.0


def kl(p, q):
    return (p * (p / q).log()).sum()


JS = (kl(P, M) + kl(Q, M)) / 2
DIVERGENCES = {
    "kl": kl(P, Q),
    "reverse-kl": kl(Q, P),
    "pearson": ((P - Q) ** 2 / Q).sum(),
    "jensen-shannon": JS,
    "squared-hellinger": ((P.sqrt() - Q.sqrt()) ** 2).sum(),
    "total-variation": TV,
}


def expected_loss(game, table, p=P, q=Q):
    """E L_D of a table of scores. L_D is a sum of a term of data and one of samples, so that its
    mean over pairs of one data point and one sample is exact."""
    pairs = torch.vmap(
        lambda real: torch.vmap(lambda fake: game.discriminator_loss(real, fake))(table)
    )(table)
    return p @ pairs @ q


def expected_generator_loss(game, table, q=Q, p=None):
    if p is None:
        return q @ torch.vmap(game.generator_loss)(table)
    pairs = torch.vmap(
        lambda real: torch.vmap(lambda fake: game.generator_loss(fake, real))(table)
    )(table)
    return p @ pairs @ q


# Each game with min L_D, and the generator's loss with the term of data at the best score.
GAMES = [
    (LogisticGame("saturating"), 2 * math.log(2) - 2 * JS, 2 * JS - 2 * math.log(2)),
    (LogisticGame("combined"), 2 * math.log(2) - 2 * JS, kl(Q, P)),
    (LogisticGame("non-saturating"), 2 * math.log(2) - 2 * JS, kl(Q, P) + math.log(2) - kl(Q, M)),
    (HingeGame(), 2 - 2 * TV, 2 * TV),
    (LeastSquaresGame(), (P * Q / (P + Q)).sum() / 2, (Q**2 / (P + Q)).sum() / 2),
    (LeastSquaresGame(-1, 1, 0), 2 * (P * Q / (P + Q)).sum(), ((P - Q) ** 2 / (P + Q)).sum() / 2),
    (EnergyGame(MARGIN), MARGIN * (1 - TV), MARGIN * TV),
    (
        EnergyGame(MARGIN, power=2),
        MARGIN**2 * (P * Q / (P + Q)).sum(),
        MARGIN**2 * ((Q - P) * Q**2 / (P + Q) ** 2).sum(),
    ),
    *[(FDivergenceGame(name), -value, value) for name, value in DIVERGENCES.items()],
]
IDS = [repr(game) for game, *_ in GAMES]


@pytest.mark.parametrize(("game", "least", "divergence"), GAMES, ids=IDS)
class TestBestScore:
    def test_its_loss_is_the_divergence(self, game, least, divergence):
        best = game.best_score((P / Q).log())
        torch.testing.assert_close(expected_loss(game, best), torch.as_tensor(least))
        torch.testing.assert_close(
            expected_generator_loss(game, best, p=P), torch.as_tensor(divergence)
        )

    def test_no_other_score_is_better(self, game, least, divergence):
        generator = torch.Generator().manual_seed(0)
        best = game.best_score((P / Q).log())
        for scale in (0.01, 0.1, 1.0):
            for _ in range(5):
                noise = torch.randn(4, dtype=torch.float64, generator=generator)
                table = best.clamp(-30, 30) + scale * noise
                if isinstance(game, EnergyGame):
                    table = table.clamp(min=0)
                assert expected_loss(game, table) >= least - 1e-12

    def test_descent_finds_it(self, game, least, divergence):
        table = torch.full((4,), 0.3, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([table], 0.1)
        for _ in range(200):
            optimizer.zero_grad()
            expected_loss(game, table).backward()
            optimizer.step()
            if isinstance(game, EnergyGame):
                table.data.clamp_(min=0)
        assert expected_loss(game, table).item() == pytest.approx(float(least), abs=0.02)

    def test_batches_of_counts_have_the_loss_of_the_sums(self, game, least, divergence):
        table = torch.tensor([0.7, 0.2, 1.1, 0.4], dtype=torch.float64)
        real, fake = (table.repeat_interleave((20 * law).round().long()) for law in (P, Q))
        torch.testing.assert_close(game.discriminator_loss(real, fake), expected_loss(game, table))
        torch.testing.assert_close(game.generator_loss(fake), expected_generator_loss(game, table))
        torch.testing.assert_close(
            game.generator_loss(fake, real), expected_generator_loss(game, table, p=P)
        )

    def test_data_only_add_a_term_that_no_sample_changes(self, game, least, divergence):
        fakes = torch.tensor([[0.1, 0.9], [0.6, 0.3]], dtype=torch.float64)
        real = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
        first, second = (
            game.generator_loss(fake, real) - game.generator_loss(fake) for fake in fakes
        )
        torch.testing.assert_close(first, second)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_losses_have_the_dtype_of_the_scores(self, game, least, divergence, dtype):
        real, fake = torch.rand(3, 1, dtype=dtype), torch.rand(2, dtype=dtype)
        assert game.discriminator_loss(real, fake).dtype == dtype
        assert game.generator_loss(fake, real).shape == ()

    def test_gradients(self, game, least, divergence):
        real, fake = (
            torch.tensor(v, dtype=torch.float64, requires_grad=True)
            for v in ([0.3, 0.7], [0.4, 0.6, 1.3])
        )
        assert torch.autograd.gradcheck(game.discriminator_loss, (real, fake))
        assert torch.autograd.gradcheck(lambda s: game.generator_loss(s), (fake,))

    def test_at_equal_laws_nothing_is_told_apart(self, game, least, divergence):
        best = game.best_score(torch.zeros(4, dtype=torch.float64))
        assert len(best.unique()) == 1
        others = [expected_loss(game, best + shift, P, P) for shift in (-0.1, 0.1)]
        assert min(others) >= expected_loss(game, best, P, P) - 1e-12


@pytest.mark.parametrize(
    ("game", "value"),
    [
        (LogisticGame(), 2 * math.log(2)),
        (HingeGame(), 2),
        (LeastSquaresGame(), 1 / 4),
        (EnergyGame(MARGIN), 2 * (MARGIN / 2)),
        (EnergyGame(MARGIN, power=2), 2 * (MARGIN / 2) ** 2),
        *[(FDivergenceGame(name), 0) for name in DIVERGENCES],
    ],
    ids=repr,
)
def test_at_equal_laws_the_values_are_those_of_chance(game, value):
    best = game.best_score(torch.zeros(4, dtype=torch.float64))
    assert expected_loss(game, best, P, P).item() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("name", DIVERGENCES)
class TestBound:
    def test_it_is_tight_where_a_law_has_no_mass(self, name):
        p, q = torch.tensor([0.5, 0.5, 0.0]).double(), torch.tensor([0.0, 0.5, 0.5]).double()
        finite = {"jensen-shannon": math.log(2) / 2, "squared-hellinger": 1, "total-variation": 0.5}
        game = FDivergenceGame(name)
        best = game.best_score((p / q).log())
        bound = game.bound(best[:2], best[1:])
        assert bound.item() == pytest.approx(finite.get(name, math.inf))

    def test_scores_rise_with_the_ratio(self, name):
        ratios = torch.linspace(-3, 3, 13, dtype=torch.float64)
        best = FDivergenceGame(name).best_score(ratios)
        assert (best[1:] >= best[:-1]).all()
        assert best[-1] > best[0]

    def test_the_non_saturating_loss_follows_the_activation(self, name):
        """At the best score it is −E f'(p/q), with f' of the definition by autograd."""
        f = {
            "kl": lambda u: u * u.log(),
            "reverse-kl": lambda u: -u.log(),
            "pearson": lambda u: (u - 1) ** 2,
            "jensen-shannon": lambda u: (u * u.log() - (u + 1) * ((u + 1) / 2).log()) / 2,
            "squared-hellinger": lambda u: (u.sqrt() - 1) ** 2,
            "total-variation": lambda u: (u - 1).abs() / 2,
        }[name]
        u = (P / Q).requires_grad_()
        (slope,) = torch.autograd.grad(f(u).sum(), u)
        game = FDivergenceGame(name, "non-saturating")
        loss = expected_generator_loss(game, game.best_score((P / Q).log()))
        torch.testing.assert_close(loss, -(Q @ slope))


def test_far_samples_pull_the_generator_of_the_energy_game_alone():
    """Above the margin the hinge is inactive, and (6.2) is not."""
    for power, pull in ((1, 1.0), (2, 10.0)):
        game = EnergyGame(2.0, power)
        fake = torch.tensor([5.0], requires_grad=True)
        game.discriminator_loss(torch.tensor([0.1]), fake).backward()
        assert fake.grad.item() == 0
        game.generator_loss(fake).backward()
        assert fake.grad.item() == pytest.approx(pull)


class TestPlay:
    """Six symbols, a softmax generator and a table of energies, in turns of gradient steps."""

    TARGET = torch.tensor([0.3, 0.05, 0.2, 0.1, 0.25, 0.1], dtype=torch.float64)

    def play(self, game, *, alternating=True):
        """The generator's law, the energies and the value of the game after 600 turns."""
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(6, dtype=torch.float64, generator=generator)
        energies = torch.rand(6, dtype=torch.float64, generator=generator)
        for _ in range(600):
            before = energies.requires_grad_()
            value = expected_loss(game, energies, self.TARGET, logits.softmax(0))
            (slope,) = torch.autograd.grad(value, energies)
            energies = (energies.detach() - 0.5 * slope).clamp(min=0)
            seen = energies if alternating else before.detach()
            logits.requires_grad_()
            loss = expected_generator_loss(game, seen, logits.softmax(0))
            (slope,) = torch.autograd.grad(loss, logits)
            logits = logits.detach() - 0.3 * slope
        return logits.softmax(0), energies, value.item()

    @pytest.mark.parametrize("alternating", [True, False])
    def test_of_squared_energies_reaches_the_equilibrium(self, alternating):
        law, energies, value = self.play(EnergyGame(2.0, power=2), alternating=alternating)
        assert (law - self.TARGET).abs().sum() / 2 < 1e-3
        torch.testing.assert_close(energies, torch.ones_like(energies), atol=1e-3, rtol=0)
        assert value == pytest.approx(2, abs=1e-3)  # 2 (m/2)²

    def test_of_plain_energies_does_not(self):
        law, *_ = self.play(EnergyGame(2.0))
        assert (law - self.TARGET).abs().sum() / 2 > 0.01


class TestNames:
    def test_every_game_has_one(self):
        options = {"energy": {"margin": 1.0}, "f-divergence": {"divergence": "kl"}}
        names = ("logistic", "hinge", "least-squares", "wasserstein", "energy", "f-divergence")
        games = [make_game(name, **options.get(name, {})) for name in names]
        assert all(isinstance(game, AdversarialGame) for game in games)
        assert len({type(game) for game in games}) == 6
        assert make_game("logistic", generator="combined") == LogisticGame("combined")

    def test_wrong_ones_are_named(self):
        with pytest.raises(ValueError, match="make_game: name is 'gan'; expected one of logistic"):
            make_game("gan")
        with pytest.raises(TypeError, match="margin"):
            make_game("energy")


@pytest.mark.parametrize("game", [game for game, *_ in GAMES] + [WassersteinGame()], ids=repr)
def test_wrong_scores_are_named(game):
    good = torch.zeros(2)
    for bad in (torch.zeros(0), torch.zeros(2, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"real is .* expected scores"):
            game.discriminator_loss(bad, good)
        with pytest.raises(ValueError, match=r"fake is .* expected scores"):
            game.discriminator_loss(good, bad)
        with pytest.raises(ValueError, match=r"fake is .* expected scores"):
            game.generator_loss(bad)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogisticGame("hinge"), "LogisticGame: generator is 'hinge'; expected one of comb"),
        (lambda: LeastSquaresGame(1, 1), "LeastSquaresGame: fake_code is 1, as real_code is"),
        (lambda: LeastSquaresGame(math.nan), "LeastSquaresGame: fake_code must be finite"),
        (lambda: EnergyGame(0.0), "EnergyGame: margin is 0.0; expected a positive"),
        (lambda: EnergyGame(1.0, 3), "EnergyGame: power is 3; expected one of 1, 2"),
        (
            lambda: FDivergenceGame("gan"),
            "FDivergenceGame: divergence is 'gan'; expected one of kl",
        ),
        (lambda: FDivergenceGame("kl", "combined"), "FDivergenceGame: generator is 'combined'"),
    ],
)
def test_wrong_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class TestMixup:
    def test_of_whole_points_it_is_half_the_logistic_loss(self):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
        real, fake = torch.randn(4, 3), torch.randn(4, 3)
        mixing = torch.tensor([1.0, 0.0]).repeat(2)
        loss = mixup_discriminator_loss(network, real, fake, mixing)
        expected = LogisticGame().discriminator_loss(network(real[::2]), network(fake[1::2])) / 2
        torch.testing.assert_close(loss, expected)

    def test_the_best_answer_is_the_share_of_data(self):
        """Between data at 1 and samples at 0 the mixture is λ itself, and σ(a) = λ the best."""
        mixing = torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        real, fake = torch.ones(1000, 1).double(), torch.zeros(1000, 1).double()

        def loss(shift):
            return mixup_discriminator_loss(
                lambda x: torch.logit(x[:, 0]) + shift, real, fake, mixing
            )

        entropy = -(mixing * mixing.log() + (1 - mixing) * (1 - mixing).log()).mean()
        torch.testing.assert_close(loss(0.0), entropy)
        assert min(loss(-0.1), loss(0.1)) > entropy

    def test_wrong_input_is_named(self):
        x, mixing = torch.zeros(4, 2), torch.zeros(4)
        owner = "mixup_discriminator_loss"
        with pytest.raises(ValueError, match=rf"{owner}: fake and mixing have shapes \[3, 2\]"):
            mixup_discriminator_loss(lambda x: x.sum(1), x, x[1:], mixing)
        with pytest.raises(ValueError, match=rf"{owner}: the discriminator gives \[4, 2\]"):
            mixup_discriminator_loss(lambda x: x, x, x, mixing)
