"""The recipe of a ladder network with few labels: players, margin, resuming, commands, options."""

import copy
import json

import pytest
import torch
from testing.runs import assert_same

from gencore import cli
from gencore.recipes.adversarial.semiebgan import SemiEBGANRecipe
from gencore.recipes.adversarial.semiebgan_experiment import labelled_rows

fabric_module = pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")
pytest.importorskip("sklearn")

SMALL = {"batch_size": 8, "steps": 4, "hidden_widths": (6,), "labels_per_class": 1}


def make(**options):
    recipe = SemiEBGANRecipe(**{**SMALL, **options})
    torch.manual_seed(recipe.seed)
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    dataset = recipe.load_data()
    return recipe.build(fabric, dataset), recipe.batches(fabric, dataset)


def weights(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


@pytest.mark.parametrize("objective", ["ebgan", "ladder", "supervised"])
def test_who_moves(objective):
    """Within four steps, since the decoder starts at zero and wakes from the bottom up."""
    game = {"game_part": 1.0} if objective == "ebgan" else {}
    experiment, batches = make(objective=objective, **game)
    players = experiment.ladder.module, experiment.generator.module
    before = [weights(player) for player in players]
    for step in range(4):
        scalars = experiment.step(batches[step])
    changes = [
        sum(not torch.equal(w, old) for w, old in zip(weights(player), each, strict=True))
        for player, each in zip(players, before, strict=True)
    ]
    # The encoder's weights, scales and shifts of two layers; the decoder's and three combinators.
    assert changes[0] == (6 if objective == "supervised" else 11)
    assert changes[1] == (6 if objective == "ebgan" else 0)
    assert all(parameter.requires_grad for parameter in experiment.ladder.module.parameters())
    assert ("fake_score" in scalars) == (objective == "ebgan")


def test_the_margin_falls_and_the_generator_stops():
    experiment, batches = make(margin=8.0, game_part=0.5)
    assert [experiment.recipe.margin_at(step) for step in range(4)] == [8.0, 4.0, 0.0, 0.0]
    scalars = [experiment.step(batches[step]) for step in range(2)]
    assert experiment.ladder.module.game.margin == 4.0
    before = weights(experiment.generator.module)
    scalars += [experiment.step(batches[step]) for step in range(2, 4)]
    assert ["generator_loss" in each for each in scalars] == [True, True, False, False]
    for one, other in zip(before, weights(experiment.generator.module), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_labels_of_a_seed_are_the_same_for_all_objectives():
    chosen = [
        make(objective=objective, seed=seed)[0]._labelled[0]
        for objective, seed in (("ebgan", 1), ("supervised", 1), ("ebgan", 2))
    ]
    assert torch.equal(chosen[0], chosen[1])
    assert not torch.equal(chosen[0], chosen[2])


def test_labels_are_of_all_classes():
    labels = torch.arange(60) % 3
    rows = labelled_rows(labels, 4, seed=0)
    assert labels[rows].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert len(rows.unique()) == 12
    with pytest.raises(ValueError, match="labels_per_class is 21, but class 0 has 20 images"):
        labelled_rows(labels, 21, seed=0)


def test_a_resumed_run_is_the_same():
    """Of six steps the game has four: it goes on after three."""
    options = {"steps": 6, "ema_decay": 0.9, "game_part": 0.75}
    experiment, batches = make(**options)
    for step in range(3):
        experiment.step(batches[step])
    stored = copy.deepcopy({name: part.state_dict() for name, part in experiment.state.items()})
    resumed, _ = make(**options)
    for name, part in resumed.state.items():
        part.load_state_dict(stored[name])
    for each in (experiment, resumed):
        torch.manual_seed(8)
        for step in range(3, 6):
            each.step(batches[step])
    for name, part in experiment.state.items():
        assert_same(resumed.state[name].state_dict(), part.state_dict())
    assert 0 < resumed.evaluate(20)["classification_error/test"] <= 1


def test_the_command_trains(tmp_path):
    out = tmp_path / "run"
    words = ["--batch-size=8", "--steps=4", "--hidden-widths=6", "--num-evaluate=50"]
    assert cli.main(["train", "semiebgan", "--accelerator=cpu", f"--out={out}", *words]) == 0
    measures = json.loads((out / "metrics.json").read_text())
    assert 0 < measures["classification_error/test"] < 1
    assert (out / "samples.png").is_file()
    assert cli.main(["sample", str(out), "--num=5", f"--out={tmp_path}/x.npy"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "ladder", "margin": 2.0}, "margin is 2.0, but it has an effect with obj"),
        ({"objective": "gan"}, "objective is 'gan'; expected one of ebgan, ladder, supervised"),
        ({"accumulate": 2}, "batch_size is 100 and accumulate 2; expected 2 or more images"),
        ({"labels_per_class": 0}, "labels_per_class is 0; expected positive"),
        ({"game_part": 1.5}, "game_part is 1.5; expected from 0 to 1"),
        ({"hidden_widths": (4, 0)}, r"hidden_widths is \(4, 0\); expected positive numbers"),
        ({"denoising_weights": (-1.0,)}, r"denoising_weights is \(-1.0,\); expected 0 or"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"SemiEBGANRecipe: {message}"):
        SemiEBGANRecipe(**options)


def test_a_ladder_alone_draws_no_samples():
    experiment, _ = make(objective="ladder")
    with pytest.raises(ValueError, match="the objective ladder has no generator"):
        experiment.prepare(4, 0)


def test_images_without_labels():
    pytest.importorskip("skimage")
    with pytest.raises(ValueError, match="the images of 'faces' have no labels"):
        make(data="faces")
