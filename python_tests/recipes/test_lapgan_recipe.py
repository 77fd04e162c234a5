"""Recipe lapgan: a game a level, each by itself; resuming, two processes, measures, options."""

import copy
import json

import numpy as np
import pytest
import torch
from testing import runs
from testing.command_line import QUICK, TRAIN_ALONE
from testing.ranks import run_on_ranks
from testing.runs import assert_same, train
from torch.nn.functional import interpolate

from gencore import cli
from gencore.data import ImageDataset
from gencore.models import LaplacianGAN
from gencore.objectives import gaussian_pyramid
from gencore.recipes.adversarial.lapgan import LAPGANRecipe
from gencore.train.state_file import read_state

pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

TINY = {
    "batch_size": 8, "steps": 4, "latent_size": 3, "width": 4, "band_width": 4,
    "generator_widths": (8,),
}  # fmt: skip
LEVELS = (6, 12, 24)


@pytest.fixture(scope="module")
def images():
    coarse = torch.rand(24, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    return (255 * interpolate(coarse, scale_factor=4, mode="bilinear")).to(torch.uint8)


@pytest.fixture
def folder(images, tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, images[:, 0].numpy())
    return str(path)


def make(images, labels=None, **options):
    dataset = ImageDataset(images, labels, "mine")
    experiment, batches = runs.make(LAPGANRecipe(**{**TINY, **options}), dataset)
    experiment.__dict__["test"] = dataset
    return experiment, batches


def written(options):
    """As words of a command."""
    options = {**options, "generator_widths": 8}
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def up(x):
    return interpolate(x, scale_factor=2, mode="bilinear")


class TestStep:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"method": "hinge", "spectral_norm": True, "discriminator_steps": 2},
            {"method": "wgan", "gradient_penalty": 1.0, "accumulate": 2, "batch_norm": False},
            {"method": "mbgan", "group_size": 4, "discriminator_widths": (7, 6)},
            {"method": "ebgan", "margin": 10.0, "dropout": 0.5, "num_bands": 1},
            {"method": "mmd"},
        ],
        ids=str,
    )
    def test_both_players_of_each_level_move(self, images, options):
        labels = torch.arange(24) % 3  # which are not used
        experiment, batches = make(images, labels, **options)
        players = [
            player
            for level in experiment.levels
            for player in (level.generator.module, level._adversary)
        ]
        before = [copy.deepcopy(player) for player in players]
        for step in range(2):
            scalars = experiment.step(batches[step])
        sides = LEVELS[-len(experiment.levels) :]
        assert {f"loss_{side}" for side in sides} <= scalars.keys()
        assert all(value.isfinite() for value in scalars.values())
        for player, old in zip(players, before, strict=True):
            pairs = zip(player.parameters(), old.parameters(), strict=True)
            moved = [not torch.equal(weight, other) for weight, other in pairs]
            # Neither the last bias of differences nor one before batch normalisation need move.
            assert sum(moved) >= len(moved) - 2
        samples = experiment.sample(3)
        assert samples.shape == (3, 1, 24, 24)
        assert 0 <= samples.min() <= samples.max() <= 1

    def test_each_level_sees_its_image_and_the_enlarged_coarser_one(self, images):
        experiment, batches = make(images)
        judged, given = [], []
        for level in experiment.levels:
            level._adversary.register_forward_pre_hook(lambda _, args: judged.append(args))
            level.generator.module.register_forward_hook(
                lambda _, args, made: given.append((args, made.detach()))
            )
        experiment.step(batches[0])
        pyramid = gaussian_pyramid(batches[0].x / 127.5 - 1, 2)[::-1]
        for number, (real, fake) in enumerate(judged):
            torch.testing.assert_close(real, pyramid[number])
            (noise, *rough), made = given[2 * number]
            torch.testing.assert_close(fake, made)
            assert noise.shape == (8, LEVELS[number] ** 2 if number else 3)
            assert len(rough) == bool(number)
            if number:
                torch.testing.assert_close(rough[0], up(pyramid[number - 1]))
                network = experiment.levels[number].generator.module.network
                plane = noise.unflatten(1, (1, LEVELS[number], -1))
                assert fake.shape == network(torch.cat([rough[0], plane], 1)).shape

    @pytest.mark.parametrize("other", [0, 1, 2])
    def test_levels_do_not_meet(self, images, other):
        """What the others learn is the same where the networks of one level are all zeros."""
        weights = []
        for zeroed in (False, True):
            experiment, batches = make(images, batch_norm=False)
            learning = [
                level for level in experiment.levels if level is not experiment.levels[other]
            ]
            if zeroed:
                level = experiment.levels[other]
                for player in (level.generator.module, level._adversary):
                    for weight in player.parameters():
                        torch.nn.init.zeros_(weight)
            for step in range(2):
                experiment.step(batches[step])
            players = [
                player
                for level in learning
                for player in (level.generator.module, level._adversary)
            ]
            weights.append([weight for player in players for weight in player.parameters()])
        assert all(torch.equal(one, two) for one, two in zip(*weights, strict=True))

    def test_each_player_of_each_level_has_its_schedule(self, images):
        experiment, batches = make(
            images, schedule="linear", discriminator_steps=2, discriminator_warmup_steps=2,
            discriminator_schedule="cosine",
        )  # fmt: skip
        rates = []
        for step in range(4):
            experiment.step(batches[step])
            rates.append([
                [player.optimizer.param_groups[0]["lr"] / 1e-3 for player in players]
                for players in ((level.generator, level._player) for level in experiment.levels)
            ])  # fmt: skip
        expected = [[3 / 4, 1], [1 / 2, 3 / 4], [1 / 4, 1 / 4], [0, 0]]  # of the next step
        assert rates == [[pytest.approx(pair)] * 3 for pair in expected]


