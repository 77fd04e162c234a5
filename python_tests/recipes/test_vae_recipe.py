"""The recipe of variational autoencoders: objectives, pixels, resuming, measures, commands."""

import json
import math

import pytest
import torch
from testing.command_line import TRAIN_ALONE
from testing.ranks import run_on_one_and_two
from testing.runs import assert_same, train

from gencore import cli
from gencore.models import VAE, LevelLikelihood
from gencore.recipes.latent.vae import VAERecipe
from gencore.recipes.loaded_run import load_run
from gencore.train import Batch
from gencore.train.logs import read_log
from gencore.train.state_file import read_state

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")
Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.usefixtures("quick_classifier")

SIZES = {
    "batch_size": 8, "steps": 4, "latent_size": 3, "hidden_widths": (8,), "bound_samples": 5,
}  # fmt: skip
VARIANTS = [
    {},
    {"objective": "iwae", "train_samples": 3},
    {"objective": "iwae", "train_samples": 3, "estimator": "doubly_reparametrised"},
    {"estimator": "path"},
    {"estimator": "path", "posterior": "iaf"},
    {"estimator": "score", "train_samples": 3},
    {"prior": "flow"},
    {"posterior": "iaf"},
    {"pixels": "gaussian", "learn_scale": True},
    {"pixels": "categorical"},
    {"pixels": "logistic", "objective": "iwae"},
    {"upper_latents": (2,), "free_bits": 0.1},
    {"upper_latents": (2, 4), "objective": "iwae"},
]


def make(**options):
    recipe = VAERecipe(**{**SIZES, **options})
    torch.manual_seed(recipe.seed)
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    return recipe.build(fabric, recipe.load_data())


@pytest.mark.parametrize("options", VARIANTS)
def test_every_step_moves_all_weights(options):
    experiment = make(**options)
    weights = [w for w in experiment.model.parameters() if w.requires_grad]
    before = [w.detach().clone() for w in weights]
    # Two steps: what starts at zero gives the layers before it no gradient.
    for start in (0, 8):
        images = experiment.dataset.images[start : start + 8]
        scalars = experiment.step(Batch(images, None, torch.arange(start, start + 8)))
    of_loss = options.get("objective", "elbo") == "elbo" and "estimator" not in options
    expected = {"loss", "reconstruction", "kl"} if of_loss else {"loss"}
    if options.get("free_bits"):
        expected |= {"kl/level_0", "kl/level_1"}
    assert set(scalars) == expected
    assert all(not torch.equal(w, old) for w, old in zip(weights, before, strict=True))
    samples = experiment.sample(3)
    assert samples.shape == (3, 1, 8, 8)
    assert 0 <= samples.min() < samples.max() <= 1


@pytest.mark.parametrize(
    "options", [{"posterior": "iaf"}, {"objective": "iwae"}, {"upper_latents": (2,)}]
)
def test_a_resumed_run_is_the_same(tmp_path, options):
    def run(folder, **more):
        recipe = VAERecipe(**{**SIZES, **options, "ema_decay": 0.9, **more})
        return train(folder, recipe, num_samples=0, num_evaluate=0, resume=folder.exists())

    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", steps=2)
    resumed = run(tmp_path / "parts")
    for name, part in whole.state.items():
        assert_same({name: resumed.state[name].state_dict()}, {name: part.state_dict()})


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "elbo"},
        {"objective": "iwae"},
        {"objective": "vlo"},
        {"estimator": "score"},
        {"objective": "iwae", "estimator": "doubly_reparametrised"},
    ],
)
def test_parts_of_a_batch_have_the_gradients_of_the_whole(options):
    states = []
    for accumulate in (1, 2):
        experiment = make(**options, accumulate=accumulate)
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


