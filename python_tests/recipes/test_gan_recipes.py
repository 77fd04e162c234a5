"""Recipes of generators: every method, resuming, two processes, measures, commands, options."""

import copy
import json
import math
import pickle
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from testing.command_line import TRAIN_ALONE
from testing.ranks import run_on_ranks
from testing.runs import assert_same, make, train

from gencore import cli
from gencore.data import ImageDataset, SpotDensity
from gencore.models import (
    BatchAdversary,
    DistanceAdversary,
    EnergyAdversary,
    MixupAdversary,
    ScoreAdversary,
)
from gencore.objectives import (
    BGANLoss,
    EnergyGame,
    FDivergenceGame,
    HingeGame,
    LeastSquaresGame,
    LogisticGame,
    MBGANLoss,
    WassersteinGame,
)
from gencore.ops import philox_normal, random_key
from gencore.ops.random import stream_key
from gencore.recipes.adversarial.gan import GANRecipe
from gencore.recipes.adversarial.mlp_networks import (
    mlp_discriminator,
    mlp_energy,
    mlp_set_discriminator,
)
from gencore.recipes.adversarial.toygan import ToyGANRecipe
from gencore.train import Batch
from gencore.train.logs import read_log
from gencore.train.state_file import read_state

pytest.importorskip("lightning_fabric")
pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.usefixtures("quick_classifier")

TOY = {"batch_size": 8, "steps": 4, "hidden_widths": (8,), "grid_size": 10}
IMAGES = {"batch_size": 8, "steps": 4, "latent_size": 3, "width": 4}
METHODS = [
    {},
    {"generator_loss": "combined", "gradient_penalty": 1.0},
    {"method": "hinge", "spectral_norm": True},
    {"method": "least-squares", "discriminator_steps": 2},
    {"method": "wgan", "weight_clip": 0.1},
    {"method": "f-gan", "divergence": "kl"},
    {"method": "ebgan", "pulling_away": 0.1},
    {"method": "bgan", "group_size": 4},
    {"method": "mbgan", "group_size": 4, "smoothing": 0.2},
    {"method": "mixup"},
    {"method": "mmd"},
    {"method": "sinkhorn"},
]


PERCEPTRONS = {
    "batch_size": 8, "steps": 4, "latent_size": 3, "networks": "mlp", "generator_widths": (6, 5),
    "discriminator_widths": (7,),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["points", "images"])
@pytest.mark.parametrize("options", METHODS, ids=str)
def test_every_step_moves_both_players(kind, options):
    if kind == "images":
        pytest.importorskip("sklearn")
    recipe = ToyGANRecipe(**TOY, **options) if kind == "points" else GANRecipe(**IMAGES, **options)
    experiment, batches = make(recipe)
    players = [experiment.training.generator.module, experiment.training._adversary]
    before = [[w.detach().clone() for w in player.parameters()] for player in players]
    for step in range(2):
        scalars = experiment.step(batches[step])
    assert ("discriminator_loss" in scalars) == recipe.is_game
    for player, weights in zip(players, before, strict=True):
        moved = [
            not torch.equal(w, old) for w, old in zip(player.parameters(), weights, strict=True)
        ]
        assert sum(moved) >= len(moved) - 1  # a game of differences does not see the last bias
        assert all(weight.requires_grad for weight in player.parameters())
    samples = experiment.sample(3)
    assert samples.shape == ((3, 2) if kind == "points" else (3, 1, 8, 8))
    assert samples.isfinite().all()
    if options.get("weight_clip"):
        assert all(w.abs().max() <= 0.1 for w in players[1].parameters())


PERCEPTRON_METHODS = [
    {"dropout": 0.5},
    {"optimizer": "sgd", "discriminator_optimizer": "sgd"},
    {"method": "hinge", "spectral_norm": True, "batch_norm": False},
    {"method": "least-squares", "discriminator_widths": (7, 6), "discriminator_batch_norm": True},
    {"method": "wgan", "gradient_penalty": 1.0, "accumulate": 2, "batch_norm": False},
    {"method": "ebgan", "margin": 10.0, "pulling_away": 0.1, "dropout": 0.5},
    {"method": "ebgan", "discriminator_widths": (9, 4, 8), "discriminator_batch_norm": True},
    {"method": "mbgan", "group_size": 4},
    {"method": "mixup"},
    {"method": "mmd", "discriminator_widths": (128,)},
]


