"""Energies that correct a base model: Gaussians in closed form, and modes that chains cross."""

from functools import partial

import pytest
import torch
from testing.chain_testing import assert_means, key, normal
from testing.flow_testing import randn, ready
from torch import nn

from gencore.data import load_density
from gencore.models import (
    NICE,
    CouplingFlow,
    Flow,
    FlowBackboneEBM,
    Glow,
    LatentEBM,
    SplineFlow,
    TiltedEBM,
)
from gencore.nn import MLPEnergy, Transform
from gencore.samplers import HMC, AnnealedImportance, GaussianBase, Langevin, TransportedEnergy

G = torch.tensor([[1.0, 0.4], [-0.6, 0.8], [0.3, 1.2]])
WEIGHTS = torch.tensor([1.5, 0.5, 2.0])
# Of the latents of x = Gz under N(z; 0, I) exp(−½ Σ λᵢxᵢ²).
PRECISION = torch.eye(2) + G.T @ torch.diag(WEIGHTS) @ G

ACCURATE = partial(HMC, step_size=0.4, num_leapfrog=4)


class Quadratic(nn.Module):
    """E(x) = ½ Σ λᵢ(xᵢ − cᵢ)²."""

    def __init__(self, weights, centre=0.0):
        super().__init__()
        self.weights = nn.Parameter(weights.clone())
        self.centre = centre

    def forward(self, x):
        return 0.5 * (self.weights * (x - self.centre).square()).sum(1)


class Linear(Transform):
    """z = (x − b) / s."""

    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = nn.Parameter(mean.clone()), nn.Parameter(std.clone())

    def forward(self, x, context=None):
        return (x - self.mean) / self.std, -self.std.log().sum().expand(len(x))

    def inverse(self, z, context=None):
        return z * self.std + self.mean, self.std.log().sum().expand(len(z))


def linear_ebm(**options):
    base = nn.Linear(2, 3, bias=False)
    base.weight.data.copy_(G)
    return LatentEBM(base, Quadratic(WEIGHTS), (2,), **options)


def assert_covariance(samples, expected):
    """Of samples with mean 0."""
    assert_means(samples[:, :, None] * samples[:, None], expected)


class Constant(nn.Module):
    def forward(self, x):
        return 0.0 * x.flatten(1).sum(1)


