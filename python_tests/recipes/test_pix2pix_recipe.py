"""Recipe pix2pix: its pairs, both players, resuming, two processes, measures, pictures, options."""

import copy
import json

import numpy as np
import pytest
import torch
from testing import runs
from testing.command_line import QUICK, TRAIN_ALONE
from testing.ranks import run_on_ranks
from testing.runs import assert_same, train
from torch.nn.functional import avg_pool2d, interpolate

from gencore import cli
from gencore.data import ImageDataset
from gencore.recipes.adversarial.pairs import make_pairs
from gencore.recipes.adversarial.pix2pix import Pix2PixRecipe
from gencore.recipes.adversarial.pix2pix_experiment import colour_overlap
from gencore.train.state_file import read_state

pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

TINY = {"batch_size": 4, "steps": 4, "num_scales": 2, "width": 4, "discriminator_width": 4}


@pytest.fixture(scope="module")
def images():
    """Colours that grey levels tell: red from dark to light, with its square as green."""
    grey = torch.rand(24, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    pixels = torch.cat([grey, grey.square(), 1 - grey], 1)
    return (255 * pixels).round().to(torch.uint8)


def make(images, **options):
    settings = {**TINY, **options}
    if options.get("adversarial_weight") == 0:
        del settings["discriminator_width"]
    dataset = ImageDataset(images, None, "mine")
    experiment, batches = runs.make(Pix2PixRecipe(**settings), dataset)
    experiment.__dict__["test"] = dataset.subset(torch.arange(8))
    return experiment, batches


@pytest.fixture
def folder(images, tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, images.permute(0, 2, 3, 1).numpy())
    return str(path)


class TestPairs:
    def test_what_is_given_of_each_task(self, images):
        y = images.float() / 127.5 - 1
        given, wanted = make_pairs("colours", images)
        torch.testing.assert_close(wanted, y)
        grey = 0.299 * y[:, 0] + 0.587 * y[:, 1] + 0.114 * y[:, 2]
        torch.testing.assert_close(given[:, 0], grey)
        given, wanted = make_pairs("details", images)
        torch.testing.assert_close(wanted, y)
        torch.testing.assert_close(given, interpolate(avg_pool2d(y, 4), (16, 16), mode="bilinear"))
        left, right = y[..., :8], y[..., 8:]
        for task, pair in (("left-to-right", (left, right)), ("right-to-left", (right, left))):
            torch.testing.assert_close(tuple(make_pairs(task, images)), pair)

    def test_edges_are_steps_of_the_luma(self):
        """A step from black to white along an axis has the length 1, and so half of one ½."""
        images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
        images[..., 4:] = 255
        edges = make_pairs("edges", images).given[0, 0]
        assert torch.equal(edges[:, 3:5], torch.ones(8, 2))
        assert torch.equal(edges[:, [0, 1, 2, 5, 6, 7]], -torch.ones(8, 6))
        assert torch.equal(make_pairs("edges", images.mT).given[0, 0], edges.T)
        half = make_pairs("edges", images // 255 * 51).given[0, 0]
        torch.testing.assert_close(half[:, 3:5], torch.full((8, 2), 2 * 51 / 255 - 1))

    @pytest.mark.parametrize(
        ("task", "shape", "message"),
        [
            ("colours", (1, 1, 8, 8), "colours needs images of 3 channels, got 1"),
            ("details", (1, 1, 8, 6), "details needs images with sides that are multiples of 4"),
            ("left-to-right", (1, 1, 8, 7), "left-to-right needs images of an even width, got 7"),
        ],
    )
    def test_images_that_do_not_fit(self, task, shape, message):
        with pytest.raises(ValueError, match=message):
            make_pairs(task, torch.zeros(shape, dtype=torch.uint8))


class TestStep:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"task": "details", "num_discriminators": 2, "patch_scales": 1, "num_scales": 3,
             "game": "least-squares", "feature_weight": 10.0, "reconstruction_weight": 0.0},
            {"task": "edges", "game": "hinge", "normalization": "instance", "accumulate": 2},
            {"task": "left-to-right", "adversarial_weight": 0.0, "precision": "bf16-mixed"},
        ],
        ids=str,
    )  # fmt: skip
    def test_both_players_move(self, images, options):
        experiment, batches = make(images, **options)
        players = [experiment.generator.module]
        if experiment.discriminator is not None:
            players.append(experiment.discriminator.module)
        before = [copy.deepcopy(player) for player in players]
        for step in range(2):
            scalars = experiment.step(batches[step])
        assert all(value.isfinite() and value.dtype == torch.float32 for value in scalars.values())
        assert ("discriminator_loss" in scalars) == (len(players) == 2)
        assert ("feature_matching" in scalars) == bool(options.get("feature_weight"))
        for player, old in zip(players, before, strict=True):
            pairs = list(zip(player.parameters(), old.parameters(), strict=True))
            still = sum(torch.equal(weight, other) for weight, other in pairs)
            # Biases before a normalisation have no effect.
            assert still <= 0.5 * len(pairs)
            assert all(weight.requires_grad for weight, _ in pairs)

    def test_it_is_that_of_a_plain_loop(self, images):
        """Adam of the discriminator on both, then of the generator against it as it is then; with a
        rate of the one that grows from a half, and one of the other that falls to 0 in four."""
        experiment, batches = make(
            images, normalization="none", dropout=0.0, adversarial_weight=0.5,
            reconstruction_weight=3.0, beta1=0.3, learning_rate=1e-2, schedule="linear",
            discriminator_learning_rate=3e-3, discriminator_warmup_steps=2,
        )  # fmt: skip
        generator, adversary = (
            copy.deepcopy(player.module)
            for player in (experiment.generator, experiment.discriminator)
        )
        optimizers = [
            torch.optim.Adam(player.parameters(), betas=(0.3, 0.999))
            for player in (generator, adversary)
        ]
        for step, rates in enumerate([(1e-2, 1.5e-3), (0.75e-2, 2.25e-3)]):
            experiment.step(batches[step])
            for optimizer, rate in zip(optimizers, rates, strict=True):
                optimizer.param_groups[0]["lr"] = rate
            given, wanted = make_pairs("colours", batches[step].x)
            translated = generator(given)
            optimizers[1].zero_grad()
            adversary(given, wanted, translated)["loss"].backward()
            optimizers[1].step()
            fake = adversary.discriminator(torch.cat([given, translated], 1))[0].logits
            loss = 0.5 * torch.nn.functional.softplus(-fake).mean()
            loss = loss + 3 * (wanted - translated).abs().mean()
            optimizers[0].zero_grad()
            loss.backward()
            optimizers[0].step()
        pairs = (experiment.generator, generator), (experiment.discriminator, adversary)
        for found, expected in pairs:
            for one, other in zip(found.module.parameters(), expected.parameters(), strict=True):
                torch.testing.assert_close(one, other)

    def test_each_player_has_its_schedule(self, images):
        experiment, batches = make(
            images, warmup_steps=2, schedule="linear", discriminator_warmup_steps=1,
            discriminator_schedule="cosine", discriminator_learning_rate=2e-3,
        )  # fmt: skip
        players, rates = (experiment.generator, experiment.discriminator), []
        for step in range(4):
            experiment.step(batches[step])
            rates.append([player.optimizer.param_groups[0]["lr"] / 1e-3 for player in players])
        expected = [[3 / 4, 2], [1, 3 / 2], [1 / 2, 1 / 2], [0, 0]]  # of the next step
        assert rates == [pytest.approx(pair) for pair in expected]
        assert "steps" not in Pix2PixRecipe().tuned()
        assert "steps" in Pix2PixRecipe(discriminator_schedule="linear").tuned()

    @pytest.mark.parametrize("prefix", ["", "discriminator_"])
    def test_each_player_has_its_bound_of_gradients(self, images, prefix):
        experiment, batches = make(images, **{f"{prefix}max_grad_norm": 1e-3})
        scalars = experiment.step(batches[0])
        players = {"": experiment.generator, "discriminator_": experiment.discriminator}
        for name, player in players.items():
            norm = torch.nn.utils.get_total_norm([w.grad for w in player.module.parameters()])
            assert (norm.item() == pytest.approx(1e-3, rel=1e-3)) == (name == prefix)
            assert (f"{name}grad_norm" in scalars) == (name == prefix)

    def test_parts_of_a_batch_have_the_gradients_of_the_whole(self, images):
        found = []
        for accumulate in (1, 2):
            experiment, batches = make(
                images, normalization="none", dropout=0.0, accumulate=accumulate
            )
            experiment.step(batches[0])
            found.append(list(experiment.generator.module.parameters()))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)

    def test_pixels_alone_learn_the_colours(self, images):
        """Each is a function of the grey level: grey images are much farther after 100 steps."""
        experiment, batches = make(
            images, adversarial_weight=0.0, normalization="none", dropout=0.0, width=8,
            learning_rate=1e-2,
        )  # fmt: skip
        for step in range(100):
            experiment.step(batches[step])
        measures = experiment.evaluate(8)
        assert measures["l1/model"] < 0.3 * measures["l1/baseline"]
        assert measures["psnr/model"] > measures["psnr/baseline"] + 8
        assert measures["colour_overlap/model"] > measures["colour_overlap/baseline"]