@pytest.mark.parametrize("options", PERCEPTRON_METHODS, ids=str)
def test_fully_connected_players_of_images_move(options):
    pytest.importorskip("sklearn")
    experiment, batches = make(GANRecipe(**{**PERCEPTRONS, **options}))
    players = [experiment.training.generator.module, experiment.training._adversary]
    before = [[w.detach().clone() for w in player.parameters()] for player in players]
    assert not any(isinstance(layer, torch.nn.Conv2d) for p in players for layer in p.modules())
    for step in range(2):
        experiment.step(batches[step])
    for player, weights in zip(players, before, strict=True):
        moved = [
            not torch.equal(w, old) for w, old in zip(player.parameters(), weights, strict=True)
        ]
        # Neither the last bias of differences nor a bias before batch normalisation need move.
        assert sum(moved) >= len(moved) - 3
    samples = experiment.sample(3)
    assert samples.shape == (3, 1, 8, 8)
    assert 0 <= samples.min() <= samples.max() <= 1


class TestPerceptrons:
    def test_layers_are_those_that_the_widths_name(self):
        pytest.importorskip("sklearn")
        experiment, _ = make(GANRecipe(**PERCEPTRONS, dropout=0.25))
        generator, critic = experiment.training.generator.module, experiment.training._adversary

        def kinds(player, *wanted):
            return [layer for layer in player.modules() if isinstance(layer, wanted)]

        def sizes(player):
            linear = kinds(player, torch.nn.Linear)
            return [(layer.in_features, layer.out_features) for layer in linear]

        assert sizes(generator) == [(3, 6), (6, 5), (5, 64)]
        assert [layer.num_features for layer in kinds(generator, torch.nn.BatchNorm1d)] == [6, 5]
        assert sizes(critic) == [(64, 7), (7, 1)]
        assert [layer.p for layer in kinds(critic, torch.nn.Dropout)] == [0.25]
        assert not kinds(critic, torch.nn.BatchNorm1d)

    @pytest.mark.parametrize(
        ("widths", "code"), [((7,), 7), ((9, 4), 4), ((9, 4, 8), 4), ((9, 8, 4, 6), 4)]
    )
    def test_an_auto_encoder_shares_its_layers_among_both_halves(self, widths, code):
        """As many as a discriminator of these widths has, the middle hidden one the code."""
        energy = mlp_energy((1, 3, 4), widths, batch_norm=False, dropout=0.0)
        x = torch.randn(5, 1, 3, 4)
        linear = [layer for layer in energy.modules() if isinstance(layer, torch.nn.Linear)]
        assert [layer.out_features for layer in linear] == [*widths, 12]
        assert energy.encode(x).shape == (5, code)
        error = energy.reconstruct(x) - x
        torch.testing.assert_close(energy(x), error.square().flatten(1).sum(1))

    @pytest.mark.parametrize("build", [mlp_discriminator, mlp_energy])
    def test_the_first_and_the_last_layer_do_not_normalise(self, build):
        network = build((1, 2, 2), (6, 5, 3), batch_norm=True, dropout=0.0)
        norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm1d)]
        assert [norm.num_features for norm in norms] == [5, 3]

    def test_scores_of_an_image_depend_on_its_group(self):
        network = mlp_set_discriminator((1, 2, 2), (6,))
        x = torch.randn(2, 4, 1, 2, 2)
        scores = network(x)
        assert scores.shape == (2, 4)
        x[0, 3] += 1
        assert not torch.isclose(network(x)[0, :3], scores[0, :3]).any()
        torch.testing.assert_close(network(x)[1], scores[1])