class TestLatentEBM:
    def test_latents_of_a_linear_generator_are_gaussian(self):
        """N(0, P⁻¹) with P = I + GᵀΛG."""
        ebm = linear_ebm(kernel=ACCURATE, num_steps=20)
        z = ACCURATE(ebm.chain_energy).sample(ebm.start(20_000, key=key(1)), 20, key=key(2))
        covariance = torch.linalg.inv(PRECISION)
        assert_means(z, torch.zeros(2))
        assert_covariance(z, covariance)
        assert_covariance(ebm.sample(20_000, key=key(3)), G @ covariance @ G.T)

    def test_its_normaliser_is_the_determinant(self):
        """Z = E exp(−E(G(z))) = det(P)^(−½), by importance sampling from the prior."""
        ebm = linear_ebm()
        sampler = AnnealedImportance(
            ebm.chain_energy, GaussianBase((2,)), torch.tensor([0.0, 1.0]), ACCURATE
        )
        result = sampler.run(100_000, key=key(1))
        assert abs(result.log_z + 0.5 * torch.logdet(PRECISION)) < 4 * result.standard_error
        assert result.standard_error < 0.01

    def test_the_default_chains_are_those_of_balanced_langevin_dynamics(self):
        """With the time step ε the covariance is [P(I − εP/4)]⁻¹; no other balance of noise and
        gradient has it."""
        step = 0.4
        ebm = linear_ebm(kernel=partial(Langevin.from_time_step, time_step=step))
        z = ebm.kernel(ebm.chain_energy).sample(normal(40_000, 2), 60, key=key(4))
        expected = torch.linalg.inv(PRECISION @ (torch.eye(2) - step / 4 * PRECISION))
        assert_covariance(z, expected)
        default = linear_ebm().kernel(ebm.chain_energy)
        assert (default.step_size, default.noise_scale) == (0.005, 0.1)

    def test_without_an_energy_latents_keep_their_prior(self):
        decoder = nn.Linear(2, 3)
        ebm = LatentEBM(decoder, Constant(), (2,), kernel=ACCURATE)
        z = ACCURATE(ebm.chain_energy).sample(torch.full((20_000, 2), 2.0), 30, key=key(5))
        assert_means(z, torch.zeros(2))
        assert_covariance(z, torch.eye(2))
        assert_means(z**4, torch.full((2,), 3.0))
        prior = torch.distributions.Normal(0.0, 1.0)
        torch.testing.assert_close(-ebm.chain_energy(z), prior.log_prob(z).sum(1))

    def test_the_gradient_is_that_of_the_likelihood(self):
        """E over data of ∂E less that over samples, which is −∂ log Z (3.7)."""
        ebm = linear_ebm(kernel=ACCURATE, num_steps=20, energy_penalty=0.0)
        weights = WEIGHTS.clone().requires_grad_()
        log_z = -0.5 * torch.logdet(torch.eye(2) + G.T @ torch.diag(weights) @ G)
        (expected,) = torch.autograd.grad(log_z, weights)
        x = torch.tensor([[1.0, -2.0, 0.5]])
        num = 50_000
        ebm(x, ebm.start(num, key=key(6)), key=key(7)).loss.backward()
        of_samples = ebm.energy.weights.grad - 0.5 * x[0].square()
        variance = (G @ torch.linalg.inv(PRECISION) @ G.T).diagonal()
        error = variance / (2 * num) ** 0.5  # of ½x², x normal
        assert ((of_samples - expected).abs() < 4 * error).all()

    def test_a_variance_is_recovered(self):
        """Data N(0, s²) from x = z: exp(−½λx²) N(x; 0, 1) has the precision 1 + λ."""
        std = 0.5
        kernel = partial(HMC, step_size=0.2, num_leapfrog=4)  # a quarter of a period
        ebm = LatentEBM(
            nn.Identity(), Quadratic(torch.ones(1)), (1,), kernel=kernel, num_steps=4,
            energy_penalty=0.0,
        )  # fmt: skip
        x = std * normal(4000, 1)
        optimizer = torch.optim.SGD(ebm.parameters(), lr=4.0)
        for step in range(30):
            optimizer.zero_grad()
            start = ebm.start(2000, key=key(10 + step))
            ebm(x, start, key=key(1000 + step)).loss.backward()
            optimizer.step()
        precision = 1 + ebm.energy.weights.item()
        expected = 1 / x.square().mean().item()
        assert precision == pytest.approx(expected, rel=0.05)

    def test_the_base_is_frozen(self):
        """Parameters and running averages, in training too."""
        torch.manual_seed(0)
        decoder = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.SiLU(), nn.Linear(4, 3))
        ebm = LatentEBM(decoder, MLPEnergy(3), (2,), num_steps=3).train()
        assert not decoder.training
        assert ebm.energy.training
        before = {name: value.clone() for name, value in ebm.state_dict().items()}
        optimizer = torch.optim.Adam(ebm.parameters(), lr=0.1, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            ebm(torch.randn(8, 3), ebm.start(8)).loss.backward()
            optimizer.step()
        for name, value in ebm.state_dict().items():
            assert torch.equal(value, before[name]) == name.startswith("base."), name
        assert all(p.grad is None for p in decoder.parameters())

    def test_the_penalty_is_the_mean_of_the_squares(self):
        ebm = linear_ebm(num_steps=2)
        x, start = normal(5, 3), normal(5, 2)
        terms = ebm(x, start, key=key(8))
        squares = ebm.energy(x).square().mean() + ebm.energy(terms.samples).square().mean()
        expected = terms.energy_data - terms.energy_samples + 0.1 * squares
        torch.testing.assert_close(terms.loss, expected)


class TestFlowBackboneEBM:
    def test_without_a_correction_latents_are_normal(self):
        torch.manual_seed(0)
        flow = ready(CouplingFlow(2, num_layers=4, hidden_widths=(8,)))
        ebm = FlowBackboneEBM(flow, Constant(), kernel=ACCURATE, num_steps=3)
        start = torch.full((5000, 2), 2.0, dtype=torch.float64)
        z = ACCURATE(ebm.chain_energy).sample(start, 15, key=key(1))
        assert_means(z, torch.zeros(2))
        assert_covariance(z, torch.eye(2))
        assert_means(z**4, torch.full((2,), 3.0))
        x = ebm.sample(5000, key=key(2))
        assert_covariance(ebm.encode(x), torch.eye(2))

    def test_a_gaussian_corrected_by_a_quadratic(self):
        """N(b, s²) exp(−½λ(x − c)²), with the precision 1/s² + λ."""
        mean, std = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 2.0])
        weights, centre = torch.tensor([3.0, 0.25]), torch.tensor([0.0, 1.0])
        flow = Flow(Linear(mean, std), [2])
        ebm = FlowBackboneEBM(flow, Quadratic(weights, centre), kernel=ACCURATE, num_steps=20)
        x = ebm.sample(20_000, key=key(3))
        precision = 1 / std**2 + weights
        expected = (mean / std**2 + weights * centre) / precision
        assert_means(x, expected)
        assert_means((x - expected) ** 2, 1 / precision)

    @pytest.mark.parametrize(
        "flow",
        [
            lambda: CouplingFlow(3, hidden_widths=(8,)),
            lambda: Glow((1, 4, 4), num_levels=2, num_steps=2, hidden_channels=4),
        ],
        ids=["vectors", "images"],
    )
    def test_chains_have_the_energy_of_transport(self, flow):
        """E − log q of the data, with the Jacobian of the flow: it cancels."""
        flow = ready(flow(), 0.1)
        ebm = FlowBackboneEBM(flow, nn.Sequential(nn.Flatten(), nn.LazyLinear(1), nn.Flatten(0)))
        energy = TransportedEnergy(TiltedEBM(flow, ebm.energy).chain_energy, flow.transform.inverse)
        z = randn(6, *flow.latent_shape)
        ebm.energy.double()
        torch.testing.assert_close(ebm.chain_energy(z), energy(z))
        torch.testing.assert_close(ebm.encode(ebm.decode(z)), z)

    @pytest.mark.slow
    def test_chains_of_latents_hop_between_modes_where_those_of_data_do_not(self):
        """f = log p − log q makes the density that of eight Gaussian spots, whatever the flow.

        All chains start on one spot and make the same number of leapfrog steps. Hops in 39
        transitions, measured: 0.07 in the data's space and 4 in the flow's.
        """
        density = load_density("eight_gaussians")
        torch.manual_seed(0)
        flow = SplineFlow(2, num_layers=4, hidden_widths=(32, 32))
        optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
        for step in range(300):
            loss = -flow.log_prob(density.sample(256, key=key(step))).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

        class Correction(nn.Module):
            def forward(self, x):
                return flow.log_prob(x) - density.log_prob(x)

        ebm = FlowBackboneEBM(flow, Correction())
        kernel = partial(HMC, num_leapfrog=5)
        of_data = kernel(lambda x: -density.log_prob(x), 0.1)
        of_latents = kernel(ebm.chain_energy, 0.2)
        centres = density.centres.float()

        def run(sampler, start):
            path = sampler.sample(start, 40, key=key(1000), return_trajectory=True)
            x = path if sampler is of_data else ebm.decode(path.flatten(0, 1)).view_as(path)
            spots = (x[..., None, :] - centres).square().sum(-1).argmin(-1)
            hops = (spots[1:] != spots[:-1]).sum(0).double().mean()
            return hops, spots[-1].bincount(minlength=8) / len(start)

        start = centres[:1] + density.std * normal(200, 2)
        hops_of_data, shares_of_data = run(of_data, start)
        hops_of_latents, shares_of_latents = run(of_latents, ebm.encode(start))
        assert hops_of_latents > 20 * hops_of_data
        assert shares_of_data[0] > 0.9
        assert shares_of_latents.min() > 0.05

        # Exact samples of the target remain ones.
        start = density.sample(2000, key=key(1001))
        x = ebm.decode(of_latents.sample(ebm.encode(start), 5, key=key(1002)))
        assert_means(x, torch.zeros(2))
        assert_means(x.square(), centres.square().mean(0) + density.std**2)
        assert_means((x[:, None] - centres).square().sum(2).amin(1), 2 * density.std**2)


