"""The recipe of AGAVE and its baselines: training, phases, one account of bits, the command."""

import math
from copy import deepcopy

import pytest
import torch

from gencore import cli
from gencore.models import (
    AGAVE,
    AuxiliaryPixelCNN,
    FullResolutionTarget,
    GatedPixelCNN,
    GrayscaleDecoder,
    GrayscaleTarget,
)
from gencore.recipes.autoregressive.agave import AGAVERecipe
from gencore.recipes.autoregressive.agave_experiment import (
    PlainPixelCNN,
    _vae,
    make_model,
    objective_weights,
)
from gencore.recipes.level_bits import level_bits
from gencore.train import Batch

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

SMALL_PIXELS = {"channels": 4, "num_resnets": 1, "num_components": 2}
SMALL_VAE = {"vae_channels": 4, "vae_scales": 1, "latent_size": 2}
SMALL = {"batch_size": 8, "importance_samples": 3, **SMALL_PIXELS, **SMALL_VAE}


def make(**options):
    small = {"batch_size": 8, "importance_samples": 3}
    if options.get("model") != "vae":
        small |= SMALL_PIXELS
    if "pixelcnn" not in options.get("model", ""):
        small |= SMALL_VAE
    recipe = AGAVERecipe(**{**small, **options})
    torch.manual_seed(recipe.seed)
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    return recipe.build(fabric, recipe.load_data())


def rows(experiment, start, end):
    return Batch(experiment.dataset.images[start:end], None, torch.arange(start, end))


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({}, {"primary", "auxiliary", "kl"}),
        ({"target_bins": 4, "iaf_steps": 1}, {"primary", "auxiliary", "kl"}),
        ({"target": "small", "bits": 8, "num_scales": 2}, {"primary", "auxiliary", "kl"}),
        ({"target": "grey", "target_bins": 8}, {"primary", "auxiliary", "kl"}),
        ({"model": "vae"}, {"auxiliary", "kl"}),
        ({"model": "pixelcnn"}, {"primary"}),
        ({"model": "naive"}, {"primary", "auxiliary", "kl"}),
        ({"model": "shallow"}, {"primary", "auxiliary", "kl"}),
        ({"model": "grey", "data": "photos", "image_size": 4}, {"primary", "auxiliary", "kl"}),
        ({"model": "auxiliary-pixelcnn", "target_bins": 4}, {"primary", "auxiliary"}),
    ],
)
def test_a_step_trains_and_samples_are_images(options, terms):
    experiment = make(**options)
    before = weights(experiment.optimisation.module)
    logs = experiment.step(rows(experiment, 0, 8))
    assert logs.keys() == {"loss", *terms}
    assert all(value.dim() == 0 and value.isfinite() for value in logs.values())
    assert not torch.equal(weights(experiment.optimisation.module), before)
    samples = experiment.sample(3)
    assert samples.shape == (3, *experiment.image_shape)
    assert 0 <= samples.min() <= samples.max() <= 1
    # Levels of `bits` bits.
    top = 2**experiment.recipe.bits - 1
    torch.testing.assert_close(samples * top, (samples * top).round())
    measures = experiment.evaluate(6)
    assert measures["bits_per_dim/test"] == pytest.approx(
        {
            "vae": lambda: measures["auxiliary/test"] + measures["kl/test"],
            "pixelcnn": lambda: measures["primary/test"],
            "auxiliary-pixelcnn": lambda: measures["primary/test"] + measures["auxiliary/test"],
        }.get(experiment.recipe.model, lambda: measures["primary/test"] + measures["kl/test"])()
    )
    assert ("bits_per_dim_iw3/test" in measures) == ("kl" in terms)


