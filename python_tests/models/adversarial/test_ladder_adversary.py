"""A ladder network in a game of energies: its losses are the game's and the labels'."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from gencore.models import LadderAdversary
from gencore.nn import LadderNetwork
from gencore.objectives import EnergyGame
from gencore.ops.random import stream_key

KEY = torch.tensor([3, 0])


def ladder():
    torch.manual_seed(0)
    network = LadderNetwork(4, (6,), 3, denoising_weights=(10.0, 0.0)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    real, fake = torch.rand(2, 20, 4, dtype=torch.float64, generator=generator)
    return real, fake, (real[:6], torch.arange(6) % 3)


def energies(network, real, fake):
    return network.energy(real, key=KEY), network.energy(fake, key=stream_key(KEY, "samples"))


@pytest.mark.parametrize("power", [1, 2])
def test_the_loss_is_that_of_the_game_and_of_the_labels(data, power):
    network, (real, fake, labelled) = ladder(), data
    low, high = energies(network, real, fake)
    margin = high.mean().item()  # some samples are below it, some above
    terms = LadderAdversary(network, EnergyGame(margin, power), label_weight=0.5)(
        real, fake, labelled=labelled, key=KEY
    )
    hinge = (margin - high).clamp(min=0)
    logits = network.denoise(labelled[0], key=stream_key(KEY, "labelled")).logits
    label_loss = cross_entropy(logits, labelled[1])
    expected = (low**power).mean() + (hinge**power).mean() + 0.5 * label_loss
    torch.testing.assert_close(terms["loss"], expected)
    torch.testing.assert_close(terms["label_loss"], label_loss)
    torch.testing.assert_close(terms["real_score"], low.mean())
    torch.testing.assert_close(terms["fake_score"], high.mean())


def test_the_generator_lowers_the_energy_of_its_samples(data):
    network, (real, fake, _) = ladder(), data
    loss = LadderAdversary(network, EnergyGame(1.0, 2)).generator_loss(fake, real, key=KEY)
    torch.testing.assert_close(loss, network.energy(fake, key=KEY).square().mean())


def test_below_the_energy_of_samples_the_ladder_learns_alone(data):
    """A margin that no sample reaches leaves the gradient of the ladder network without a game."""
    real, fake, labelled = data
    gradients = []
    for samples in (fake, None):
        adversary = LadderAdversary(ladder(), EnergyGame(1e-6))
        adversary(real, samples, labelled=labelled, key=KEY)["loss"].backward()
        gradients.append([parameter.grad for parameter in adversary.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_without_labels_there_is_the_game_alone(data):
    real, fake, _ = data
    network, game = ladder(), EnergyGame(3.0)
    terms = LadderAdversary(network, game)(real, fake, key=KEY)
    torch.testing.assert_close(
        terms["loss"], game.discriminator_loss(*energies(network, real, fake))
    )
    assert "label_loss" not in terms


def test_what_does_not_fit_is_told(data):
    real, fake, _ = data
    adversary = LadderAdversary(ladder(), EnergyGame(1.0))
    with pytest.raises(TypeError, match="got labels; expected none"):
        adversary(real, fake, labels=torch.zeros(20, dtype=torch.int64))
    with pytest.raises(TypeError, match="got labels; expected none"):
        adversary.generator_loss(fake, real, labels=torch.zeros(20, dtype=torch.int64))
    with pytest.raises(ValueError, match="label_weight must be finite and not negative"):
        LadderAdversary(ladder(), EnergyGame(1.0), label_weight=-1.0)