def test_gradient_descent_is_that_of_its_formula():
    """Two steps by hand: v ← mv + g, w ← w − rv, for each player with its own rate."""
    recipe = ToyGANRecipe(
        **TOY, optimizer="sgd", discriminator_optimizer="sgd", momentum=0.5, learning_rate=0.1,
        discriminator_learning_rate=0.2,
    )  # fmt: skip
    experiment, batches = make(recipe)
    players = {
        0.1: experiment.training.generator.module,
        0.2: experiment.training._adversary,
    }
    for rate, player in players.items():
        weight = next(player.parameters())
        weights, gradients = [weight.detach().clone()], []
        for step in range(2):
            experiment.step(batches[step])
            weights.append(weight.detach().clone())
            gradients.append(weight.grad.clone())
        moves = [old - new for old, new in pairwise(weights)]
        # The velocity of the second player did not start with these two steps.
        velocity = moves[1] / rate
        torch.testing.assert_close(velocity, 0.5 * moves[0] / rate + gradients[1])


@pytest.mark.parametrize(
    ("options", "kind", "settings"),
    [
        (
            {"generator_loss": "saturating", "gradient_penalty": 2.0},
            ScoreAdversary,
            {"game": LogisticGame("saturating"), "penalty_weight": 2.0},
        ),
        ({"method": "hinge"}, ScoreAdversary, {"game": HingeGame(), "penalty_weight": 0.0}),
        ({"method": "least-squares"}, ScoreAdversary, {"game": LeastSquaresGame()}),
        ({"method": "wgan", "weight_clip": 0.1}, ScoreAdversary, {"game": WassersteinGame()}),
        ({"method": "f-gan", "divergence": "kl"}, ScoreAdversary, {"game": FDivergenceGame("kl")}),
        (
            {"method": "ebgan", "margin": 3.0, "energy_power": 2, "pulling_away": 0.1},
            EnergyAdversary,
            {"game": EnergyGame(3.0, 2), "pulling_away_weight": 0.1},
        ),
        (
            {"method": "bgan", "group_size": 4, "smoothing": 0.2},
            BatchAdversary,
            {"loss": BGANLoss(), "group_size": 4, "smoothing": 0.2},
        ),
        ({"method": "mbgan", "group_size": 2}, BatchAdversary, {"loss": MBGANLoss()}),
        ({"method": "mixup"}, MixupAdversary, {}),
        ({"method": "mmd"}, DistanceAdversary, {}),
        ({"method": "sinkhorn"}, DistanceAdversary, {}),
    ],
    ids=str,
)
def test_options_reach_the_adversary(options, kind, settings):
    experiment, _ = make(ToyGANRecipe(**TOY, **options))
    adversary = experiment.training._adversary
    assert type(adversary) is kind
    assert {name: getattr(adversary, name) for name in settings} == settings


def test_the_transport_is_that_of_its_epsilon():
    """For a small ε every point goes a squared distance of 2; for a large one means alone move."""
    x, y = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    losses = []
    for epsilon in (0.01, 1e4):
        experiment, _ = make(ToyGANRecipe(**TOY, method="sinkhorn", sinkhorn_epsilon=epsilon))
        losses.append(experiment.training._adversary.generator_loss(x, y).item())
    assert losses == [pytest.approx(2, rel=0.02), pytest.approx(0, abs=1e-2)]


