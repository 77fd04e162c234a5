"""Flows of monotonic networks as densities, and what one layer of them can do."""

import math

import pytest
import torch
from testing.flow_testing import check_transform, grid_integral, randn, redraw

from gencore.models import MonotonicFlow

SMALL = {"hidden_widths": (8,), "integrand_widths": (6,), "embedding_size": 2, "num_nodes": 49}


def flow(features: int = 2, scale: float = 0.4, **options) -> MonotonicFlow:
    torch.manual_seed(0)
    made = MonotonicFlow(features, **{"num_layers": 2, **SMALL, **options}).double()
    redraw(made, scale, seed=0)
    return made


@pytest.mark.parametrize("base", ["normal", "logistic"])
def test_the_density_integrates_to_one(base):
    context = torch.full((1, 1), 0.7).double()
    reach = 12 if base == "normal" else 60
    assert grid_integral(flow(context_size=1, base=base), reach, 161, context) == pytest.approx(
        1, abs=2e-3
    )


@pytest.mark.parametrize("features", [1, 2, 4])
def test_it_inverts_with_the_jacobians_log_det(features):
    context = randn(4, 3, seed=1)
    model = flow(features, context_size=3)
    check_transform(model.transform, randn(4, features), context, tolerance=1e-7)


def test_a_sample_has_the_density_of_its_latents():
    model, key = flow(3), torch.tensor([1, 0])
    x, log_prob = model.sample_and_log_prob(6, key=key)
    torch.testing.assert_close(model.log_prob(x), log_prob, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(model.sample(6, key=key), x)
    x.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_one_layer_learns_two_modes_that_no_affine_layer_has():
    """x₂ given x₁ is a mixture; one MAF layer can at best give it a Gaussian of its variance."""
    std, num = 0.3, 256
    generator = torch.Generator().manual_seed(0)

    def draw(num: int) -> torch.Tensor:
        first, noise = torch.randn(2, num, generator=generator)
        signs = 2.0 * torch.randint(2, (num,), generator=generator) - 1
        return torch.stack([first, 0.5 * first + signs + std * noise], 1)

    torch.manual_seed(0)
    model = MonotonicFlow(
        2, num_layers=1, hidden_widths=(32,), integrand_widths=(24, 24), num_nodes=25
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    for _ in range(200):
        loss = -model.log_prob(draw(num)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        nll = -model.log_prob(draw(10_000))
    grid = torch.linspace(-4, 4, 4001).double()
    mode = torch.distributions.Normal(torch.tensor([-1.0, 1.0]).double(), std)
    log_mixture = mode.log_prob(grid[:, None]).logsumexp(1) - math.log(2)
    normal = 0.5 * math.log(2 * math.pi * math.e)
    entropy = normal - (log_mixture.exp() * log_mixture).sum().item() * 8 / 4000
    affine = 2 * normal + 0.5 * math.log(1 + std**2)
    error = 4 * nll.std().item() / math.sqrt(len(nll))
    assert affine - entropy > 0.5
    assert entropy - error < nll.mean().item() < entropy + error + 0.06


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="MonotonicFlow: num_layers is 0"):
        MonotonicFlow(2, num_layers=0)
    with pytest.raises(ValueError, match="MonotonicFlow: features is 0"):
        MonotonicFlow(0)
    with pytest.raises(ValueError, match=r"expected \[N, 2\]"):
        MonotonicFlow(2).log_prob(torch.zeros(5, 3))