class TestRuns:
    def test_a_resumed_run_is_the_same(self, folder, tmp_path):
        """With dropout, whose masks belong to the state, and a discriminator in its warm-up."""

        def go(path, **more):
            options = {**TINY, "data": folder, "ema_decay": 0.9, "discriminator_warmup_steps": 5}
            recipe = Pix2PixRecipe(**{**options, **more})
            return train(path, recipe, num_samples=0, num_evaluate=0, resume=path.exists())

        whole = go(tmp_path / "whole")
        go(tmp_path / "parts", steps=2)
        resumed = go(tmp_path / "parts")
        assert {"discriminator_optimizer", "discriminator_scheduler"} <= whole.state.keys()
        assert "generator_scheduler" not in whole.state
        for name, part in whole.state.items():
            assert_same({name: resumed.state[name].state_dict()}, {name: part.state_dict()})

    def test_two_processes_compute_what_one_computes(self, folder, tmp_path):
        options = {**TINY, "data": folder, "normalization": "none", "dropout": 0.0}
        words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        words = ["train", "pix2pix", *words, *TRAIN_ALONE]
        run_on_ranks([*words, f"--out={tmp_path}/two"])
        assert cli.main([*words, f"--out={tmp_path}/one"]) == 0
        one, two = (
            read_state(tmp_path / name / "checkpoint.safetensors")["state"]
            for name in ("one", "two")
        )
        for part in ("generator_model", "discriminator_model"):
            for name, value in one[part].items():
                torch.testing.assert_close(two[part][name], value, rtol=1e-4, atol=1e-5)

    def test_the_command(self, folder, tmp_path):
        out = tmp_path / "run"
        words = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
        command = ["train", "pix2pix", *words, f"--data={folder}", f"--out={out}", *QUICK]
        assert cli.main([*command, "--task=right-to-left"]) == 2  # halves are too narrow for SSIM
        assert cli.main([*command, "--task=edges"]) == 0
        measures = json.loads((out / "metrics.json").read_text())
        assert measures["num_samples"] <= 5
        assert (out / "samples.png").is_file()
        assert cli.main(["sample", str(out), "--num=3", f"--out={tmp_path}/x.npy"]) == 0


