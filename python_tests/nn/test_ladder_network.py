"""The ladder network: values by hand, without noise, gradients, the denoiser of a Gaussian."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from gencore.nn import GaussianCombinator, LadderNetwork

DOUBLE = torch.float64


def key(seed=1):
    return torch.tensor([seed, 0])


def random_network(**options):
    """No parameter at the value that it starts at, where some have no gradient."""
    torch.manual_seed(0)
    options = {"denoising_weights": (3.0, 2.0, 1.0), **options}
    network = LadderNetwork(4, (6, 5), 3, **options).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def points(num=12):
    return torch.rand(num, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(5))


def set_identity(combinator):
    with torch.no_grad():
        combinator.coefficients.zero_()
        combinator.coefficients[9] = 1


class TestCombinator:
    def test_by_hand(self):
        """σ(ln 3) = 3/4: μ = 2·3/4 + ln 3/2 − 1 and v = 4·1/2 + ln 3 + 1/2."""
        combinator = GaussianCombinator(1).double()
        with torch.no_grad():
            a = torch.tensor([2, 1, 0, 0.5, -1, 4, 0, 0, 1, 0.5], dtype=DOUBLE)
            combinator.coefficients.copy_(a[:, None])
        u = torch.tensor([[3.0]], dtype=DOUBLE).log()
        mean, weight = 0.5 + u / 2, 2.5 + u
        z = torch.tensor([[0.7]], dtype=DOUBLE)
        torch.testing.assert_close(combinator(z, u), (0.7 - mean) * weight + mean)

    def test_least_squares_finds_the_posterior_mean_of_a_gaussian(self):
        """z | u ~ N(0.8 u + 0.3, s²) and z̃ = z + N(0, n²): E[z | z̃, u] = m + (z̃ − m) s²/(s² + n²).
        Of N points a coefficient's standard error is near s n/√(s² + n²)/√N ≤ 0.004.
        """
        generator = torch.Generator().manual_seed(0)
        s, n, num = torch.tensor([0.5, 1.0], dtype=DOUBLE), 0.5, 20_000
        u, z, noise = torch.randn(3, num, 2, dtype=DOUBLE, generator=generator)
        z = 0.8 * u + 0.3 + s * z
        noisy = z + n * noise
        combinator = GaussianCombinator(2).double()
        optimizer = torch.optim.LBFGS(
            combinator.parameters(), max_iter=60, line_search_fn="strong_wolfe"
        )

        def closure():
            optimizer.zero_grad()
            loss = (combinator(noisy, u) - z).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        u = torch.linspace(-1.5, 1.5, 7, dtype=DOUBLE)[:, None].expand(7, 2)
        mean = 0.8 * u + 0.3
        for offset in (-1.0, 0.0, 1.0):
            expected = mean + offset * s**2 / (s**2 + n**2)
            found = combinator(mean + offset, u)
            torch.testing.assert_close(found, expected, rtol=0, atol=0.025)

    def test_errors(self):
        with pytest.raises(ValueError, match=r"above has shape \[2, 3\]; expected \[2, 4\]"):
            GaussianCombinator(4)(torch.zeros(2, 4), torch.zeros(2, 3))
        with pytest.raises(ValueError, match="num_elements is 0"):
            GaussianCombinator(0)


class TestValues:
    def make(self):
        """Two points ±(1, 2) and an encoder without mixing: both columns normalise to ±1."""
        network = LadderNetwork(2, (), 2, noise_std=0.0, denoising_weights=(2.0, 3.0)).double()
        with torch.no_grad():
            network.encoders[0].weight.copy_(torch.eye(2))
            network.scales[0].copy_(torch.tensor([2.0, 1.0]))
            network.shifts[0].copy_(torch.tensor([0.5, 0.0]))
        return network, torch.tensor([[1.0, 2.0], [-1.0, -2.0]], dtype=DOUBLE)

    def test_logits(self):
        network, x = self.make()
        expected = torch.tensor([[3.0, 1.0], [-1.0, -1.0]], dtype=DOUBLE)
        torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=0)
        torch.testing.assert_close(network.denoise(x, key=key()).logits, network(x))

    def test_costs_of_constant_estimates(self):
        """ẑ⁽⁰⁾ = ½: ((½)² + (3/2)²)/2 and ((3/2)² + (5/2)²)/2. ẑ⁽¹⁾ = 1 over stds of 1 and 2:
        (0 + (1/2)²)/2 and (2² + (3/2)²)/2."""
        network, x = self.make()
        with torch.no_grad():
            network.combinators[0].coefficients[4] = 0.5
            network.combinators[1].coefficients[4] = 1.0
        found = network.denoise(x, key=key())
        expected = torch.tensor([[1.25, 0.125], [4.25, 3.125]], dtype=DOUBLE)
        torch.testing.assert_close(found.costs, expected, rtol=1e-4, atol=1e-5)
        energy = torch.tensor([2 * 1.25 + 3 * 0.125, 2 * 4.25 + 3 * 3.125], dtype=DOUBLE)
        torch.testing.assert_close(found.energy, energy, rtol=1e-4, atol=0)

    def test_the_signal_from_above_is_the_normalised_softmax(self):
        """Softmax of (3, 1) and (−1, −1): σ(2) and ½ normalise to ±1. With ẑ⁽¹⁾ = u and ẑ⁽⁰⁾ = u of
        a decoder that does not mix it is ±1 once more, in the second column with the other sign:
        costs (0 + 3²)/2."""
        network, x = self.make()
        with torch.no_grad():
            network.decoders[0].weight.copy_(torch.eye(2))
            for combinator in network.combinators:
                combinator.coefficients[3] = 1.0
        found = network.denoise(x, key=key()).costs[:, 0]
        torch.testing.assert_close(found, torch.full((2,), 4.5, dtype=DOUBLE), rtol=1e-2, atol=0)


class TestWithoutNoise:
    def test_both_encoders_agree(self):
        network, x = random_network(noise_std=0.0), points()
        torch.testing.assert_close(network.denoise(x, key=key()).logits, network(x))

    def test_what_stays_costs_nothing(self):
        """The identity at the input; above it ẑ = σ z + μ, since ẑ is normalised once more."""
        network, x = random_network(noise_std=0.0), points()
        network.fit_moments(x)
        widths = (6, 5, 3)
        moments = zip(network.means.split(widths), network.stds.split(widths), strict=True)
        set_identity(network.combinators[0])
        with torch.no_grad():
            for combinator, (mean, std) in zip(network.combinators[1:], moments, strict=True):
                combinator.coefficients.zero_()
                combinator.coefficients[9] = std
                combinator.coefficients[4] = mean / (1 - std)
        costs = network.denoise(x, key=key()).costs
        torch.testing.assert_close(costs, torch.zeros(12, 4, dtype=DOUBLE), atol=1e-20, rtol=0)


class TestNoise:
    def network(self):
        network = random_network(noise_std=0.3)
        set_identity(network.combinators[0])
        return network

    def test_an_identity_keeps_its_variance(self):
        """C⁽⁰⁾ is a mean of squares of 4 × 4,000 normals of variance 0.09, ± 0.001."""
        x = torch.rand(4000, 4, dtype=DOUBLE)
        cost = self.network().denoise(x, key=key()).costs[:, 0].mean().item()
        assert cost == pytest.approx(0.09, abs=0.004)

    def test_it_belongs_to_the_rows(self):
        network, x = self.network(), points()
        whole = network.denoise(x, key=key()).costs[:, 0]
        part = network.denoise(x[5:], key=key(), first=5).costs[:, 0]
        torch.testing.assert_close(part, whole[5:])
        other = network.denoise(x, key=key(2)).costs[:, 0]
        assert not torch.isclose(other, whole).any()

    def test_of_single_precision(self):
        x, network = points(), random_network()
        expected = network.energy(x, key=key())
        found = network.float().energy(x.float(), key=key())
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)


class TestGradients:
    def test_they_reach_all_parameters(self):
        network, x = random_network(), points()
        found = network.denoise(x, key=key())
        loss = cross_entropy(found.logits, torch.arange(12) % 3) + found.energy.mean()
        loss.backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert (parameter.grad != 0).any(), name

    def test_they_are_right(self):
        network, x = random_network(), points(5).requires_grad_()
        network.requires_grad_(False)
        assert torch.autograd.gradcheck(lambda x: network.denoise(x, key=key())[:2], (x,))


class TestWeights:
    def test_the_bottom_alone(self):
        x = points()
        bottom = random_network(denoising_weights=(7.0, 0.0)).denoise(x, key=key())
        every = random_network(denoising_weights=(7.0, 1.0)).denoise(x, key=key())
        torch.testing.assert_close(bottom.costs[:, 0], every.costs[:, 0])
        assert (bottom.costs[:, 1:] == 0).all()
        torch.testing.assert_close(bottom.energy, 7 * bottom.costs[:, 0])

    def test_the_last_holds_for_all_above(self):
        assert LadderNetwork(4, (3, 3), 2).denoising_weights == (1000.0, 10.0, 0.1, 0.1)


class TestPrediction:
    def test_moments_are_those_of_the_points(self):
        network, x = random_network(), points()
        expected = network(x)
        network.fit_moments(x)
        network.eval()
        torch.testing.assert_close(network(x), expected)
        torch.testing.assert_close(network(x[:1]), expected[:1])

    def test_they_are_kept(self):
        network, other, x = random_network(), random_network(), points()
        network.fit_moments(x)
        other.load_state_dict(network.state_dict())
        torch.testing.assert_close(other.eval()(x), network.eval()(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_widths": (3, 0)}, "width is 0; expected at least 1"),
        ({"noise_std": -0.1}, "noise_std must be finite and not negative"),
        ({"denoising_weights": ()}, "denoising_weights is .*; expected 1 to 3 numbers"),
        ({"denoising_weights": (1.0,) * 4}, "denoising_weights is .*; expected 1 to 3 numbers"),
        ({"denoising_weights": (-1.0,)}, "denoising_weights must be finite and not negative"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"LadderNetwork: {message}"):
        LadderNetwork(**{"num_inputs": 4, "hidden_widths": (3,), "num_classes": 2, **options})


def test_points_that_do_not_fit():
    network = random_network()
    with pytest.raises(ValueError, match=r"x has shape \[5, 3\]; expected \[N, 4\]"):
        network(points(5)[:, :3])
    with pytest.raises(
        ValueError, match=r"x has shape \[1, 4\]; expected \[N, 4\] with N at least"
    ):
        network.denoise(points(1))
