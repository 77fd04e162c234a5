"""The diffusion model on data whose reverse chain is known, and its terms by hand."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from gencore.data import load_density
from gencore.models import GaussianDiffusion, NoiseSchedule
from gencore.nn import DenoisingMLP

STD = 0.7
KEY = torch.tensor([6, 0])
# The last levels are noise to 1e-4, so that samples may start from N(0, 1).
STEEP = NoiseSchedule([0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95])


class GaussianNoise(nn.Module):
    """E[ε | x_t] of data from N(0, s²): √(1 − ā²) x_t / (ā² s² + 1 − ā²)."""

    def __init__(self, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.squares = schedule.mean_scales**2

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        square = self.squares[t].to(x.dtype).reshape(-1, *(1,) * (x.dim() - 1))
        return (1 - square).sqrt() * x / (square * STD**2 + 1 - square)


class Answer(nn.Module):
    """Any smooth function of x and t, with as many channels as asked for."""

    def __init__(self, factor: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.3))
        self.factor = factor

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y = (self.weight * x + 0.1 * t.to(x.dtype)[:, None]).tanh()
        return y.repeat(1, self.factor)


def known(schedule: NoiseSchedule = STEEP, **options) -> GaussianDiffusion:
    return GaussianDiffusion(GaussianNoise(schedule), (1,), schedule, **options)


def reverse_variances(schedule: NoiseSchedule) -> Tensor:
    """Var[x_s | x_t] of N(0, s²) data: x_s, x_t are Gaussian of covariance √(1 - β) v_s."""
    marginal = schedule.mean_scales**2 * STD**2 + 1 - schedule.mean_scales**2
    before, after = marginal[:-1], marginal[1:]
    return before - (1 - schedule.variances) * before**2 / after


class TestGaussianData:
    def test_optimal_variances_are_those_of_the_reverse_chain(self) -> None:
        x = STD * torch.randn(50_000, 1, generator=torch.Generator().manual_seed(0))
        found = known().optimal_variances(x, key=torch.tensor([1, 0]))
        error = 5 * math.sqrt(2 / len(x))  # of a mean of squares of normals
        torch.testing.assert_close(found, reverse_variances(STEEP), rtol=error, atol=0)

    @pytest.mark.parametrize("levels", [None, [0, 1, 3, 8]])
    def test_samples_have_the_law_of_the_data(self, levels: list[int] | None) -> None:
        num = 100_000
        schedule = STEEP if levels is None else STEEP.merged(levels)
        path = known().sample(
            num, levels=levels, variances=reverse_variances(schedule), final_noise=True,
            return_trajectory=True, key=torch.tensor([3, 0]),
        ).double()  # fmt: skip
        marginal = (schedule.mean_scales**2 * STD**2 + 1 - schedule.mean_scales**2).flip(0)
        marginal[0] = 1  # where samples start
        assert len(path) == schedule.num_steps + 1
        variance = path.var((1, 2))
        error = 5 * math.sqrt(2 / num) + STEEP.mean_scales[-1].item() ** 2
        torch.testing.assert_close(variance, marginal, rtol=error, atol=0)
        kurtosis = (path[-1] / STD).pow(4).mean().item()
        assert abs(kurtosis - 3) < 5 * math.sqrt(96 / num)

    def test_implicit_steps_transport_the_noise(self) -> None:
        """With η = 0 a chain is a linear map, the identity of each level's standard deviations as
        the steps shrink; with η = 1 it is the chain of posterior variances."""
        schedule = NoiseSchedule.linear(400, first=1e-4, last=0.08)
        noise = torch.zeros(401, 3, 1)
        noise[0, :, 0] = torch.tensor([-1.0, 0.5, 2.0])
        x = known(schedule).sample(3, eta=0.0, noise=noise)
        torch.testing.assert_close(x, STD * noise[0], rtol=0.01, atol=0)
        noise = torch.randn(len(STEEP.variances) + 1, 50, 1)
        torch.testing.assert_close(known().sample(50, eta=1.0, noise=noise),
                                   known(variance="posterior").sample(50, noise=noise))  # fmt: skip

    def test_the_bound_of_the_optimal_chain_is_the_likelihood(self) -> None:
        """The gap is KL(q(x_T) ‖ N(0, I)) alone, whatever the length of the steps."""
        x = STD * torch.randn(50_000, 1, generator=torch.Generator().manual_seed(0))
        log_prob = Normal(0.0, STD).log_prob(x).squeeze(1)
        for levels in (None, [0, 2, 8]):
            schedule = STEEP if levels is None else STEEP.merged(levels)
            bound = known().bound(
                x, levels=levels, variances=reverse_variances(schedule), key=torch.tensor([5, 0])
            )
            gap = log_prob - bound.total
            assert abs(gap.mean().item()) < 4 * gap.std().item() / math.sqrt(len(x)) + 1e-4

    @pytest.mark.parametrize("variance", ["step", "posterior"])
    def test_what_other_variances_lose(self, variance: str) -> None:
        """A step whose variance is the r-th part of the best one loses (r - 1 - log r)/2 nats. For
        those of the steps the sum goes to 0 as they shrink. For the posterior's, k equal steps from
        the data, r is about 1 + 1/(k - 1), and 2 in the first one: it goes to (1 - log 2 + γ)/2."""
        lost = {}
        for num_steps in (4, 32):
            # One diffusion, to 1 - ā² = 1 - e⁻⁸, in equal steps of two lengths.
            schedule = NoiseSchedule([-math.expm1(-8 / num_steps)] * num_steps)
            best, model = reverse_variances(schedule), known(schedule, variance=variance)
            noise = 1 - schedule.mean_scales**2
            used = schedule.variances.clone()
            if variance == "posterior":
                used *= noise[:-1] / noise[1:]
                used[0] = used[1]
            x = STD * torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
            optimal = model.bound(x, variances=best, key=KEY).total
            difference = optimal - model.bound(x, key=KEY).total
            error = 5 * difference.std().item() / math.sqrt(len(x))
            ratio = best / used
            lost[num_steps] = (0.5 * (ratio - 1 - ratio.log())).sum().item()
            assert difference.mean().item() == pytest.approx(lost[num_steps], abs=error)
        if variance == "step":
            assert lost[32] < lost[4] / 4
        else:
            assert lost[4] < lost[32] < 0.5 * (1 - math.log(2) + 0.5772)


class TestTerms:
    @pytest.mark.parametrize("variance", ["step", "posterior", "learned"])
    @pytest.mark.parametrize("predicts", ["noise", "start", "mean"])
    def test_they_are_those_of_torchs_distributions(self, predicts: str, variance: str) -> None:
        schedule = NoiseSchedule([0.1, 0.3, 0.5])
        network = Answer(2 if variance == "learned" else 1)
        model = GaussianDiffusion(
            network, (2,), schedule, predicts=predicts, variance=variance
        ).double()
        x, key = torch.randn(7, 2, dtype=torch.float64), torch.tensor([2, 9])
        with torch.no_grad():
            bound = model.bound(x, key=key)
        scale = schedule.mean_scales
        prior = kl_divergence(
            Normal(scale[3] * x, (1 - scale[3] ** 2).sqrt()), Normal(0.0, torch.ones_like(x))
        ).sum(1)
        torch.testing.assert_close(bound.prior, prior)
        beta = schedule.variances
        # Of jointly Gaussian x_s, x_t given x₀, by the rule for a product of two Gaussians.
        posterior = 1 / (1 / (1 - scale[:-1] ** 2) + (1 - beta) / beta)
        for s in range(3):
            t = torch.full((7,), s + 1)
            noisy = schedule.diffuse(x, t, key=key + torch.tensor([0, s]))
            with torch.no_grad():
                output = network(noisy, t)[:, :2]

            def posterior_mean(start: Tensor, s: int = s, noisy: Tensor = noisy) -> Tensor:
                if s == 0:
                    return start
                prior_part = scale[s] * start / (1 - scale[s] ** 2)
                return posterior[s] * (prior_part + (1 - beta[s]).sqrt() / beta[s] * noisy)

            start = (noisy - (1 - scale[s + 1] ** 2).sqrt() * output) / scale[s + 1]
            mean = {
                "noise": posterior_mean(start), "start": posterior_mean(output), "mean": output,
            }[predicts]  # fmt: skip
            least = posterior[max(s, 1)]
            weight = output.sigmoid()
            std = {
                "step": beta[s].sqrt(),
                "posterior": least.sqrt(),
                "learned": (0.5 * (weight * beta[s].log() + (1 - weight) * least.log())).exp(),
            }[variance]
            model_step = Normal(mean, std)
            if s == 0:
                log_prob = model_step.log_prob(x).sum(1)
                torch.testing.assert_close(bound.reconstruction, log_prob)
            else:
                step = kl_divergence(Normal(posterior_mean(x), posterior[s].sqrt()), model_step)
                torch.testing.assert_close(bound.steps[:, s - 1], step.sum(1))
        total = bound.reconstruction - bound.steps.sum(1) - bound.prior
        assert torch.equal(bound.total, total)

    @pytest.mark.parametrize("bins", [None, 5])
    def test_the_loss_of_the_bound_is_the_bound_on_average_over_levels(
        self, bins: int | None
    ) -> None:
        schedule = NoiseSchedule([0.1, 0.3, 0.5])
        model = GaussianDiffusion(Answer(), (2,), schedule, loss="bound", bins=bins).double()
        x, key = torch.tensor([[0.5, -1.0]], dtype=torch.float64), torch.tensor([4, 0])
        losses = []
        for s in range(3):
            t = torch.tensor([s + 1])
            noisy = schedule.diffuse(x, t, key=key + torch.tensor([0, s]))
            scale = schedule.mean_scales[s + 1]
            noise = (noisy - scale * x) / (1 - scale**2).sqrt()
            losses.append(model(x, t=t, noise=noise))
        expected = -model.bound(x, key=key).total.mean() / 2
        torch.testing.assert_close(torch.stack(losses).mean(), expected)

    def test_a_rounded_model_sums_to_one_over_the_levels(self) -> None:
        grid = torch.linspace(-1, 1, 5)
        levels = torch.cartesian_prod(grid, grid)
        model = GaussianDiffusion(Answer(), (2,), NoiseSchedule([0.3]), bins=5)
        # Of one and the same x_t: what the reconstruction is given.
        noisy = torch.tensor([[0.3, -0.2]]).expand(25, 2)
        steps = model._steps(None, noisy.device)
        step = torch.zeros(25, dtype=torch.long)
        reverse = model._reverse(noisy, step, steps, 0.1 * noisy, None, clamped=True)
        total = model._reconstruction(levels.float(), reverse).exp().sum().item()
        assert total == pytest.approx(1, abs=1e-5)


class TestLoss:
    def test_the_optimum_of_the_simple_loss_is_the_conditional_mean(self) -> None:
        """The loss of E[ε | x_t] is the variance of ε given x_t; another multiple is worse."""
        x = STD * torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0))
        model, t = known(), torch.full((100_000,), 4)
        square = STEEP.mean_scales[4].item() ** 2
        expected = square * STD**2 / (square * STD**2 + 1 - square)
        loss = model(x, t=t, key=torch.tensor([8, 0])).item()
        assert loss == pytest.approx(expected, rel=5 * math.sqrt(2 / len(x)))

        class Scaled(GaussianNoise):
            def forward(self, x: Tensor, t: Tensor) -> Tensor:
                return 1.1 * super().forward(x, t)

        other = GaussianDiffusion(Scaled(STEEP), (1,), STEEP)
        assert other(x, t=t, key=torch.tensor([8, 0])).item() > loss

    def test_levels_are_uniform_and_rows_have_noise_of_their_own(self) -> None:
        seen: list[Tensor] = []

        class Watched(nn.Module):
            def forward(self, x: Tensor, t: Tensor) -> Tensor:
                seen.append(torch.cat([x, t[:, None].to(x.dtype)], 1))
                return x

        model, x = GaussianDiffusion(Watched(), (1,), STEEP), torch.zeros(8000, 1)
        key = torch.tensor([1, 2])
        model(x, key=key)
        model(x[:5000], key=key)
        model(x[5000:], key=key, first=5000)
        whole, *parts = seen
        assert torch.equal(whole, torch.cat(parts))
        counts = whole[:, 1].long().bincount(minlength=9)
        assert counts[0] == 0
        assert (counts[1:] - 1000).abs().max() < 5 * math.sqrt(1000)

    @pytest.mark.parametrize("predicts", ["noise", "start", "mean"])
    def test_learned_variances_move_and_the_mean_is_held_in_their_term(self, predicts: str) -> None:
        """The gradient of the prediction is that of the simple loss; that of the variances is not
        zero."""
        grads = []
        for weight in (0.0, 1.0):
            output = nn.Parameter(torch.full((6, 4), 0.2))

            class Fixed(nn.Module):
                def __init__(self, output: nn.Parameter) -> None:
                    super().__init__()
                    self.output = output

                def forward(self, x: Tensor, t: Tensor) -> Tensor:
                    return self.output

            model = GaussianDiffusion(
                Fixed(output), (2,), STEEP, variance="learned", predicts=predicts,
                bound_weight=weight,
            )  # fmt: skip
            model(torch.ones(6, 2), t=torch.arange(1, 7), key=torch.tensor([1, 1])).backward()
            assert output.grad is not None
            grads.append(output.grad)
        torch.testing.assert_close(grads[0][:, :2], grads[1][:, :2])
        assert grads[0][:, 2:].abs().max() == 0
        assert (grads[1][:, 2:].abs() > 0).all()


class TestSamples:
    def test_parts_are_those_of_the_whole_and_noise_is_all_that_is_random(self) -> None:
        model, key = known(variance="step"), torch.tensor([1, 2])
        whole = model.sample(5, key=key)
        assert torch.equal(whole[3:], model.sample(2, key=key, first=3))
        noise = torch.randn(9, 5, 1)
        path = model.sample(5, noise=noise, return_trajectory=True)
        assert torch.equal(path, model.sample(5, noise=noise, return_trajectory=True))
        assert torch.equal(path[0], noise[0])
        assert torch.equal(path[-1], model.sample(5, noise=noise))

    def test_dropout_is_off(self) -> None:
        network = DenoisingMLP(1, [8])
        network.layers.layers.append(nn.Dropout(0.5))
        nn.init.normal_(network.layers.layers[-2].weight)
        model, key = GaussianDiffusion(network, (1,), STEEP), torch.tensor([1, 2])
        assert torch.equal(model.sample(20, key=key), model.sample(20, key=key))
        assert model.training

    def test_data_are_clamped(self) -> None:
        assert known(clamp=(-0.1, 0.2)).sample(50).abs().max() <= 0.2


@pytest.mark.slow
def test_training_on_the_plane_reaches_the_modes() -> None:
    density = load_density("eight_gaussians")
    schedule = NoiseSchedule.linear(100, first=1e-3, last=0.2)
    torch.manual_seed(0)
    model = GaussianDiffusion(DenoisingMLP(2, [128, 128, 128]), (2,), schedule)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2500)
    spread = density.sample(10_000, key=torch.tensor([0, 0])).std()
    for step in range(2500):
        x = density.sample(512, key=torch.tensor([1, step])) / spread
        optimizer.zero_grad()
        model(x).backward()
        optimizer.step()
        decay.step()
    samples = model.sample(4000, key=torch.tensor([2, 0])) * spread
    data = density.sample(4000, key=torch.tensor([3, 0]))
    angle = torch.atan2(samples[:, 1], samples[:, 0])
    counts = (angle / (math.pi / 4)).round().long().remainder(8).bincount(minlength=8)
    assert counts.min() > 0.6 * 500

    def distance(a: Tensor, b: Tensor) -> float:
        return (2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean()
                - torch.cdist(b, b).mean()).item()  # fmt: skip

    noise = spread * torch.randn(4000, 2)
    assert distance(samples, data) < 0.1 * distance(noise, data)
    # The bound with the best variances is near the true likelihood, and not above it.
    x = data / spread
    variances = model.optimal_variances(x)
    with torch.no_grad():
        bound = model.bound(x, variances=variances).total.mean().item()
    true = (density.log_prob(data) + 2 * spread.log()).mean().item()
    assert true - 0.5 < bound < true + 0.05


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: known(predicts="score"), "predicts is 'score'"),
        (lambda: known(loss="l1"), "loss is 'l1'"),
        (lambda: known(variance="optimal"), "variance is 'optimal'"),
        (lambda: known(bins=1), "bins is 1"),
        (lambda: known()(torch.zeros(2, 3)), r"x has shape \[2, 3\]; expected \[N, 1\]"),
        (lambda: known()(torch.zeros(2, 1), t=torch.tensor([0, 1])), "outside 1 to 8"),
        (lambda: known().sample(1, levels=[0, 4]), "levels end at 4"),
        (lambda: known().sample(1, levels=[]), "levels end at None"),
        (lambda: known().sample(1, eta=1.5), "eta is 1.5"),
        (lambda: known().sample(1, levels=[1, 8]), r"levels are \[1, 8\]"),
        (lambda: known().sample(2, noise=torch.zeros(3, 2, 1)), "noise has shape"),
        (lambda: known().sample(2, variances=torch.ones(3)), "variances have shape"),
        (lambda: known().sample(2, variances=-torch.ones(8)), "a variance is -1"),
        (lambda: known().sample(2, eta=0.5, variances=torch.ones(8)), "one of them"),
        (lambda: known(variance="learned")(torch.zeros(2, 2)), "x has shape"),
        (lambda: known(variance="learned")(torch.zeros(2, 1)), r"expected \[2, 2\]"),
    ],
)
def test_bad_input(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