@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
def test_two_steps_are_those_of_a_plain_loop(updates):
    """Two steps of Adam of the discriminator, each on a batch, and one of the generator on the last
    of them, against the discriminator as it is then or as it was before; and the average of two
    generators, of which the first is its start."""
    recipe = ToyGANRecipe(
        **TOY, method="mbgan", group_size=4, discriminator_steps=2, momentum=0.3, updates=updates,
        learning_rate=1e-2, discriminator_learning_rate=3e-3, ema_decay=0.5,
    )  # fmt: skip
    experiment, batches = make(recipe)
    training = experiment.training
    generator, adversary = (
        copy.deepcopy(player) for player in (training.generator.module, training._adversary)
    )
    of_generator, of_adversary = (
        torch.optim.Adam(player.parameters(), rate, betas=(0.3, 0.999))
        for player, rate in ((generator, 1e-2), (adversary, 3e-3))
    )

    def minimise(optimizer, loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def samples(batch, key):
        return generator(batch.normal((2,), key=stream_key(key, "latents")))

    torch.manual_seed(7)
    for step in range(2):
        experiment.step(batches[step])
    torch.manual_seed(7)
    plain = ToyGANRecipe(**TOY).batches(experiment.fabric, experiment.density)
    averages = []
    for step in range(2):
        opponent = copy.deepcopy(adversary) if updates == "simultaneous" else adversary
        for batch in (plain[2 * step], plain[2 * step + 1]):
            key = random_key()
            fake = samples(batch, key).detach()
            minimise(of_adversary, adversary(batch.x, fake, key=key)["loss"])
        key = random_key()
        loss = opponent.generator_loss(samples(batch, key), batch.x, key=key)
        minimise(of_generator, loss)
        averages.append(copy.deepcopy(generator))
    pairs = ((training.generator.module, generator), (training._adversary, adversary))
    for found, expected in pairs:
        for one, other in zip(found.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(one, other)
    with torch.no_grad():
        for old, new in zip(*(average.parameters() for average in averages), strict=True):
            old.lerp_(new, 9 / 11)  # the second update of a warm average
    noise = philox_normal((5, 2), random_key(torch.Generator().manual_seed(3)))
    torch.testing.assert_close(
        experiment.sample(5, torch.Generator().manual_seed(3)), averages[0](noise).detach()
    )


def test_each_player_has_its_schedule():
    """A warm-up of one step of the generator, and of three of the discriminator, two in a step."""
    recipe = ToyGANRecipe(
        **TOY, discriminator_steps=2, warmup_steps=1, schedule="linear",
        discriminator_warmup_steps=3, discriminator_schedule="cosine",
        discriminator_learning_rate=2e-3,
    )  # fmt: skip
    experiment, batches = make(recipe)
    players = experiment.training.generator, experiment.training._player
    rates = []
    for step in range(4):
        experiment.step(batches[step])
        rates.append([player.optimizer.param_groups[0]["lr"] / 1e-3 for player in players])
    falling = [1 + math.cos(math.pi * part) for part in (1 / 5, 3 / 5)]
    expected = [[1, 14 / 9], [2 / 3, falling[0]], [1 / 3, falling[1]], [0, 0]]  # of the next step
    assert rates == [pytest.approx(pair) for pair in expected]
    assert "steps" in recipe.tuned()
    assert "steps" not in ToyGANRecipe().tuned()
    assert "steps" in ToyGANRecipe(discriminator_schedule="linear").tuned()


def test_each_player_has_its_bound_of_gradients():
    """Of gradient descent without momentum, whose first step is the rate times the gradient."""
    moved = {}
    for name in ("max_grad_norm", "discriminator_max_grad_norm"):
        recipe = ToyGANRecipe(
            **TOY, optimizer="sgd", discriminator_optimizer="sgd", momentum=0.0,
            learning_rate=0.1, discriminator_learning_rate=0.1, **{name: 1e-3},
        )  # fmt: skip
        experiment, batches = make(recipe)
        training = experiment.training
        players = {
            "max_grad_norm": training.generator,
            "discriminator_max_grad_norm": training._player,
        }
        before = {each: copy.deepcopy(player.module) for each, player in players.items()}
        scalars = experiment.step(batches[0])
        assert ("grad_norm" in scalars, "discriminator_grad_norm" in scalars) == (
            name == "max_grad_norm", name != "max_grad_norm"
        )  # fmt: skip
        for each, player in players.items():
            pairs = zip(player.module.parameters(), before[each].parameters(), strict=True)
            squares = sum((new - old).square().sum() for new, old in pairs)
            moved[name, each] = squares.sqrt().item() / 0.1
    for (bounded, player), norm in moved.items():
        assert (norm == pytest.approx(1e-3, rel=1e-3)) == (bounded == player), (bounded, player)


def test_an_average_of_the_discriminator_judges_proposals(monkeypatch):
    recipe = ToyGANRecipe(**TOY, num_proposals=2, discriminator_ema_decay=0.9)
    experiment, batches = make(recipe)
    experiment.step(batches[0])
    averaged = experiment.training._player.averaged
    scores, judged = averaged.scores, []
    monkeypatch.setattr(averaged, "scores", lambda x: judged.append(len(x)) or scores(x))
    experiment.evaluate(20)
    assert sum(judged) > 2 * 20
    assert averaged is not experiment.training._adversary


def test_both_players_see_pixels_on_one_scale():
    """Images in [−1, 1], of a generator that normalises over its batch while it learns."""
    pytest.importorskip("sklearn")
    experiment, batches = make(GANRecipe(**IMAGES))
    generator, seen, made = experiment.training.generator.module, [], []
    experiment.training._adversary.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    generator.register_forward_hook(lambda _, args, images: made.append(images.detach()))
    samples = experiment.sample(4)
    torch.testing.assert_close(samples, (made.pop() + 1) / 2)
    experiment.step(batches[0])
    torch.testing.assert_close(seen[0], batches[0].x / 127.5 - 1)
    assert [norm.num_batches_tracked for norm in generator.norms] == [2]  # one for each player


def test_each_step_of_the_discriminator_sees_other_data():
    recipe = ToyGANRecipe(**TOY, discriminator_steps=3)
    experiment, batches = make(recipe)
    seen = []
    adversary = experiment.training._adversary
    adversary.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    for step in range(2):
        experiment.step(batches[step])
    plain = ToyGANRecipe(**TOY).batches(experiment.fabric, experiment.density)
    assert len(seen) == 6
    assert all(torch.equal(x, plain[number].x) for number, x in enumerate(seen))


@pytest.mark.parametrize(
    "options",
    [
        {"method": "mbgan", "group_size": 4},
        {"gradient_penalty": 1.0},
        {"method": "mixup"},
        {"discriminator_warmup_steps": 5, "discriminator_ema_decay": 0.9},
    ],
)
def test_a_resumed_run_is_the_same(tmp_path, options):
    def run(folder, **more):
        recipe = ToyGANRecipe(
            **{**TOY, **options, "ema_decay": 0.9, "discriminator_steps": 2, **more}
        )
        return train(folder, recipe, num_samples=0, num_evaluate=0, resume=folder.exists())

    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", steps=2)
    resumed = run(tmp_path / "parts")
    for name, part in whole.state.items():
        assert_same({name: resumed.state[name].state_dict()}, {name: part.state_dict()})


@pytest.mark.parametrize(
    "options",
    [{}, {"gradient_penalty": 1.0}, {"method": "mbgan", "group_size": 4}, {"method": "mixup"}],
)
def test_parts_of_a_batch_have_the_gradients_of_the_whole(options):
    states = []
    for accumulate in (1, 2):
        experiment, batches = make(ToyGANRecipe(**TOY, **options, accumulate=accumulate))
        experiment.step(batches[0])
        states.append(list(experiment.training.averaged.parameters()))
    for one, other in zip(*states, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "least-squares", "spectral-norm": None, "discriminator-steps": 2},
        {"method": "mbgan", "group-size": 4},
    ],
)
def test_two_processes_compute_what_one_computes(tmp_path, options):
    options = {"batch-size": 8, "steps": 5, "hidden-widths": 8, **options}
    words = [
        f"--{name}" + ("" if value is None else f"={value}") for name, value in options.items()
    ]
    words = ["train", "toygan", *words, *TRAIN_ALONE]
    run_on_ranks([*words, f"--out={tmp_path}/two"])
    assert cli.main([*words, f"--out={tmp_path}/one"]) == 0
    one, two = (read_state(tmp_path / name / "checkpoint.safetensors")["state"]
                for name in ("one", "two"))  # fmt: skip
    for part in ("generator_model", "discriminator_model"):
        for name, value in one[part].items():
            torch.testing.assert_close(two[part][name], value, rtol=1e-4, atol=1e-5)
    logs = [read_log(tmp_path / name / "log.csv") for name in ("one", "two")]
    for name in ("loss", "discriminator_loss"):
        assert logs[0][name] == pytest.approx(logs[1][name], rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "bgan", "group_size": 4},
        {"method": "mbgan", "group_size": 4},
        {"method": "ebgan"},
        {"method": "mmd"},
        {"method": "sinkhorn"},
    ],
)
def test_losses_are_float32_of_networks_in_half_precision(options):
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        experiment, batches = make(GANRecipe(**IMAGES, **options, precision=precision))
        losses.append(experiment.step(batches[0])["loss"])
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=4e-3, atol=0)


