"""The recipe of grid cells: batches, constraints, freezing, measures, figures, the command."""

import json
import math

import pytest
import torch
from testing.runs import make, train, train_with_a_stop

from gencore import cli
from gencore.metrics import autocorrelogram
from gencore.recipes.grid_cells.gridcells import GridCellsRecipe
from gencore.recipes.grid_cells.gridcells_experiment import DirectionBatches

pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")

SMALL = {
    "steps": 4, "batch_size": 6, "samples": 3, "lattice_size": 12, "num_modules": 2,
    "module_size": 4, "path_steps": 5, "sigma": 0.2,
}  # fmt: skip


def small(**options):
    return GridCellsRecipe(**{**SMALL, **options})


def steps(recipe, num):
    experiment, batches = make(recipe)
    torch.manual_seed(1)
    for step in range(num):
        scalars = experiment.step(batches[step])
    return experiment, scalars


class TestBatches:
    def test_directions_go_around_the_circle(self):
        batches = DirectionBatches(8, seed=3)
        one, other = batches[0].x, batches[1].x
        gap = 2 * math.pi / 8
        torch.testing.assert_close(one.diff(), torch.full((7,), gap))
        assert 0 <= one[0] < gap
        assert one[0] != other[0]
        assert torch.equal(batches[1].x, other)

    def test_ranks_share_them(self):
        whole = DirectionBatches(8, seed=3)[5]
        parts = [DirectionBatches(8, seed=3, rank=r, world_size=2)[5] for r in (0, 1)]
        torch.testing.assert_close(torch.cat([part.x for part in parts]), whole.x)
        assert [part.first for part in parts] == [0, 4]
        assert torch.cat([part.index for part in parts]).tolist() == list(range(40, 48))


class TestSteps:
    @pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9}, {"excitatory": False}])
    def test_constraints_hold(self, options):
        experiment, _ = steps(small(**options), 3)
        length = experiment.cells.code.norm(dim=-1)
        torch.testing.assert_close(length, torch.full_like(length, 2**-0.5))
        assert (experiment.cells.readout.min() < 0) == ("excitatory" in options)

    def test_accumulated_in_parts_a_step_is_that_of_the_whole_batch(self):
        (_, whole), (_, parts) = steps(small(), 1), steps(small(accumulate=3), 1)
        torch.testing.assert_close(parts, whole)

    def test_vectors_stay_from_a_step_on(self):
        recipe = small(freeze_step=2, steps=9, schedule="constant", halve_every=3)
        experiment, batches = make(recipe)
        codes, rates = [], []
        for step in range(9):
            rates.append([group["lr"] for group in experiment.optimisation.optimizer.param_groups])
            weight = experiment.cells.transform.weight.clone()
            experiment.step(batches[step])
            codes.append(experiment.cells.code.detach().clone())
            assert not torch.equal(experiment.cells.transform.weight, weight)
        assert not torch.equal(codes[0], codes[1])
        torch.testing.assert_close(codes[-1], codes[1])
        code_rates, others = zip(*rates, strict=True)
        assert code_rates == pytest.approx([0.02, 0.02] + [0] * 7)
        assert others == pytest.approx([0.02] * 5 + [0.01] * 3 + [0.005])

    @pytest.mark.parametrize(
        "options", [{"transform": "network"}, {"skew": False}, {"order": None}, {"num_modules": 1}]
    )
    def test_other_models_step(self, options):
        _, scalars = steps(small(**options), 2)
        assert all(value.isfinite() for value in scalars.values())
        assert list(scalars) == ["loss", "basis", "transformation", "isotropy"]


class TestMeasures:
    def test_the_measures_have_their_names_and_units(self):
        experiment, _ = make(small())
        measures = experiment.evaluate(30)
        assert 0 < measures["error_cm/free"] < 142
        assert measures["error_cm/lattice_readout"] > 0
        assert 0 <= measures["gridness/null_rate"] <= 1
        assert measures["metric/min"] <= measures["metric/mean"] <= measures["metric/max"]

    def test_an_oracle_has_no_error(self):
        """With vectors and steps of hexagons in the place of learned ones."""
        from gencore.data import PlaceLattice
        from gencore.models import HexagonCode

        experiment, _ = make(small(num_modules=2, module_size=6, lattice_size=20))
        code = HexagonCode(PlaceLattice(20), [0.45, 0.63])
        cells = experiment.optimisation.module
        with torch.no_grad():
            cells.code.copy_(code.code)
        cells.project_()
        cells.step = code.step
        measures = experiment.evaluate(20)
        assert measures["error_cm/lattice"] == pytest.approx(0, abs=1e-4)
        assert measures["error_cm/lattice_reencoded"] == pytest.approx(0, abs=1e-4)
        assert measures["error_cm/free"] < 100 / 19
        assert measures["gridness/grid_cells"] > 0.9
        assert measures["gridness/spacing"] == pytest.approx(0.54, abs=0.03)

    def test_maps_are_of_units(self):
        experiment, _ = make(small())
        maps = experiment.maps()
        assert maps.shape == (8, 12, 12)
        assert maps[5, 3, 7] == experiment.cells.code[3 * 12 + 7, 1, 1]

    def test_rats_need_their_package(self, monkeypatch):
        from gencore.data import packaged

        monkeypatch.setattr(packaged, "find_spec", lambda name: None)
        experiment, _ = make(small(paths=("rat",)))
        experiment.prepare(4, 0)
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'gencore\[data\]'"):
            experiment.prepare(0, 4)