class TestTiltedEBM:
    def test_the_product_of_two_gaussians(self):
        mean, std = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 2.0])
        weights, centre = torch.tensor([3.0, 0.25]), torch.tensor([0.0, 1.0])
        kernel = partial(HMC, step_size=0.3, num_leapfrog=6)
        flow = Flow(Linear(mean, std), [2])
        ebm = TiltedEBM(flow, Quadratic(weights, centre), kernel=kernel, num_steps=20)
        precision = 1 / std**2 + weights
        expected = (mean / std**2 + weights * centre) / precision
        product = torch.distributions.Normal(expected, precision**-0.5)
        x = ebm.sample(20_000, key=key(1))
        assert_means(x, expected)
        assert_means((x - expected) ** 2, 1 / precision)
        # Up to log Z, the density of two means that differ by c − b.
        parts = torch.distributions.Normal(mean, (std**2 + 1 / weights).sqrt())
        log_z = (parts.log_prob(centre) + 0.5 * torch.log(2 * torch.pi / weights)).sum()
        torch.testing.assert_close(-ebm.chain_energy(x) - log_z, product.log_prob(x).sum(1))

    def test_the_gradient_is_that_of_the_likelihood(self):
        """½(x² − E x²) for each λ (3.5)."""
        std, weights = torch.tensor([0.5, 2.0]), torch.tensor([3.0, 0.25])
        flow = Flow(Linear(torch.zeros(2), std), [2])
        kernel = partial(HMC, step_size=0.3, num_leapfrog=6)
        ebm = TiltedEBM(flow, Quadratic(weights), kernel=kernel, num_steps=20, energy_penalty=0.0)
        x, num = torch.tensor([[1.0, -2.0]]), 50_000
        ebm(x, ebm.start(num, key=key(2)), key=key(3)).loss.backward()
        variance = 1 / (1 / std**2 + weights)
        error = variance / (2 * num) ** 0.5
        assert ((ebm.energy.weights.grad - 0.5 * (x[0] ** 2 - variance)).abs() < 4 * error).all()


