"""The short-run EBM against its closed forms in one dimension (Yan 2022, §2.4), and its recipe."""

import math
from copy import deepcopy

import pytest
import torch
from testing.command_line import TRAIN_ALONE
from testing.ranks import run_on_one_and_two
from torch import nn

from gencore.models import ConvEnergy, DivergenceError, ShortRunEBM, check_divergence
from gencore.nn import stop_gradient
from gencore.samplers import NonFiniteWarning, ReplayBuffer
from gencore.train import Batch
from gencore.train.logs import read_log
from gencore.train.state_file import read_state

# E = ½θx² with steps h = η/2 has G(x₀) = a^K x₀, where a = 1 − hθ.
H, K = 0.05, 40


class Quadratic(nn.Module):
    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(float(theta), dtype=torch.float64))

    def forward(self, x):
        return 0.5 * self.theta * x.flatten(1).square().sum(1)


def points(std):
    """A batch whose second moment is exactly std²: that of the population, without noise."""
    return std * torch.tensor([[1.0], [-1.0]], dtype=torch.float64)


def quadratic_ebm(theta, **options):
    return ShortRunEBM(Quadratic(theta), (1,), num_steps=K, step_size=H, **options)


def theta_gradient(ebm, x, start):
    (gradient,) = torch.autograd.grad(ebm(x, start).loss, ebm.energy.theta)
    return gradient.item()