def test_figures(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "gencore.recipes.grid_cells.gridcells_figures.save_image_grid",
        lambda images, path, columns, min_side: drawn.update({path.name: (images, columns)}),
    )
    experiment, _ = make(small())
    experiment.figures(tmp_path / "figures")
    images, columns = drawn["maps.png"]
    assert (images.shape, columns) == ((8, 3, 12, 12), 4)
    # The brightest pixel of a map stands where its largest response is, y upwards.
    place = int(experiment.maps()[3].flatten().argmax())
    assert int(images[3].sum(0).flatten().argmax()) == (11 - place % 12) * 12 + place // 12
    correlated, _ = drawn["autocorrelograms.png"]
    undefined = autocorrelogram(experiment.maps()).isnan()
    black = (correlated == 0).all(1)
    assert torch.equal(black, undefined.mT.flip(1))
    assert (tmp_path / "figures" / "path.png").is_file()


def test_a_resumed_run_is_the_same(tmp_path):
    train_with_a_stop(tmp_path, small(schedule="constant"), stop=2)


def test_the_command_trains_and_measures(tmp_path):
    out = tmp_path / "run"
    words = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    words += ["--num-evaluate=5", "--paths", "free"]
    assert cli.main(["train", "gridcells", "--accelerator=cpu", f"--out={out}", *words]) == 0
    measures = json.loads((out / "metrics.json").read_text())
    assert "error_cm/free" in measures
    assert "error_cm/lattice" not in measures
    for name in ("maps", "autocorrelograms", "path"):
        assert (out / "figures" / f"{name}.png").is_file()
    assert cli.main(["evaluate", str(out), "--num", "4"]) == 0


class TestPresets:
    def test_the_thesis_has_192_units_and_90000_samples(self):
        for name in GridCellsRecipe.presets:
            recipe = GridCellsRecipe.preset(name)
            assert recipe.num_modules * recipe.module_size == 192
            assert recipe.batch_size * recipe.samples == 90_000
            assert (recipe.steps, recipe.freeze_step) == (14_000, 8000)

    def test_ablations_differ_in_one_thing(self):
        assert GridCellsRecipe.preset("gao2021-no-isotropy").isotropy_weight == 0
        assert not GridCellsRecipe.preset("gao2021-no-skew").skew
        assert not GridCellsRecipe.preset("gao2021-signed-readout").excitatory


@pytest.mark.long
def test_g34_the_defaults_follow_paths_to_two_centimetres(tmp_path):
    """T = 50 without re-encoding; half of it is the lattice's: its nearest place is .98 cm away.

    Two minutes of a core; gridness is not asserted (docs/grid-cells.md)."""
    experiment = train(
        tmp_path / "run", GridCellsRecipe(), num_samples=0, num_evaluate=500, log_every=100
    )
    measures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    print(measures)
    assert measures["error_cm/free"] < 2
    length = experiment.cells.code.norm(dim=-1)
    torch.testing.assert_close(length, torch.full_like(length, 8**-0.5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lattice_size": 5}, "lattice_size is 5; expected at least 8"),
        ({"max_step": 20.0}, "max_step is 20.0; expected less than the square's 11 spacings"),
        ({"max_step": 0.5}, "max_step is 0.5, which reaches no place"),
        ({"order": 0}, "order is 0; expected positive"),
        ({"transform": "network", "order": 3}, "order is 3, but it has an effect with transform"),
        ({"hidden": 5}, "hidden is 5, but it has an effect with transform network alone"),
        ({"halve_every": 5}, "halve_every is 5, but it has an effect with freeze_step alone"),
        ({"isotropy_weight": -1.0}, "isotropy_weight is -1.0; expected 0 or positive"),
        ({"samples": 0}, "samples is 0; expected positive"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"GridCellsRecipe: {message}"):
        small(**options)
