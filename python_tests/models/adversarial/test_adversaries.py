"""Adversaries of a generator: their losses by those of the games, whom gradients reach, errors."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from gencore.models import (
    AutoencoderEnergy,
    BatchAdversary,
    DistanceAdversary,
    EnergyAdversary,
    LadderAdversary,
    MixupAdversary,
    ScoreAdversary,
)
from gencore.nn import MLP, EquivariantMLP, LadderNetwork
from gencore.objectives import (
    BGANLoss,
    EnergyGame,
    HingeGame,
    LogisticGame,
    MBGANLoss,
    WassersteinGame,
    gradient_penalty,
    mix_batches,
    mixing_masks,
    pulling_away_term,
)


def key(seed):
    return torch.tensor([seed, 0])


def points(num=12):
    torch.manual_seed(0)
    return torch.randn(num, 2, dtype=torch.float64), torch.randn(num, 2, dtype=torch.float64) + 1


def network():
    return MLP(2, (8,), 1, zero_last=False).double()


def autoencoder():
    return AutoencoderEnergy(nn.Linear(2, 3), nn.Linear(3, 2)).double()


def ladder():
    """Away from its start, where it reconstructs nothing and some parameters have no gradient."""
    network = LadderNetwork(2, (5,), 3, denoising_weights=(10.0, 0.0)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def adversaries():
    torch.manual_seed(1)
    return {
        "score": ScoreAdversary(network(), HingeGame()),
        "penalty": ScoreAdversary(network(), WassersteinGame(), penalty_weight=3.0),
        "energy": EnergyAdversary(autoencoder(), EnergyGame(2.0), pulling_away_weight=0.5),
        "bgan": BatchAdversary(EquivariantMLP(2, (8,)).double(), BGANLoss(), group_size=4),
        "mbgan": BatchAdversary(EquivariantMLP(2, (8,)).double(), MBGANLoss(), group_size=4),
        "mixup": MixupAdversary(network()),
        "ladder": LadderAdversary(ladder(), EnergyGame(60.0)),
    }


@pytest.mark.parametrize("name", adversaries())
class TestAll:
    def test_each_player_has_its_gradients(self, name):
        adversary, (real, fake) = adversaries()[name], points()
        assert adversary.is_trained
        adversary(real, fake, key=key(1))["loss"].backward()
        reached = [p for p in adversary.parameters() if p.grad is not None]
        assert len(reached) >= len(list(adversary.parameters())) - 1  # biases that cancel
        fake.requires_grad_()
        adversary.generator_loss(fake, real, key=key(1)).backward()
        assert (fake.grad.abs().sum(1) > 0).sum() >= len(fake) // 4

    def test_gradients_of_samples_are_right(self, name):
        adversary, (real, fake) = adversaries()[name], points(4)
        adversary.requires_grad_(False)
        assert torch.autograd.gradcheck(
            lambda x: adversary.generator_loss(x, real, key=key(1)), (fake.requires_grad_(),)
        )

    def test_samples_of_another_shape_are_told(self, name):
        adversary, (real, fake) = adversaries()[name], points()
        with pytest.raises(ValueError, match=r"fake has shape \[8, 2\]; expected \[12, 2\]"):
            adversary(real, fake[:8])


@pytest.mark.parametrize("name", ["score", "penalty", "energy", "mbgan", "mixup"])
def test_parts_of_a_batch_have_the_mean_of_the_whole(name):
    adversary, (real, fake) = adversaries()[name], points()
    if name == "energy":
        adversary.pulling_away_weight = 0.0  # which is of pairs, so of the rows that are there
    for of in (
        lambda part, first: adversary(real[part], fake[part], key=key(1), first=first)["loss"],
        lambda part, first: adversary.generator_loss(
            fake[part], real[part], key=key(1), first=first
        ),
    ):
        whole = of(slice(0, 12), 0)
        parts = of(slice(0, 4), 0) / 3 + of(slice(4, 12), 4) * 2 / 3
        torch.testing.assert_close(parts, whole)


def test_losses_are_those_of_the_game():
    """A linear critic, whose slope is the same everywhere: λ(5 − 1)² by hand."""
    critic = nn.Linear(2, 1).double()
    with torch.no_grad():
        critic.weight.copy_(torch.tensor([[3.0, 4.0]]))
    real, fake = points()
    terms = ScoreAdversary(critic, WassersteinGame(), penalty_weight=0.5)(real, fake)
    difference = (fake.mean(0) - real.mean(0)) @ torch.tensor([3.0, 4.0]).double()
    torch.testing.assert_close(terms["penalty"], torch.tensor(8.0).double())
    torch.testing.assert_close(terms["loss"], difference + 8)
    torch.testing.assert_close(terms["fake_score"] - terms["real_score"], difference)
    loss = ScoreAdversary(critic, LogisticGame("combined")).generator_loss(fake, real)
    torch.testing.assert_close(loss, -critic(fake).mean())


def test_the_penalty_is_that_of_the_key():
    real, fake = points()
    critic = network()
    adversary = ScoreAdversary(critic, LogisticGame(), penalty_weight=100.0)
    terms = adversary(real, fake, key=key(5))
    expected = gradient_penalty(adversary.scores, real, fake, weight=100.0, key=key(5))
    torch.testing.assert_close(terms["penalty"], expected)
    of_game = ScoreAdversary(critic, LogisticGame())(real, fake)
    torch.testing.assert_close(terms["loss"], of_game["loss"] + expected)
    assert "penalty" not in of_game


@pytest.mark.parametrize("name", ["score", "mbgan", "mixup"])
def test_losses_of_half_precision_are_float32(name):
    """And as exact as those of the same scores."""
    adversary, (real, fake) = adversaries()[name].bfloat16(), points()
    with torch.no_grad():
        for weight in adversary.parameters():
            weight.mul_(100)  # scores of tens, which bfloat16 has to a tenth
    real, fake = real.bfloat16(), fake.bfloat16()
    seen = []
    adversary.network.register_forward_hook(lambda module, args, scores: seen.append(scores))
    loss = adversary.generator_loss(fake, real, key=key(1))
    assert loss.dtype == torch.float32
    scores = torch.cat([each.flatten() for each in seen]).double()
    expected = -scores.mean() if name == "score" else softplus(-scores).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_codes_are_pulled_apart():
    real, fake = points()
    network, game = autoencoder(), EnergyGame(1.0)
    plain = EnergyAdversary(network, game).generator_loss(fake, real)
    pulled = EnergyAdversary(network, game, pulling_away_weight=0.5).generator_loss(fake, real)
    expected = 0.5 * pulling_away_term(network.encode(fake))
    half = EnergyAdversary(network.bfloat16(), game, pulling_away_weight=0.5)
    assert half.generator_loss(fake.bfloat16(), real.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(pulled - plain, expected)
    assert expected > 0


def test_every_point_is_in_one_of_two_mixed_batches():
    """A network that counts its members' marks sees all of them once in both halves."""
    seen = []

    class Count(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x[..., 0]

    real, fake = points()
    BatchAdversary(Count(), MBGANLoss(), group_size=4)(real, fake, key=key(3))
    together = torch.cat(seen).flatten(0, 1)
    expected = torch.cat([real, fake])
    torch.testing.assert_close(together.sort(0).values, expected.sort(0).values)


def test_both_halves_count_for_both_players():
    (real, fake), loss = points(), MBGANLoss()
    network = EquivariantMLP(2, (8,)).double()
    adversary = BatchAdversary(network, loss, group_size=4)
    masks = mixing_masks(3, 4, key=key(3))
    halves = mix_batches(real.view(3, 4, 2), fake.view(3, 4, 2), masks)
    of_discriminator = [loss.discriminator_loss(network(x), u) for x, u in halves]
    of_generator = [loss.generator_loss(network(x)) for x, _ in halves]
    torch.testing.assert_close(
        [
            adversary(real, fake, key=key(3))["loss"],
            adversary.generator_loss(fake, real, key=key(3)),
        ],
        [sum(of_discriminator) / 2, sum(of_generator) / 2],
    )


def test_a_mixup_discriminator_of_no_weights_has_log_2():
    adversary = MixupAdversary(MLP(2, (8,), 1))
    real, fake = (part.float() for part in points())
    assert adversary(real, fake)["loss"].item() == pytest.approx(0.6931, abs=1e-4)


def test_labels_go_to_a_conditional_network_alone():
    class Conditional(nn.Module):
        def forward(self, x, labels):
            return x[:, 0] + labels

    real, fake = points()
    labels = torch.arange(12)
    adversary = ScoreAdversary(Conditional(), WassersteinGame(), penalty_weight=1.0)
    terms = adversary(real, fake, labels=labels)
    torch.testing.assert_close(terms["real_score"], real[:, 0].mean() + 5.5)
    assert terms["penalty"] == 0
    for adversary in (adversaries()[name] for name in ("mbgan", "mixup", "ladder")):
        with pytest.raises(TypeError, match="got labels; expected none"):
            adversary(real, fake, labels=labels)
    for name in ("mbgan", "mixup", "energy"):
        with pytest.raises(TypeError, match="got labels; expected none"):
            adversaries()[name].generator_loss(fake, real, labels=labels)


def test_a_distance_has_no_loss_of_its_own():
    adversary = DistanceAdversary(lambda x, y: (x - y).square().sum())
    real, fake = points()
    assert not adversary.is_trained
    assert adversary.generator_loss(fake, fake) == 0
    with pytest.raises(TypeError, match="it has no loss of its own"):
        adversary(real, fake)


def test_what_does_not_fit_is_told():
    real, fake = points()
    with pytest.raises(ValueError, match=r"network gives \[12, 3\]; expected \[12\] or \[12, 1\]"):
        ScoreAdversary(nn.Linear(2, 3).double(), HingeGame())(real, fake)
    with pytest.raises(ValueError, match="expected multiples of group_size, 5"):
        BatchAdversary(nn.Identity(), MBGANLoss(), group_size=5)(real, fake)
    with pytest.raises(ValueError, match="BatchAdversary: group_size is 0"):
        BatchAdversary(nn.Identity(), MBGANLoss(), group_size=0)
    with pytest.raises(ValueError, match=r"BatchAdversary: smoothing is 0\.6; expected 0 to"):
        BatchAdversary(nn.Identity(), MBGANLoss(), group_size=2, smoothing=0.6)
    for weight in (-1.0, math.nan):
        with pytest.raises(ValueError, match="ScoreAdversary: penalty_weight must be finite and n"):
            ScoreAdversary(nn.Linear(2, 1), HingeGame(), penalty_weight=weight)
    with pytest.raises(ValueError, match="concentration is 0"):
        MixupAdversary(nn.Identity(), concentration=0.0)
