"""Generators of images that grow with their discriminators in training."""

import copy

import numpy as np
import pytest
import torch
from testing.command_line import TRAIN_ALONE
from testing.ranks import run_on_ranks
from testing.runs import assert_same, make, train

from gencore import cli
from gencore.data import ImageDataset
from gencore.recipes.adversarial.gan import GANRecipe
from gencore.train.state_file import read_state

pytest.importorskip("lightning_fabric")

GROWING = {
    "batch_size": 4, "steps": 8, "latent_size": 3, "width": 2, "networks": "progressive",
    "phase_images": 8,
}  # fmt: skip


@pytest.fixture
def squares():
    """Images of 16 pixels a side, so that there are levels of 4, 8 and 16."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (24, 1, 16, 16), generator=generator, dtype=torch.uint8)
    return ImageDataset(images, None, "mine")


@pytest.mark.parametrize(
    "options",
    [
        {"method": "wgan", "gradient_penalty": 10.0},
        {"method": "hinge", "spectral_norm": True, "precision": "bf16-mixed"},
        {"method": "mixup", "minibatch_std": False, "accumulate": 2},
        {"method": "mmd"},
    ],
    ids=str,
)
def test_both_players_see_the_level_that_has_been_reached(squares, options):
    """Two steps a phase: level 0, the fading in of level 1, level 1, and so on."""
    experiment, batches = make(GANRecipe(**{**GROWING, **options}), squares)
    players = experiment.training.generator.module, experiment.training._adversary
    made, levels = [], []
    players[0].register_forward_hook(lambda _, args, images: made.append(images.shape[2]))
    sides = []
    for step in range(11):
        before = copy.deepcopy(players)
        scalars = experiment.step(batches[step])
        assert all(value.isfinite() for value in scalars.values())
        sides.append(made[-1])
        levels.append(scalars["level"].item())
        moved = [
            name
            for player, old in zip(players, before, strict=True)
            for (name, new), weight in zip(player.named_parameters(), old.parameters(), strict=True)
            if not torch.equal(new, weight)
        ]
        grown = [name for name in moved if "levels.2" in name or "rgbs.2" in name]
        assert bool(grown) == (step > 6)  # of the step of α = 0 they have no gradient
    assert sides == [4, 4, *[8] * 4, *[16] * 5]
    assert levels == [0, 0, 0, 0.5, 1, 1, 1, 1.5, 2, 2, 2]
    assert len(set(made)) == 3
    assert experiment.sample(2).shape == (2, 1, 16, 16)


def test_samples_of_a_coarse_level_have_the_full_size(squares):
    experiment, batches = make(GANRecipe(**GROWING, ema_decay=0.5), squares)
    for step in range(3):
        experiment.step(batches[step])
    assert experiment._growing.seen.growth == (1, 0.5)
    network = experiment.training.averaged.network
    assert network is not experiment.training.generator.module.network
    samples = experiment.sample(4, torch.Generator().manual_seed(1))
    noise = experiment._noise(4, torch.Generator().manual_seed(1))
    small = ((network(noise, 1, 0.5) + 1) / 2).clamp(0, 1).detach()
    assert torch.equal(samples, small.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_data_are_faded_in_as_samples_are(squares):
    experiment, batches = make(GANRecipe(**GROWING, discriminator_steps=2), squares)
    seen = []
    experiment.training._adversary.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    experiment._growing.seen.number = 12  # half of the way from 4 to 8 pixels
    x = batches[0].x[:4] / 127.5 - 1
    experiment.step(batches[0])
    eight, four = (torch.nn.functional.avg_pool2d(x, size) for size in (2, 4))
    expected = (eight + four.repeat_interleave(2, 2).repeat_interleave(2, 3)) / 2
    torch.testing.assert_close(seen[0], expected)
    assert experiment._growing.seen.number == 12 + 2 * 4


def test_a_resumed_run_grows_on(squares, tmp_path, monkeypatch):
    def go(folder, **more):
        recipe = GANRecipe(**{**GROWING, "ema_decay": 0.9, **more})
        return train(folder, recipe, num_samples=0, num_evaluate=0, resume=folder.exists())

    monkeypatch.setattr(GANRecipe, "load_part", lambda self, split: squares)
    whole = go(tmp_path / "whole")
    go(tmp_path / "parts", steps=3)
    resumed = go(tmp_path / "parts")
    assert resumed._growing.seen.growth == (2, 1.0)
    for name, part in whole.state.items():
        assert_same({name: resumed.state[name].state_dict()}, {name: part.state_dict()})


def test_the_discriminator_may_see_how_much_images_differ(squares):
    x = torch.rand(4, 1, 4, 4)
    for seen, others in ((True, x.flip(0)), (False, x + 1)):
        experiment, _ = make(GANRecipe(**GROWING, minibatch_std=seen), squares)
        network = experiment.training._adversary.network
        one = network(x)[0]
        other = network(torch.cat([x[:1], others[1:]]))[0]
        assert torch.isclose(one, other) == (not seen)


def test_images_that_cannot_be_halved():
    odd = ImageDataset(torch.zeros(4, 1, 25, 25, dtype=torch.uint8), None, "mine")
    with pytest.raises(ValueError, match="need images with even sides of 8 pixels or more, go"):
        make(GANRecipe(**GROWING), odd)


@pytest.mark.parametrize(
    "options",
    [{"method": "wgan", "gradient_penalty": 10.0}, {"minibatch_std": False, "accumulate": 2}],
    ids=str,
)
def test_two_processes_grow_as_one_does(squares, tmp_path, options):
    """Also where they stop within a phase and go on. The moments of Adam are those of the steps
    in which a parameter has a gradient."""
    np.save(tmp_path / "squares.npy", squares.images[:, 0].numpy())
    options = {**GROWING, "data": tmp_path / "squares.npy", "ema_decay": 0.9, **options}
    words = ["train", "gan", *TRAIN_ALONE]
    for name, value in options.items():
        words.append(f"--{'no-' * (value is False)}{name.replace('_', '-')}")
        words[-1] += "" if value is False else f"={value}"
    for more in ("--steps=3", "--resume"):
        run_on_ranks([*words, more, f"--out={tmp_path}/two"])
    assert cli.main([*words, f"--out={tmp_path}/one"]) == 0
    one, two = (
        read_state(tmp_path / name / "checkpoint.safetensors")["state"] for name in ("one", "two")
    )
    assert two["images_seen"] == one["images_seen"] == {"number": 32}
    for part in ("generator_model", "generator_ema", "discriminator_model"):
        for name, value in one[part].items():
            torch.testing.assert_close(two[part][name], value, rtol=1e-4, atol=1e-5)
    for part in ("generator_optimizer", "discriminator_optimizer"):
        steps = [
            {number: moments["step"].item() for number, moments in state[part]["state"].items()}
            for state in (one, two)
        ]
        assert steps[0] == steps[1]
        assert len(set(steps[0].values())) == 4  # of parameters of other levels