def test_kernels_reach_as_far_in_many_dimensions():
    """Points of the plane with their coordinates 400 times are as near to each other as before."""
    experiment, _ = make(ToyGANRecipe(**TOY, method="mmd"))
    adversary, (x, y) = experiment.training._adversary, torch.randn(2, 16, 2, dtype=torch.float64)
    expected = adversary.generator_loss(x, y)
    torch.testing.assert_close(
        adversary.generator_loss(x.repeat(1, 400), y.repeat(1, 400)), expected
    )


def test_spectral_norm_holds_the_vectors_of_classes_too():
    pytest.importorskip("sklearn")
    experiment, batches = make(
        GANRecipe(**IMAGES, method="hinge", class_conditional=True, spectral_norm=True)
    )
    for step in range(2):
        experiment.step(batches[step])
    network = experiment.training._adversary.network.eval()
    for layer in (network.embedding, network.last, network.features[1]):
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert 0.9 < largest < 1.2
    again = pickle.loads(pickle.dumps(network))
    assert torch.equal(again.embedding.weight, network.embedding.weight)


@pytest.mark.parametrize("labels", [[3, 5, 6], [-4, 100, 7]])
def test_samples_are_of_the_classes_that_there_are(labels):
    """With gaps between them, or below 0."""
    labels = torch.tensor(labels).repeat(8)
    images = torch.randint(256, (24, 1, 8, 8), dtype=torch.uint8)
    experiment, batches = make(
        GANRecipe(**IMAGES, method="hinge", class_conditional=True),
        ImageDataset(images, labels, "mine"),
    )
    experiment.step(batches[0])
    seen = []
    generator = experiment.training.generator.module
    generator.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    assert experiment.sample(6).shape == (6, 1, 8, 8)
    numbers = experiment.classes.numbers(labels)
    assert seen[0].tolist() == numbers.unique().repeat_interleave(2).tolist()