def train(ebm, x, start, *, learning_rate, steps):
    optimizer = torch.optim.SGD(ebm.parameters(), lr=learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        ebm(x, start).loss.backward()
        optimizer.step()
    return ebm.energy.theta.item()


class TestObjective:
    def test_maximum_likelihood_gradient(self):
        """(2.13): ½(E x² − E x_K²)."""
        theta, sigma = 0.7, 0.6
        expected = 0.5 * (sigma**2 - (1 - H * theta) ** (2 * K))
        gradient = theta_gradient(quadratic_ebm(theta), points(sigma), points(1.0))
        assert gradient == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("sigma", [0.5, 1.5])
    def test_training_matches_the_chains_and_not_the_density(self, sigma):
        """θ* = (2/η)(1 − σ^(1/K)), below 0 for σ > 1, where the density does not even exist."""
        ebm = quadratic_ebm(0.1)
        theta = train(ebm, points(sigma), points(1.0), learning_rate=0.3, steps=100)
        assert theta == pytest.approx((1 - sigma ** (1 / K)) / H, rel=1e-6)
        samples = ebm.dynamics.sample(points(1.0), K)
        assert samples.square().mean().item() == pytest.approx(sigma**2, rel=1e-6)
        assert theta < 0.4 / sigma**2

    def test_persistent_chains_match_the_density_of_the_steps(self):
        """They become stationary: the data's variance is 1 / (θ(1 − ηθ/4)), near 1/θ."""
        torch.manual_seed(0)
        sigma, time_step, num = 0.5, 0.1, 4000
        ebm = ShortRunEBM(
            Quadratic(1.0).float(),
            (1,),
            num_steps=20,
            step_size=time_step / 2,
            noise_scale=math.sqrt(time_step),
        )
        buffer = ReplayBuffer(num, (1,), reinit_fraction=0.0)
        optimizer = torch.optim.SGD(ebm.parameters(), lr=8.0)
        thetas = []
        for _ in range(100):
            start, slots = buffer.draw(num)
            terms = ebm(points(sigma).float(), start)
            optimizer.zero_grad()
            terms.loss.backward()
            optimizer.step()
            buffer.put(terms.samples, slots)
            thetas.append(ebm.energy.theta.item())
        theta = sum(thetas[50:]) / 50
        variance = 1 / (theta * (1 - time_step * theta / 4))
        assert variance == pytest.approx(sigma**2, rel=5 * math.sqrt(2 / num))

    def test_generator_loss_gradient(self):
        """(2.24): −θK(η/2)a^(2K−1) E x₀², with the outer θ held fixed."""
        theta, start = 0.7, torch.randn(50, 1, dtype=torch.float64)
        ebm = quadratic_ebm(theta)
        samples = ebm.dynamics.sample(start, K, differentiable=True)
        generator_loss = stop_gradient(ebm.energy)(samples).mean()
        (gradient,) = torch.autograd.grad(generator_loss, ebm.energy.theta)
        a = 1 - H * theta
        expected = -theta * K * H * a ** (2 * K - 1) * start.square().mean().item()
        assert gradient.item() == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize("weight", [1.0, 0.3])
    def test_the_joint_gradient_is_the_sum_of_its_terms(self, weight):
        theta, sigma = 0.7, 0.6
        a = 1 - H * theta
        joint = theta_gradient(
            quadratic_ebm(theta, generator_weight=weight), points(sigma), points(1.0)
        )
        expected = 0.5 * (sigma**2 - a ** (2 * K)) - weight * theta * K * H * a ** (2 * K - 1)
        assert joint == pytest.approx(expected, rel=1e-12)

    def test_the_joint_losss_sample_terms_cancel_in_value_but_not_in_gradient(self):
        ebm, x = quadratic_ebm(0.7, generator_weight=1.0), points(0.6)
        terms = ebm(x, points(1.0))
        torch.testing.assert_close(terms.loss.detach(), ebm.energy(x).mean().detach())
        torch.testing.assert_close(terms.energy_data, ebm.energy(x).mean().detach())
        assert terms.energy_samples > 0
        (joint,) = torch.autograd.grad(terms.loss, ebm.energy.theta)
        (data_only,) = torch.autograd.grad(ebm.energy(x).mean(), ebm.energy.theta)
        assert abs(joint - data_only) > 0.1

    def test_joint_fixed_point(self):
        """σ² = a^2K + ηKθa^(2K−1)."""
        sigma, ebm = 0.5, quadratic_ebm(0.1, generator_weight=1.0)
        theta = train(ebm, points(sigma), points(1.0), learning_rate=1.0, steps=60)
        a = 1 - H * theta
        assert a ** (2 * K) + 2 * H * K * theta * a ** (2 * K - 1) == pytest.approx(sigma**2)
        assert theta > 1.5 * (1 - sigma ** (1 / K)) / H  # not the fixed point of (2.13)

    def test_energy_penalty(self):
        x, start = points(0.6), points(1.0)
        plain = quadratic_ebm(0.7)(x, start)
        penalised = quadratic_ebm(0.7, energy_penalty=0.25)(x, start)
        squares = plain.energy_data**2 + plain.energy_samples**2  # every row has the same energy
        torch.testing.assert_close(penalised.loss, plain.loss + 0.25 * squares)

    @pytest.mark.parametrize("generator_weight", [0.0, 1.0])
    def test_only_the_loss_carries_a_graph_and_only_backward_leaves_gradients(
        self, generator_weight
    ):
        energy = ConvEnergy.preset("digits")
        ebm = ShortRunEBM(energy, (1, 8, 8), num_steps=2, generator_weight=generator_weight)
        x = torch.rand(4, 1, 8, 8)
        terms = ebm(x, ebm.start(4))
        assert [term.requires_grad for term in terms] == [True, False, False, False]
        assert all(p.requires_grad and p.grad is None for p in energy.parameters())
        terms.loss.backward()
        # The last bias moves E(x⁺) and E(x⁻) alike; all else takes part.
        assert all(p.grad.abs().sum() > 0 for p in list(energy.parameters())[:-1])


class TestSampling:
    def test_samples_come_in_parts(self):
        """A process that draws a part of the samples draws those of a single process."""
        ebm = ShortRunEBM(Quadratic(1.0).float(), (3,), num_steps=4, noise_scale=0.2)
        key = torch.tensor([3, 0])
        whole = ebm.sample(6, key=key)
        parts = torch.cat([ebm.sample(2, key=key), ebm.sample(4, key=key, first=2)])
        torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-6)

    def test_training_draws_the_samples_of_a_single_process(self):
        ebm = ShortRunEBM(Quadratic(1.0).float(), (3,), num_steps=4, noise_scale=0.2)
        start_key, chain_key = torch.tensor([3, 0]), torch.tensor([4, 0])
        x = torch.zeros(1, 3)
        whole = ebm(x, ebm.start(6, key=start_key), key=chain_key).samples
        part = ebm(x, ebm.start(4, key=start_key, first=2), key=chain_key, first=2).samples
        torch.testing.assert_close(part, whole[2:], rtol=1e-6, atol=1e-6)

    def test_starts_and_steps_do_not_share_noise(self):
        """Were the first step's noise that of the start, x₁ = x₀ + ε would have variance 4."""
        ebm = ShortRunEBM(Quadratic(0.0).float(), (1,), num_steps=1, noise_scale=1.0)
        variance = ebm.sample(50_000, key=torch.tensor([5, 0])).var().item()
        assert abs(variance / 2 - 1) < 5 * math.sqrt(2 / 50_000)

    def test_a_seed_governs(self):
        ebm = ShortRunEBM(Quadratic(1.0).float(), (3,), noise_scale=0.1)
        first, second, other = (
            ebm.sample(5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
        )
        assert torch.equal(first, second)
        assert not torch.equal(first, other)


class TestDivergence:
    def test_too_long_steps_are_found(self):
        """|a| > 1: a = 1 − 0.05·50 = −1.5, and x_K = a^K x₀."""
        terms = quadratic_ebm(50.0)(points(0.5), points(1.0))
        torch.testing.assert_close(terms.samples, 1.5**K * points(1.0))
        with pytest.raises(DivergenceError, match="differ by more than 100"):
            check_divergence(*terms[:3], max_gap=100.0)

    def test_nan_is_found(self):
        with pytest.warns(NonFiniteWarning, match="2 of 2 chains"):
            terms = quadratic_ebm(float("nan"))(points(0.5), points(1.0))
        with pytest.raises(DivergenceError, match="the loss is nan"):
            check_divergence(*terms[:3], max_gap=100.0)

    def test_a_healthy_loss_passes(self):
        check_divergence(*quadratic_ebm(0.5)(points(0.5), points(1.0))[:3], max_gap=1.0)


def weights(module):
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def rows(images, start, end):
    return Batch(images[start:end], None, torch.arange(start, end))


class TestRecipe:
    """A few tiny steps; that the defaults give digits is measured, not tested."""

    @pytest.fixture
    def make(self):
        pytest.importorskip("sklearn")
        fabric = pytest.importorskip("lightning_fabric").Fabric(accelerator="cpu", devices=1)
        from gencore.recipes.ebm.ebm import EBMRecipe

        def make(**options):
            recipe = EBMRecipe(chain_steps=2, batch_size=4, **options)
            torch.manual_seed(recipe.seed)
            dataset = recipe.load_data()
            return recipe.build(fabric, dataset), dataset.images

        return make

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"noise_scale": 0.02, "grad_clamp": 0.1, "energy_penalty": 0.1},
            {"generator_weight": 1.0, "spectral_norm": True},
            {"buffer_size": 10, "noise_scale": 0.02},
            {"image_size": 16, "network": "mnist"},
        ],
    )
    def test_a_step_trains_and_samples_are_images(self, make, options):
        experiment, images = make(**options)
        before = weights(experiment.ebm)
        logs = experiment.step(rows(images, 0, 4))
        assert {"loss", "energy_data", "energy_samples"} <= logs.keys()
        assert all(value.dim() == 0 and value.isfinite() for value in logs.values())
        assert not torch.equal(weights(experiment.ebm), before)
        samples = experiment.sample(25)
        assert samples.shape == (25, *images.shape[1:])
        assert 0 <= samples.min() < samples.max() <= 1

    def test_samples_come_from_averaged_weights(self, make):
        experiment, images = make(ema_decay=0.75)
        experiment.step(rows(images, 0, 4))
        first = weights(experiment.ebm)
        experiment.step(rows(images, 4, 8))
        average = 0.75 * first + 0.25 * weights(experiment.ebm)
        torch.testing.assert_close(weights(experiment.optimisation.averaged), average)

        averaged = experiment.sample(4, torch.Generator().manual_seed(0))
        for parameter in experiment.ebm.parameters():
            nn.init.zeros_(parameter)
        assert torch.equal(experiment.sample(4, torch.Generator().manual_seed(0)), averaged)

    def test_its_state_is_all_that_the_next_steps_depend_on(self, make):
        options = {"buffer_size": 10, "noise_scale": 0.02}
        source, images = make(**options)
        source.step(rows(images, 0, 4))
        state = {name: deepcopy(part.state_dict()) for name, part in source.state.items()}
        target, _ = make(**options, seed=1)
        for name, part in target.state.items():
            part.load_state_dict(state[name])
        for experiment in (source, target):
            torch.manual_seed(2)
            experiment.step(rows(images, 4, 8))
            experiment.step(rows(images, 8, 12))
        one, other = (e.sample(8, torch.Generator().manual_seed(0)) for e in (source, target))
        assert torch.equal(one, other)

    def test_divergence_stops_before_the_weights_move(self, make):
        from gencore.train import Diverged

        experiment, images = make(max_gap=1e-9)
        before = weights(experiment.ebm)
        with pytest.raises(Diverged, match="differ by more than 1e-09"):
            experiment.step(rows(images, 0, 4))
        assert torch.equal(weights(experiment.ebm), before)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"step_size": -0.1}, r"step_size is -0\.1; expected positive"),
            ({"noise_scale": float("nan")}, "noise_scale is nan"),
            ({"ema_decay": 1.5}, r"ema_decay is 1\.5; expected from 0 to 1"),
            ({"buffer_size": 3}, "buffer_size is 3; expected 0, or at least the 4 chains"),
        ],
    )
    def test_bad_options_are_explained(self, make, options, message):
        with pytest.raises(ValueError, match=message):
            make(**options)

    def test_measures_compare_with_the_baselines(self, make):
        experiment, _ = make()
        measures = experiment.evaluate(200)
        assert measures["frechet_pixels/train"] < measures["frechet_pixels/independent_pixels"]
        assert measures["frechet_pixels/independent_pixels"] < measures["frechet_pixels/samples"]

    @pytest.mark.slow
    def test_two_processes_train_what_one_does(self, tmp_path):
        """Loss, generator loss and replay buffer: the same weights but for rounding."""
        pytest.importorskip("sklearn")
        pytest.importorskip("lightning_fabric")
        words = "train ebm --steps 4 --chain-steps 4 --batch-size 8 --noise-scale 0.02 "
        words += "--generator-weight 1 --buffer-size 20"
        runs = run_on_one_and_two([*words.split(), *TRAIN_ALONE], tmp_path)
        one, two = (read_state(run.checkpoint)["state"] for run in runs)
        for part in ("model", "buffer"):
            for name, value in one[part].items():
                torch.testing.assert_close(two[part][name], value, rtol=1e-4, atol=1e-5)
        losses = [torch.tensor(read_log(run.log)["loss"]) for run in runs]
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
