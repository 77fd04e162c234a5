"""The recipe of energies on other runs' generators: the base, resuming, measures, the command."""

import json

import pytest
import torch
from testing.runs import assert_same, train, train_with_a_stop

from gencore import cli
from gencore.data import to_float
from gencore.recipes.ebm.autoencoder import AutoencoderRecipe
from gencore.recipes.hybrids.avade import AVADERecipe
from gencore.recipes.hybrids.latentebm import LatentEBMRecipe
from gencore.recipes.latent.glf import GLFRecipe
from gencore.train import Batch

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

QUIET = {"num_samples": 0, "num_evaluate": 0}
SMALL = {"steps": 4, "batch_size": 8, "chain_steps": 3, "sample_steps": 5}
_BASES = {
    "glf": GLFRecipe(steps=2, batch_size=8, channels=2, hidden_features=4, flow_width=4),
    "gan": AVADERecipe(model="gan", steps=2, batch_size=8, widths=(4, 4), latent_size=4),
}


@pytest.fixture(scope="module", params=sorted(_BASES))
def base(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp(request.param)
    train(folder, _BASES[request.param], **QUIET)
    return folder


def make(base, **options):
    recipe = LatentEBMRecipe(base=str(base), **{**SMALL, **options})
    torch.manual_seed(recipe.seed)
    dataset = recipe.load_data()
    return recipe.build(fabric_module.Fabric(accelerator="cpu", devices=1), dataset)


def batch(experiment):
    return Batch(experiment.dataset.images[:8], None, torch.arange(8))


def test_the_base_stays_as_it_is_and_chains_start_at_its_samples(base):
    experiment = make(base)
    weights = {name: w.clone() for name, w in experiment.ebm.base.state_dict().items()}
    before = [w.clone() for w in experiment.ebm.energy.parameters()]
    scalars = experiment.step(batch(experiment))
    assert set(scalars) == {"loss", "energy_data", "energy_samples"}
    assert_same(dict(experiment.ebm.base.state_dict()), weights)
    after = list(experiment.ebm.energy.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    torch.manual_seed(3)
    drawn = experiment.more_candidates(4)["base"]
    torch.manual_seed(3)
    again = experiment.more_candidates(4)["base"]
    assert torch.equal(drawn, again)
    assert drawn.shape == (4, 1, 8, 8)
    assert 0 <= drawn.min() <= drawn.max() <= 1


def test_the_energy_sees_pixels_around_zero(base):
    experiment = make(base)
    seen = []
    hook = experiment.ebm.energy[1].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    images = experiment.dataset.images[:3]
    experiment.ebm.energy(to_float(images, 0, 1))
    hook.remove()
    torch.testing.assert_close(seen[0], to_float(images, -1, 1))


def test_the_seed_is_the_runs_and_not_the_bases(base):
    weights = [next(make(base, seed=seed).ebm.energy.parameters()) for seed in (0, 0, 7)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.slow
def test_a_resumed_run_is_the_same(tmp_path, base):
    recipe = LatentEBMRecipe(**{**SMALL, "base": str(base)})
    train_with_a_stop(tmp_path, recipe, stop=2)


def test_bases_that_do_not_fit(tmp_path, base):
    with pytest.raises(ValueError, match="base is not given"):
        make("")
    with pytest.raises(
        ValueError, match=r"makes images of \[1, 8, 8\]; the data are \[1, 16, 16\]"
    ):
        make(base, image_size=16)

    train(tmp_path, AutoencoderRecipe(steps=1, code_size=8, batch_size=8), **QUIET)
    with pytest.raises(ValueError, match="a run of the recipe autoencoder, which has no generator"):
        make(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_step": 0.0}, "time_step is 0"),
        ({"sample_steps": -1}, "sample_steps is -1"),
        ({"spectral_norm": True, "accumulate": 2}, "accumulate is 2"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"LatentEBMRecipe: {message}"):
        LatentEBMRecipe(**options)


@pytest.mark.usefixtures("quick_classifier")
def test_the_command_trains_samples_and_evaluates(tmp_path, base):
    out = tmp_path / "run"
    options = {**SMALL, "base": base, "num_samples": 4, "num_evaluate": 20}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    words = ["--accelerator", "cpu", "--out", str(out), *words]
    assert cli.main(["train", "latentebm", *words]) == 0
    assert "frechet_pixels/base" in json.loads((out / "metrics.json").read_text())
    assert (out / "figures" / "before-and-after.png").is_file()
    assert cli.main(["sample", str(out), "--num", "5", "--out", str(tmp_path / "x.npy")]) == 0
    assert cli.main(["evaluate", str(out), "--num", "30"]) == 0