def test_one_classifier_serves_all_measures(monkeypatch):
    pytest.importorskip("sklearn")
    from gencore.metrics import ClassifierFeatures

    fits, fit = [], ClassifierFeatures.fit
    monkeypatch.setattr(
        ClassifierFeatures,
        "fit",
        classmethod(lambda cls, *args, **options: fits.append(args) or fit(*args, **options)),
    )
    experiment, _ = make(GANRecipe(**IMAGES))
    measures = experiment.evaluate(20)
    assert {"frechet_classifier/samples", "tweaked_inception_score/samples"} <= measures.keys()
    assert len(fits) == 1


def test_each_process_has_whole_groups():
    recipe = ToyGANRecipe(**TOY, method="mbgan", group_size=8)
    recipe.grouped(SimpleNamespace(world_size=1), None)
    message = "ToyGANRecipe: batch_size is 8 in 2 parts; expected a multiple of group_size, 8"
    with pytest.raises(ValueError, match=message):
        recipe.grouped(SimpleNamespace(world_size=2), None)


def test_the_command_trains_on_the_plane(tmp_path):
    out = tmp_path / "run"
    options = {**TOY, "hidden_widths": 8, "spot_std": 0.05, "num_evaluate": 50}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    assert cli.main(["train", "toygan", "--preset=bgan", "--group-size=4", "--accelerator=cpu",
                     f"--out={out}", *words]) == 0  # fmt: skip
    measures = json.loads((out / "metrics.json").read_text())
    assert 0 <= measures["modes"] <= 8
    assert measures["energy_distance/samples"] > measures["energy_distance/data"]
    assert (out / "samples.png").is_file()
    assert cli.main(["sample", str(out), "--num=5", f"--out={tmp_path}/x.npy"]) == 0


def test_the_command_trains_a_conditional_generator(tmp_path):
    pytest.importorskip("sklearn")
    out = tmp_path / "run"
    options = {**IMAGES, "method": "hinge", "num_evaluate": 40}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    assert cli.main(["train", "gan", "--class-conditional", "--spectral-norm", "--accelerator=cpu",
                     f"--out={out}", *words]) == 0  # fmt: skip
    measures = json.loads((out / "metrics.json").read_text())
    assert measures["accuracy/gan_test"] < measures["accuracy/real"]
    assert 0 <= measures["tweaked_inception_score/samples"] <= 10
    assert (out / "figures" / "interpolation.png").is_file()
    assert cli.main(["sample", str(out), "--num=5", f"--out={tmp_path}/x.npy"]) == 0