def test_a_hierarchy_shows_what_each_latent_does(tmp_path):
    experiment = make(upper_latents=(2,))
    experiment.figures(tmp_path)
    with Image.open(tmp_path / "traversals.png") as traversals:
        width, height = traversals.size
    assert height * 11 == pytest.approx(width * 5, rel=0.1)  # 2 + 3 rows of 11 images
    generator, shape = experiment.latent_generator()
    assert shape == (5,)
    assert generator(torch.randn(2, 5)).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_size": 0}, "latent_size is 0; expected positive"),
        ({"hidden_widths": ()}, r"hidden_widths is \(\); expected one positive number or more"),
        ({"kl_weight": -1.0}, "kl_weight is -1.0"),
        ({"train_samples": 3}, "train_samples is 3, but it has an effect with objective iwae"),
        ({"objective": "iwae", "kl_weight": 2.0}, "kl_weight is 2.0, but it has an effect with"),
        ({"estimator": "path", "kl_weight": 2.0}, "kl_weight is 2.0, but it has an effect with"),
        ({"estimator": "path", "train_samples": 3}, "train_samples is 3, but it has an effect"),
        ({"estimator": "score", "train_samples": 1}, "train_samples is 1; expected 2 or more"),
        ({"prior": "flow", "free_bits": 0.1}, "free_bits is 0.1, but it has an effect with"),
        ({"upper_latents": (2, 0)}, r"upper_latents is \(2, 0\); expected positive numbers"),
        ({"estimator": "path", "upper_latents": (2,)}, r"upper_latents is \(2,\), but it has an e"),
        ({"objective": "vlo", "upper_latents": (2,)}, r"upper_latents is \(2,\), but it has an ef"),
        ({"learn_scale": True}, "learn_scale is True, but it has an effect with pixels gaussian"),
        ({"pixels": "poisson"}, "pixels is 'poisson'; expected one of bernoulli, gaussian"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"VAERecipe: {message}"):
        VAERecipe(**options)


@pytest.mark.parametrize(
    ("objective", "estimator"), [("elbo", "doubly_reparametrised"), ("iwae", "path")]
)
def test_each_objective_has_its_estimators(objective, estimator):
    message = f"VAERecipe with objective {objective}: estimator is '{estimator}'; expected one of"
    with pytest.raises(ValueError, match=message):
        VAERecipe(objective=objective, estimator=estimator)


@pytest.mark.parametrize(
    ("method", "options", "passed"),
    [
        ("elbo", {"estimator": "path"}, {"estimator": "path"}),
        (
            "elbo", {"estimator": "score", "train_samples": 3},
            {"estimator": "score", "num_samples": 3, "baseline": "leave_one_out"},
        ),
        (
            "log_prob_bound", {"objective": "iwae", "estimator": "doubly_reparametrised"},
            {"estimator": "doubly_reparametrised", "num_samples": 10},
        ),
    ],
)  # fmt: skip
def test_a_step_is_by_the_estimator(monkeypatch, method, options, passed):
    called, bound = [], getattr(VAE, method)

    def record(model, x, **given):
        called.append({name: value for name, value in given.items() if name in passed})
        return bound(model, x, **given)

    monkeypatch.setattr(VAE, method, record)
    experiment = make(**options)
    experiment.step(Batch(experiment.dataset.images[:8], None, torch.arange(8)))
    assert called == [passed]


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

    @pytest.mark.slow
    def test_two_processes_compute_what_one_computes(self, tmp_path):
        """Each has half of a batch, and the table that both keep has the rows of the whole."""
        options = {**SIZES, "steps": 5, "hidden_widths": 8, "objective": "vlo", "inner_steps": 2}
        words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        runs = run_on_one_and_two(["train", "vae", *words, *TRAIN_ALONE], tmp_path)
        one, two = (read_state(run.checkpoint)["state"] for run in runs)
        assert one["latents"]["num_steps"].sum() == 5 * 8 * 2
        for part in ("latents", "model"):
            for name, value in one[part].items():
                torch.testing.assert_close(two[part][name], value, rtol=1e-4, atol=1e-5)
        losses = [read_log(run.log)["loss"] for run in runs]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)

    def test_their_rate_follows_the_schedule(self):
        """A row makes its first step of Adam, of the learning rate, when the schedule is half
        over: by half of it (1 + cos π/2)/2."""
        moved = {}
        for schedule in ("constant", "cosine"):
            experiment = make(objective="vlo", inner_steps=1, schedule=schedule, steps=4)
            latents, images = experiment.state["latents"].latents, experiment.dataset.images
            before = latents.values.clone()
            for start in (0, 8, 16):
                rows = torch.arange(start, start + 8)
                experiment.step(Batch(images[rows], None, rows))
            moved[schedule] = (latents.values - before).abs().flatten(1).amax(1)
        torch.testing.assert_close(moved["constant"][:24], torch.full((24,), 0.1))
        torch.testing.assert_close(moved["cosine"][:8], torch.full((8,), 0.1))
        torch.testing.assert_close(moved["cosine"][16:24], torch.full((8,), 0.05))


def test_no_more_numbers_than_fit_are_decoded_at_once(monkeypatch):
    """256 logits a pixel of many latents would be gigabytes."""
    monkeypatch.setattr("gencore.recipes.latent.vae_experiment._NUMBERS", 2**20)
    experiment = make(pixels="categorical", bound_samples=20)
    sizes = []
    experiment.model.decoder.register_forward_hook(lambda _, x, out: sizes.append(out.numel()))
    experiment.evaluate(20)
    assert max(sizes[-25:]) <= 2**20