class TestBits:
    def test_all_models_are_measured_alike(self):
        """Pixels that are uniform on 16 levels take 4 bits, whatever the model, and an auxiliary
        pixelCNN's auxiliary image its own bits besides."""
        shape, levels = (3, 4, 4), 16
        x = torch.randint(levels, (5, *shape))

        def uniform(shape, levels, context_channels):
            network = GatedPixelCNN(
                shape, 6, 1, levels=levels, channel_groups=1, context_channels=context_channels
            )
            for parameter in network.parameters():
                parameter.data.zero_()
            return network

        target = FullResolutionTarget(shape, levels)
        recipe = AGAVERecipe(**SMALL)
        colours = uniform(shape, levels, 3)
        # Encoders start at the prior, so that there is no divergence.
        models = {
            "pixelcnn": PlainPixelCNN(uniform(shape, levels, 0)),
            "agave": AGAVE(_vae(recipe, target), colours),
            "grey": AGAVE(_vae(recipe, target), GrayscaleDecoder(colours)),
        }
        for name, model in models.items():
            bits = level_bits(model.bound(x), shape)
            torch.testing.assert_close(bits, torch.full((5,), 4.0), msg=name)
        grey = GrayscaleTarget(shape, levels, bins=4)
        auxiliary = AuxiliaryPixelCNN(uniform(grey.shape, 4, 0), uniform(shape, levels, 1), grey)
        bits = level_bits(auxiliary.bound(x), shape)
        torch.testing.assert_close(bits, torch.full((5,), 4.0 + 2 / 3))
        # A decoder at the middle of the range with a wide scale: two values that are as likely.
        vae = _vae(recipe, FullResolutionTarget(shape, 2))
        for parameter in vae.decoder.parameters():
            parameter.data.zero_()
        vae.decoder.last[1].bias.data.fill_(1.0)  # where the only edge is
        bits = level_bits(vae.bound(x // 8), shape)
        torch.testing.assert_close(bits, torch.full((5,), 1.0))

    def test_the_terms_that_are_logged_are_bits_of_the_image(self):
        experiment = make(model="pixelcnn")
        batch = rows(experiment, 0, 8)
        with torch.no_grad():
            log_prob = experiment.model.bound(batch.x)
        logs = experiment.step(batch)
        expected = -log_prob.mean().item() / 64 / math.log(2)
        assert logs["loss"].item() == pytest.approx(expected, rel=1e-5)
        assert logs["primary"].item() == pytest.approx(expected, rel=1e-5)


class TestPhases:
    def test_weights_of_the_objective(self):
        recipe = AGAVERecipe(kl_weight=8.0, auxiliary_drop_step=5)
        assert objective_weights(recipe, 4) == {"kl_weight": 8.0, "auxiliary_weight": 1.0}
        assert objective_weights(recipe, 5) == {"kl_weight": 1.0, "auxiliary_weight": 0.0}
        naive = AGAVERecipe(model="naive")
        assert objective_weights(naive, 0) == {"kl_weight": 1.0, "auxiliary_weight": 0.0}
        vae = AGAVERecipe(model="vae")
        assert objective_weights(vae, 0) == {"kl_weight": 1.0, "auxiliary_weight": 1.0}

    def test_the_auxiliary_term_is_dropped_at_its_step(self):
        experiment = make(auxiliary_drop_step=1)
        first, second = (experiment.step(rows(experiment, 0, 8)) for _ in range(2))
        total = sum(first[name] for name in ("primary", "auxiliary")) + 2 * first["kl"]
        torch.testing.assert_close(first["loss"], total)
        torch.testing.assert_close(second["loss"], second["primary"] + second["kl"])

    def test_before_they_are_joined_the_vae_does_not_depend_on_the_pixels(self):
        """Its weights after two steps of the first phase are those beside another pixelCNN."""
        runs = []
        for seed in (0, 1):
            experiment = make(pretrain_steps=2)
            torch.manual_seed(seed)
            for parameter in experiment.model.primary.parameters():
                parameter.data.add_(0.01 * torch.randn_like(parameter))
            torch.manual_seed(5)
            for _ in range(2):
                experiment.step(rows(experiment, 0, 8))
            runs.append(weights(experiment.model.vae))
            experiment.step(rows(experiment, 0, 8))
            runs.append(weights(experiment.model.vae))
        assert torch.equal(runs[0], runs[2])
        assert not torch.equal(runs[1], runs[3])

    def test_its_state_is_all_that_the_next_steps_depend_on(self):
        options = {"pretrain_steps": 1, "auxiliary_drop_step": 3}
        source, target = make(**options), make(**options, seed=1)
        for _ in range(2):
            source.step(rows(source, 0, 8))
        for name, part in target.state.items():
            part.load_state_dict(deepcopy(source.state[name].state_dict()))
        runs = []
        for experiment in (source, target):
            torch.manual_seed(2)
            logs = [experiment.step(rows(experiment, 8, 16))["loss"] for _ in range(3)]
            runs.append((torch.stack(logs), weights(experiment.model)))
        assert torch.equal(runs[0][0], runs[1][0])
        assert torch.equal(runs[0][1], runs[1][1])

    def test_parts_of_a_batch_move_the_weights_as_the_whole(self):
        moved = []
        for accumulate in (1, 2):
            experiment = make(accumulate=accumulate)
            torch.manual_seed(3)
            experiment.step(rows(experiment, 0, 8))
            moved.append(weights(experiment.model))
        torch.testing.assert_close(*moved, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", AGAVERecipe.presets)
def test_presets_are_recipes_whose_models_can_be_made(name):
    recipe = AGAVERecipe.preset(name)
    with torch.device("meta"):
        model = make_model(recipe, (3, 32, 32))
    assert model.primary.likelihood.num_components == 10
    expected = {"lucas2020-16x16": (3, 16, 16), "lucas2020-8x8": (3, 8, 8)}
    expected["lucas2020-grey"] = (1, 32, 32)
    assert model.vae.target.shape == expected.get(name, (3, 32, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 9}, "bits is 9; expected 1 to 8"),
        ({"target_bins": 3}, "target_bins is 3; expected a divisor of the 16 levels"),
        ({"target": "small", "target_bins": 4}, "a smaller auxiliary image has all levels"),
        ({"dropout": 1.0}, r"dropout is 1\.0; expected 0 to below 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AGAVERecipe(**options)


def test_figures_show_what_the_pixels_are_given(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "gencore.train.figures.save_image_grid",
        lambda images, path, columns: drawn.update({path.name: (images, columns)}),
    )
    experiment = make()
    experiment.figures(tmp_path)
    assert {name: (len(images), columns) for name, (images, columns) in drawn.items()} == {
        "auxiliary.png": (66, 11), "reconstructions.png": (30, 10), "interpolation.png": (60, 10),
    }  # fmt: skip
    images, _ = drawn["reconstructions.png"]
    test = experiment.test.images
    x = (images[:10] * 15).round().to(torch.uint8)
    assert ((x[:, None] == test).flatten(2).all(2)).any(1).all()
    with torch.no_grad():
        f = experiment.model.vae.decode(experiment.model.encode(x))
    torch.testing.assert_close(images[10:20], experiment.model.vae.target.image(f))


def test_the_command_trains_samples_and_evaluates(tmp_path):
    out = tmp_path / "run"
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in SMALL.items())
    words = f"train agave --steps 2 {options} --num-samples 4 --accelerator cpu --num-evaluate 20"
    assert cli.main([*words.split(), "--out", str(out)]) == 0
    figures = sorted(path.name for path in (out / "figures").iterdir())
    assert figures == ["auxiliary.png", "interpolation.png", "reconstructions.png"]
    assert cli.main(["sample", str(out), "--num", "5", "--out", str(tmp_path / "x.npy")]) == 0
    assert cli.main(["evaluate", str(out), "--num", "30"]) == 0