def test_metropolis_hastings_corrects_a_generator(monkeypatch):
    """With the logit log p/q of the generator q = N(0, 1) its chains end in the spots of p."""
    experiment, _ = make(ToyGANRecipe(**TOY, num_proposals=100))
    density, generator = experiment.density, torch.nn.Identity()
    monkeypatch.setattr(type(experiment.training), "averaged", generator)

    def scores(x):
        return 3 * (density.log_prob(x) + 0.5 * x.square().sum(1)) - 1

    monkeypatch.setattr(experiment.training._adversary, "scores", scores)
    measures = experiment.evaluate(2000)
    assert measures["high_quality"] < 0.6
    assert measures["high_quality/metropolis_hastings"] > 0.9
    distances = [measures[f"energy_distance/{name}"] for name in ("metropolis_hastings", "samples")]
    assert distances[0] < 0.1 * distances[1]


def test_metropolis_hastings_of_images():
    pytest.importorskip("sklearn")
    experiment, _ = make(GANRecipe(**IMAGES, num_proposals=3))
    (images,) = experiment.more_candidates(400).values()
    assert images.shape == (400, 1, 8, 8)
    assert (images.min() >= 0) & (images.max() <= 1)
    starts = experiment.test.images[torch.arange(400) % len(experiment.test)] / 255
    assert (images != starts).flatten(1).any(1).all()


def test_the_distance_at_infinity_is_below_that_of_few_samples():
    pytest.importorskip("sklearn")
    experiment, _ = make(GANRecipe(**IMAGES))
    data = experiment.dataset.images / 255
    experiment.sample = lambda num: data[torch.arange(num) % len(data)]
    measures = experiment.evaluate(640)
    name = "frechet_classifier/samples"
    assert measures[f"{name}_at_infinity"] < measures[name]
    assert f"{name}_at_infinity" not in experiment.evaluate(300)


def test_bits_of_a_generator_by_an_encoder_around_it():
    pytest.importorskip("sklearn")
    options = {"encoder_steps": 20, "importance_samples": 3, "ema_decay": 0.9}
    experiment, batches = make(GANRecipe(**PERCEPTRONS, **options))
    experiment.step(batches[0])
    generator = experiment.training.averaged
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    measures = experiment.evaluate(30)
    for name in ("test", "train"):
        # Of a level alone there are 8, and untrained generators do not find the digits.
        assert measures["bits_per_dim/independent_gaussian"] < measures[f"bits_per_dim/{name}"] < 9
    after = generator.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(
        name.startswith("bits") for name in make(GANRecipe(**PERCEPTRONS))[0].evaluate(30)
    )