class TestSamples:
    def test_they_are_those_of_the_pyramid(self, images):
        """Of averaged weights, from one stream of noise."""
        experiment, batches = make(images, ema_decay=0.5)
        for step in range(2):
            experiment.step(batches[step])
        networks = [level.averaged.network for level in experiment.levels]
        assert networks[0] is not experiment.levels[0].generator.module.network
        gan = experiment.model
        assert isinstance(gan, LaplacianGAN)
        noise = experiment._noise(4, torch.Generator().manual_seed(1))
        x = networks[0](noise[:, :3])
        for side, network, z in zip(
            LEVELS[1:], networks[1:], noise[:, 3:].split([144, 576], 1), strict=True
        ):
            x = up(x) + network(torch.cat([up(x), z.reshape(4, 1, side, side)], 1))
        found = experiment.sample(4, torch.Generator().manual_seed(1))
        torch.testing.assert_close(found, ((x + 1) / 2).clamp(0, 1).detach())

    def test_bands_are_measured_on_real_coarse_images(self, images):
        """Of bands that are nothing both are the enlarged coarse images of the data."""
        experiment, _ = make(images)
        for level in experiment.levels[1:]:
            for weight in level.generator.module.parameters():
                torch.nn.init.zeros_(weight)
        torch.manual_seed(0)
        found = experiment.more_candidates(24)
        assert torch.equal(found["refined"], found["enlarged"])
        coarse = gaussian_pyramid(images / 255, 2)[-1]
        torch.manual_seed(0)
        expected = up(up(coarse))[torch.randperm(24)]
        torch.testing.assert_close(found["enlarged"], expected)


class TestRuns:
    def test_a_resumed_run_is_the_same(self, folder, tmp_path):
        def go(path, **more):
            recipe = LAPGANRecipe(**{**TINY, "data": folder, "ema_decay": 0.9, **more})
            return train(path, recipe, num_samples=0, num_evaluate=0, resume=path.exists())

        whole = go(tmp_path / "whole")
        go(tmp_path / "parts", steps=2)
        resumed = go(tmp_path / "parts")
        assert {"generator_ema_6", "discriminator_optimizer_24"} <= whole.state.keys()
        for name, part in whole.state.items():
            assert_same({name: resumed.state[name].state_dict()}, {name: part.state_dict()})

    def test_two_processes_compute_what_one_computes(self, folder, tmp_path):
        options = {**TINY, "data": folder, "steps": 3}
        words = written(options)
        words = ["train", "lapgan", "--no-batch-norm", *words, *TRAIN_ALONE]
        run_on_ranks([*words, f"--out={tmp_path}/two"])
        assert cli.main([*words, f"--out={tmp_path}/one"]) == 0
        one, two = (
            read_state(tmp_path / name / "checkpoint.safetensors")["state"]
            for name in ("one", "two")
        )
        for side in LEVELS:
            for part in (f"generator_model_{side}", f"discriminator_model_{side}"):
                for name, value in one[part].items():
                    torch.testing.assert_close(two[part][name], value, rtol=1e-4, atol=1e-5)

    def test_the_command(self, folder, tmp_path):
        out = tmp_path / "run"
        words = [*written(TINY), f"--data={folder}", f"--out={out}", *QUICK]
        assert cli.main(["train", "lapgan", "--method=least-squares", *words]) == 0
        measures = json.loads((out / "metrics.json").read_text())
        kinds = ("samples", "refined", "enlarged", "independent_pixels", "train")
        assert all(f"frechet_pixels/{kind}" in measures for kind in kinds)
        assert (out / "figures" / "levels.png").is_file()
        assert cli.main(["sample", str(out), "--num=3", f"--out={tmp_path}/x.npy"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generator_widths": ()}, r"generator_widths is \(\); expected a positive width"),
        ({"dropout": 1.0}, "dropout is 1.0; expected at least 0 and less than 1"),
        ({"method": "mmd", "dropout": 0.5}, "dropout is 0.5, but it has an effect with method"),
        ({"num_bands": 0}, "num_bands is 0; expected positive"),
        ({"num_proposals": 3}, "num_proposals is 3, but it has an effect with the recipes gan and"),
        ({"discriminator_ema_decay": 0.9}, "discriminator_ema_decay is 0.9, but it has an effect"),
        ({"accumulate": 2}, "accumulate is 2, but batch_norm normalises over a batch"),
        ({"method": "wgan"}, "method is wgan, whose discriminator needs a bound"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"LAPGANRecipe: {message}"):
        LAPGANRecipe(**options)


def test_sides_that_cannot_be_halved(images):
    with pytest.raises(ValueError, match="sides of 24 and 24; expected multiples of 16, for num_b"):
        make(images, num_bands=4)