class TestUse:
    def test_dropout_is_the_noise(self, images):
        experiment, _ = make(images, dropout=0.5)
        draws = [experiment.sample(8, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])
        state = torch.get_rng_state()
        experiment.sample(2, torch.Generator().manual_seed(3))
        assert torch.equal(torch.get_rng_state(), state)
        assert experiment.evaluate(4)["spread"] > 0
        assert make(images, dropout=0.0)[0].evaluate(4)["spread"] == 0

    def test_measures_are_of_test_images_and_of_the_simple_answer(self, images):
        """Of a generator that knows the truth, and of images of the mean of the training ones."""
        experiment, _ = make(images, task="edges")
        truth = images[:8].float() / 255
        experiment.translate = lambda given, generator: truth
        measures = experiment.evaluate(100)
        assert measures["num_samples"] == 8
        assert measures["l1/model"] == pytest.approx(0, abs=1e-6)
        assert measures["ssim/model"] == pytest.approx(1)
        assert measures["sharpness/model"] == pytest.approx(1)
        mean = (images.float() / 255).mean(0, keepdim=True).expand_as(truth)
        assert measures["l1/baseline"] == pytest.approx(
            (mean - truth).abs().mean().item(), rel=1e-5
        )
        differences = [
            sum(part.diff(dim=axis).abs().mean().item() for axis in (2, 3))
            for part in (mean, truth)
        ]
        sharpness = differences[0] / differences[1]
        assert measures["sharpness/baseline"] == pytest.approx(sharpness, rel=1e-5)
        error = (mean - truth).square().mean()
        assert measures["psnr/baseline"] == pytest.approx(-10 * error.log10().item(), rel=1e-5)

    def test_the_picture_has_what_is_given_made_and_wanted(self, images, tmp_path):
        from PIL import Image

        experiment, _ = make(images)
        samples = torch.zeros(2, 3, 16, 16)
        experiment.save_samples(samples, tmp_path / "samples.png")
        with Image.open(tmp_path / "samples.png") as picture:
            small = torch.tensor(np.array(picture.resize((35, 52), 0)))
        rows = [small[top : top + 16, 1:17] for top in (1, 18, 35)]
        assert torch.equal(rows[0].amax(2), rows[0].amin(2))  # grey
        assert not rows[1].any()
        assert torch.equal(rows[2].permute(2, 0, 1), images[0])

    def test_the_overlap_of_colours(self):
        red, blue = torch.zeros(2, 1, 3, 2, 2)
        red[:, 0], blue[:, 2] = 1, 1
        assert colour_overlap(red, red) == 1
        assert colour_overlap(red, blue) == 0
        half = torch.cat([red, blue])
        assert colour_overlap(half, torch.cat([red, red])) == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"adversarial_weight": 0.0, "game": "hinge"},
            "game is 'hinge', but it has an effect with",
        ),
        ({"adversarial_weight": 0.0, "feature_weight": 1.0}, "feature_weight is 1.0, but it has"),
        ({"adversarial_weight": 0.0, "reconstruction_weight": 0.0}, "adversarial_weight and recon"),
        *[
            (
                {"adversarial_weight": 0.0, f"discriminator_{name}": value},
                f"discriminator_{name} is {value!r}, but it has an effect with an adversarial_weig",
            )
            for name, value in (("schedule", "linear"), ("warmup_steps", 2), ("max_grad_norm", 1.0))
        ],
        ({"discriminator_warmup_steps": -1}, "discriminator_warmup_steps is -1; expected"),
        ({"discriminator_max_grad_norm": 0.0}, "discriminator_max_grad_norm is 0.0; expected pos"),
        ({"dropout": 1.0}, "dropout is 1.0 and beta1 0.5; expected less than 1"),
        ({"accumulate": 2}, "accumulate is 2, but normalization is over a batch"),
        ({"task": "video"}, "task is 'video'; expected one of colours, details"),
        ({"num_scales": 0}, "num_scales is 0; expected positive"),
        ({"feature_weight": -1.0}, "feature_weight is -1.0; expected"),
        ({"show_data": True}, "show_data is True, but it has an effect with"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"Pix2PixRecipe: {message}"):
        Pix2PixRecipe(**options)


def test_sides_that_cannot_be_halved(images):
    with pytest.raises(
        ValueError, match=r"sides of \[16, 8\]; expected multiples of 16, for num_s"
    ):
        make(images, task="left-to-right", num_scales=4)