def models():
    flow = CouplingFlow(2, num_layers=2, hidden_widths=(8,))
    options = {"num_steps": 4}
    return {
        "LatentEBM": LatentEBM(nn.Linear(2, 2), MLPEnergy(2), (2,), **options),
        "FlowBackboneEBM": FlowBackboneEBM(flow, MLPEnergy(2), **options),
        "TiltedEBM": TiltedEBM(flow, MLPEnergy(2), **options),
    }


@pytest.mark.parametrize("name", models())
def test_processes_run_the_parts_of_one_run(name):
    torch.manual_seed(0)
    ebm = models()[name]
    whole = ebm.sample(5, key=key(1))
    parts = ebm.sample(2, key=key(1)), ebm.sample(3, key=key(1), first=2)
    torch.testing.assert_close(torch.cat(parts), whole)
    start = ebm.start(5, key=key(2))
    samples = ebm(whole, start, key=key(3)).samples
    rest = ebm(whole, start[2:], key=key(3), first=2).samples
    torch.testing.assert_close(rest, samples[2:])
    longer = ebm.sample(5, key=key(1), num_steps=6)
    assert not torch.allclose(longer, whole)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="LatentEBM: num_steps is -1"):
        LatentEBM(nn.Linear(2, 2), MLPEnergy(2), (2,), num_steps=-1)
    with pytest.raises(ValueError, match=r"FlowBackboneEBM: the flow's base .* is 'logistic'"):
        FlowBackboneEBM(NICE(2), MLPEnergy(2))
    with pytest.raises(ValueError, match="FlowBackboneEBM: the flow has a context of size 3"):
        FlowBackboneEBM(CouplingFlow(2, context_size=3), MLPEnergy(2))
    with pytest.raises(ValueError, match="TiltedEBM: the flow has a context of size 3"):
        TiltedEBM(CouplingFlow(2, context_size=3), MLPEnergy(2))
