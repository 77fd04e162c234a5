"""The recipe of variational autoencoders: objectives, pixels, resuming, measures, commands."""

import json
import math

import pytest
import torch
from testing.runs import assert_same, train

from gencore import cli
from gencore.models import LevelLikelihood
from gencore.recipes.latent.vae import VAERecipe
from gencore.recipes.loaded_run import load_run
from gencore.train import Batch

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

SIZES = {
    "batch_size": 8, "steps": 4, "latent_size": 3, "hidden_widths": (8,), "bound_samples": 5,
}  # fmt: skip
VARIANTS = [
    {},
    {"objective": "iwae", "train_samples": 3},
    {"prior": "flow"},
    {"posterior": "iaf"},
    {"pixels": "gaussian", "learn_scale": True},
    {"pixels": "categorical"},
    {"pixels": "logistic", "objective": "iwae"},
]


def make(**options):
    recipe = VAERecipe(**{**SIZES, **options})
    torch.manual_seed(recipe.seed)
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    return recipe.build(fabric, recipe.load_data())


@pytest.fixture(autouse=True)
def quick_classifier(monkeypatch):
    """Ten steps of the classifier in whose features distances are."""
    from gencore.metrics import ClassifierFeatures

    fit = ClassifierFeatures.fit.__func__
    quick = classmethod(lambda cls, *args, **options: fit(cls, *args, **options, num_steps=10))
    monkeypatch.setattr(ClassifierFeatures, "fit", quick)


@pytest.mark.parametrize("options", VARIANTS)
def test_every_step_moves_all_weights(options):
    experiment = make(**options)
    weights = [w for w in experiment.model.parameters() if w.requires_grad]
    before = [w.detach().clone() for w in weights]
    # Two steps: what starts at zero gives the layers before it no gradient.
    for start in (0, 8):
        images = experiment.dataset.images[start : start + 8]
        scalars = experiment.step(Batch(images, None, torch.arange(start, start + 8)))
    expected = {"loss"} if options.get("objective") == "iwae" else {"loss", "reconstruction", "kl"}
    assert set(scalars) == expected
    assert all(not torch.equal(w, old) for w, old in zip(weights, before, strict=True))
    samples = experiment.sample(3)
    assert samples.shape == (3, 1, 8, 8)
    assert 0 <= samples.min() < samples.max() <= 1


@pytest.mark.parametrize("options", [{"posterior": "iaf"}, {"objective": "iwae"}])
def test_a_resumed_run_is_the_same(tmp_path, options):
    def run(folder, **more):
        recipe = VAERecipe(**{**SIZES, **options, "ema_decay": 0.9, **more})
        return train(folder, recipe, num_samples=0, num_evaluate=0, resume=folder.exists())

    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", steps=2)
    resumed = run(tmp_path / "parts")
    for name, part in whole.state.items():
        assert_same({name: resumed.state[name].state_dict()}, {name: part.state_dict()})


@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_parts_of_a_batch_have_the_gradients_of_the_whole(objective):
    states = []
    for accumulate in (1, 2):
        experiment = make(objective=objective, accumulate=accumulate)
        experiment.step(Batch(experiment.dataset.images[:8], None, torch.arange(8)))
        states.append(list(experiment.model.parameters()))
    for one, other in zip(*states, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_the_command_trains_samples_and_evaluates(tmp_path):
    out = tmp_path / "run"
    options = {**SIZES, "hidden_widths": 8, "pixels": "categorical", "num_evaluate": 20}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    assert cli.main(["train", "vae", "--accelerator", "cpu", "--out", str(out), *words]) == 0
    measures = json.loads((out / "metrics.json").read_text())
    bounds = [measures[f"bound_{num}/test"] for num in (1, 5)]
    assert bounds[0] < bounds[1] < 0
    bits = -bounds[1] / (64 * math.log(2))
    assert measures["bits_per_dim_5/test"] == pytest.approx(bits)
    assert 7 < bits < 9  # hardly trained: a uniform distribution of 256 levels has 8
    for name in ("interpolation.png", "reconstructions.png", "traversals.png"):
        assert (out / "figures" / name).is_file()
    assert cli.main(["sample", str(out), "--num", "5", "--out", str(tmp_path / "x.npy")]) == 0
    assert cli.main(["evaluate", str(out), "--num", "30"]) == 0
    _, experiment, _, _ = load_run(out, "cpu", with_data=False)
    assert isinstance(experiment.model.likelihood, LevelLikelihood)
    generator, shape = experiment.latent_generator()
    assert generator(torch.randn(2, *shape)).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_size": 0}, "latent_size is 0; expected positive"),
        ({"hidden_widths": ()}, r"hidden_widths is \(\); expected one positive number or more"),
        ({"kl_weight": -1.0}, "kl_weight is -1.0"),
        ({"train_samples": 3}, "train_samples is 3, but it has an effect with objective iwae"),
        ({"objective": "iwae", "kl_weight": 2.0}, "kl_weight is 2.0, but it has an effect with"),
        ({"prior": "flow", "free_bits": 0.1}, "free_bits is 0.1, but it has an effect with"),
        ({"learn_scale": True}, "learn_scale is True, but it has an effect with pixels gaussian"),
        ({"pixels": "poisson"}, "pixels is 'poisson'; expected one of bernoulli, gaussian"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"VAERecipe: {message}"):
        VAERecipe(**options)


def test_a_preset_is_that_of_the_source():
    recipe = VAERecipe.preset("yan2022-mnist-40")
    assert (recipe.steps * recipe.batch_size, recipe.latent_size) == (200 * 60_000, 40)


class TestLatentsOfImages:
    def test_rows_of_the_batch_move_and_the_others_do_not(self):
        experiment = make(objective="vlo", inner_steps=2)
        latents = experiment.state["latents"].latents
        before = latents.values.clone()
        experiment.step(Batch(experiment.dataset.images[:8], None, torch.arange(8)))
        moved = (latents.values != before).any(1)
        assert moved[:8].all()
        assert not moved[8:].any()
        assert latents.num_steps[:9].tolist() == [2] * 8 + [0]

    def test_a_resumed_run_is_the_same(self, tmp_path):
        def run(folder, **more):
            recipe = VAERecipe(**{**SIZES, "objective": "vlo", "inner_steps": 2, **more})
            return train(folder, recipe, num_samples=0, num_evaluate=0, resume=folder.exists())

        whole = run(tmp_path / "whole")
        run(tmp_path / "parts", steps=2)
        resumed = run(tmp_path / "parts")
        for name, part in whole.state.items():
            assert_same({name: resumed.state[name].state_dict()}, {name: part.state_dict()})

    def test_the_command_trains_and_evaluates(self, tmp_path):
        out = tmp_path / "run"
        options = {
            **SIZES, "hidden_widths": 8, "objective": "vlo", "inference_steps": 3,
            "num_evaluate": 20,
        }  # fmt: skip
        words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        assert cli.main(["train", "vae", "--accelerator", "cpu", "--out", str(out), *words]) == 0
        measures = json.loads((out / "metrics.json").read_text())
        assert measures["bound_1/test"] < measures["bound_5/test"] < 0
        assert (out / "figures" / "reconstructions.png").is_file()
        assert cli.main(["evaluate", str(out), "--num", "10"]) == 0
        assert cli.main(["sample", str(out), "--num", "5", "--out", str(tmp_path / "x.npy")]) == 0
        _, experiment, _, _ = load_run(out, "cpu", with_data=False)
        assert len(experiment.state["latents"].latents) == 1438  # as many as there are images