def test_narrow_spots():
    density = ToyGANRecipe(density="twenty_five_gaussians", spot_std=0.05).load_data()
    assert isinstance(density, SpotDensity)
    assert (density.std, len(density.centres)) == (0.05, 25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "wgan"}, "method is wgan, whose discriminator needs a bound"),
        ({"pulling_away": 0.1}, "pulling_away is 0.1, but it has an effect with method ebgan"),
        (
            {"method": "mmd", "discriminator_steps": 2},
            "discriminator_steps is 2, but it has an eff",
        ),
        ({"method": "bgan", "batch_size": 40}, "batch_size is 40 in 1 parts; expected a multiple"),
        (
            {"method": "hinge", "spectral_norm": True, "accumulate": 2},
            "accumulate is 2, but with spectral_norm each part",
        ),
        (
            {"method": "ebgan", "pulling_away": 0.1, "accumulate": 2},
            "accumulate is 2, but pulling_away compares the samples of a whole batch",
        ),
        ({"method": "mmd", "accumulate": 2}, "accumulate is 2, but mmd compares the samples"),
        ({"method": "mmd", "code_size": 3}, "code_size is 3, but it has an effect with method eb"),
        ({"momentum": 1.0}, "momentum is 1.0 and smoothing 0.5; expected"),
        ({"method": "ebgan", "margin": 0.0}, "margin is 0.0; expected positive"),
        ({"method": "hinge", "num_proposals": 9}, "num_proposals is 9, but it has an effect with"),
        ({"num_proposals": -1}, "num_proposals is -1; expected"),
        ({"method": "vae"}, "method is 'vae'; expected one of gan, hinge"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"ToyGANRecipe: {message}"):
        ToyGANRecipe(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 2}, "accumulate is 2, but batch_norm normalises over a batch"),
        (
            {"method": "mbgan", "class_conditional": True},
            "class_conditional is True, but it has an effect with",
        ),
        (
            {"class_conditional": True, "batch_norm": False},
            "batch_norm is False, but it has an effect with networks dcgan or mlp and class_condit",
        ),
        (
            {"gradient_penalty": 1.0, "discriminator_batch_norm": True},
            "gradient_penalty is 1.0 with",
        ),
        ({"dropout": 0.5}, "dropout is 0.5, but it has an effect with networks mlp and method gan"),
        ({"generator_widths": (5,)}, r"generator_widths is \(5,\), but it has an effect with net"),
        ({"networks": "mlp", "width": 8}, "width is 8, but it has an effect with networks dcgan"),
        (
            {"networks": "mlp", "class_conditional": True},
            "class_conditional is True, but it has an effec",
        ),
        ({"networks": "mlp", "method": "mbgan", "dropout": 0.5}, "dropout is 0.5, but it has an"),
        (
            {"networks": "mlp", "method": "mmd", "discriminator_widths": (5,)},
            "discriminator_widths is",
        ),
        (
            {"method": "hinge", "class_conditional": True, "encoder_steps": 5},
            "encoder_steps is 5, but the generator is conditional",
        ),
        ({"networks": "mlp", "dropout": 1.0}, "dropout is 1.0; expected at least 0 and less"),
        ({"networks": "mlp", "generator_widths": ()}, r"generator_widths is \(\); expected a pos"),
        ({"method": "mmd", "discriminator_optimizer": "sgd"}, "discriminator_optimizer is 'sgd'"),
        ({"phase_images": 5}, "phase_images is 5, but it has an effect with networks progressive"),
        ({"networks": "progressive", "phase_images": 0}, "phase_images is 0; expected positive"),
        (
            {"networks": "progressive", "method": "ebgan"},
            "method is ebgan, but progressive networks",
        ),
        ({"networks": "progressive", "accumulate": 2}, "accumulate is 2, but minibatch_std compar"),
        ({"networks": "progressive", "num_proposals": 3}, "num_proposals is 3, but it has an effe"),
        ({"networks": "progressive", "batch_norm": False}, "batch_norm is False, but it has an ef"),
        ({"optimizer": "lbfgs"}, "optimizer is 'lbfgs'; expected one of adam, sgd"),
    ],
)
def test_options_of_images_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"GANRecipe: {message}"):
        GANRecipe(**options)


def test_a_conditional_generator_has_no_batch_norm_that_parts_would_break():
    GANRecipe(class_conditional=True, accumulate=2)


@pytest.mark.parametrize(("radius", "part"), [(3.0, 1.0), (1.5, 0.0)])
def test_samples_count_for_a_spot_within_the_radius(radius, part):
    """All samples two standard deviations from the centre of one spot of eight."""
    experiment, _ = make(ToyGANRecipe(**TOY, spot_std=0.05, quality_radius=radius))
    place = experiment.density.centres[2].float() + torch.tensor([0.1, 0.0])
    experiment.sample = lambda num, generator=None: place.expand(num, 2)
    measures = experiment.evaluate(20)
    assert measures["high_quality"] == part
    assert measures["modes"] == part
    if part:
        assert measures["kl_to_uniform"] == pytest.approx(math.log(8))


def test_spots_of_a_density_without_any():
    with pytest.raises(ValueError, match=r"spot_std is 0\.1, but two_moons has no spots"):
        ToyGANRecipe(density="two_moons", spot_std=0.1).load_data()


def test_presets_are_recipes():
    for recipe in (ToyGANRecipe, GANRecipe):
        assert all(recipe.preset(name) for name in recipe.presets)


def test_classes_of_images_without_labels():
    recipe = GANRecipe(method="hinge", class_conditional=True, data="faces")
    pytest.importorskip("skimage")
    with pytest.raises(ValueError, match="class_conditional needs labels, which the training"):
        make(recipe)


def test_a_batch_without_classes():
    pytest.importorskip("sklearn")
    experiment, _ = make(GANRecipe(**IMAGES))
    images = experiment.dataset.images[:8]
    experiment.step(Batch(images, torch.zeros(8, dtype=torch.int64), torch.arange(8)))
