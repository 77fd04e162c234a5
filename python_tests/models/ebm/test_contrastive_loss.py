"""The loss of samples that others made: what it refuses, and what weights of samples mean."""

import math

import pytest
import torch
from testing.chain_testing import key, normal
from torch import nn

from gencore.models import FlowEBM, ShortRunEBM, contrastive_loss
from gencore.nn import MLPEnergy


class Energy(nn.Module):
    """A quadratic whose values a function changes."""

    def __init__(self, change=lambda value: value):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(1.5))
        self.change = change

    def forward(self, x):
        return self.change(0.5 * self.theta * x.flatten(1).square().sum(1))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda e: e[:, None], ValueError, r"has shape \[4, 1\] for x of shape \[4, 2\]; expected"),
        (lambda e: e.mean(), ValueError, r"has shape \[\] for x of shape \[4, 2\]; expected one"),
        (lambda e: e.sum().item(), TypeError, "is a float; expected a tensor"),
        (lambda e: e.int(), TypeError, r"is torch\.int32; expected real"),
    ],
)
def test_energies_that_are_not_one_a_row_are_refused(change, error, message):
    with pytest.raises(error, match=rf"^contrastive_loss: energy\(x\) {message}"):
        contrastive_loss(Energy(change), torch.ones(4, 2), torch.ones(4, 2))


def test_one_number_for_the_samples_alone_is_refused():
    energy = Energy(lambda e: e if len(e) == 4 else e.mean())
    with pytest.raises(ValueError, match=r"^contrastive_loss: energy\(samples\) has shape \[\]"):
        contrastive_loss(energy, torch.ones(4, 2), torch.ones(5, 2))


@pytest.mark.parametrize("options", [{}, {"generator_weight": 0.7, "energy_penalty": 0.3}])
def test_whole_weights_are_copies_of_the_samples(options):
    x, energy = normal(6, 2), MLPEnergy(2, (8,))
    latent = normal(3, 2, seed=1).requires_grad_()
    counts = [2, 0, 3]
    weighted = contrastive_loss(
        energy, x, 2 * latent, weights=torch.tensor(counts).float(), **options
    )
    copies = contrastive_loss(
        energy, x, (2 * latent).repeat_interleave(torch.tensor(counts), 0), **options
    )
    for term, other in zip(weighted[:3], copies[:3], strict=True):
        torch.testing.assert_close(term, other)
    wanted = [latent, *energy.parameters()] if options else list(energy.parameters())
    for gradients in zip(
        *(torch.autograd.grad(terms.loss, wanted) for terms in (weighted, copies)), strict=True
    ):
        torch.testing.assert_close(*gradients)
    assert len(weighted.samples) == 3


def test_importance_weights_make_samples_of_one_density_those_of_another():
    """Of N(0, 1) with weights ∝ N(0, ¼)/N(0, 1): E x² = ¼."""
    samples = normal(20_000, 1)
    weights = torch.exp(-0.5 * 3 * samples.square()).flatten()
    terms = contrastive_loss(Energy(), torch.zeros(1, 1), samples, weights=weights)
    assert terms.energy_samples.item() == pytest.approx(
        0.5 * 1.5 / 4, rel=5 * 2 / math.sqrt(20_000)
    )


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([1.0] * 4, TypeError, "weights is a list; expected a tensor"),
        (torch.ones(4, dtype=torch.int64), TypeError, r"weights is torch\.int64; expected real"),
        (torch.ones(4, 1), ValueError, r"weights has shape \[4, 1\]"),
        (torch.ones(3), ValueError, r"weights has shape \[3\]"),
        (torch.tensor([1.0, -1, 1, 1]), ValueError, "weights must be finite and not negative, got"),
        (
            torch.tensor([1.0, math.nan, 1, 1]),
            ValueError,
            "weights must be finite and not negative",
        ),
        (torch.zeros(4), ValueError, "weights are all 0; expected a positive one"),
    ],
)
def test_weights_are_checked(weights, error, message):
    with pytest.raises(error, match=f"^contrastive_loss: {message}"):
        contrastive_loss(Energy(), torch.ones(2, 2), torch.ones(4, 2), weights=weights)


@pytest.mark.parametrize("no_gradients", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    "make",
    [
        lambda energy: ShortRunEBM(energy, (2,), num_steps=3, generator_weight=1.0),
        lambda energy: FlowEBM(energy, (2,), num_steps=3, objective="ml+gen"),
        lambda energy: FlowEBM(energy, (2,), num_steps=3, objective="flow_mle"),
    ],
)
def test_an_objective_can_be_evaluated_without_gradients(make, no_gradients):
    ebm, x = make(MLPEnergy(2, (8,))), normal(5, 2)
    start = ebm.start(5, key=key(1))
    expected = ebm(x, start)
    with no_gradients():
        terms = ebm(x, start)
    assert not terms.loss.requires_grad
    for term, other in zip(terms, expected, strict=True):
        torch.testing.assert_close(term, other.detach(), rtol=1e-5, atol=1e-5)


class Fixed(nn.Module):
    """No parameters."""

    def __init__(self, **buffers):
        super().__init__()
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    def forward(self, x):
        return 0.5 * x.flatten(1).square().sum(1)


@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_an_energy_without_parameters_is_sampled(dtype):
    """In the dtype of its buffers, where it has some."""
    buffers = (
        {} if dtype is None else {"steps": torch.zeros(1).long(), "mean": torch.zeros(2).to(dtype)}
    )
    ebm = ShortRunEBM(Fixed(**buffers), (2,), num_steps=2)
    samples = ebm.sample(5, key=key(1))
    assert samples.dtype == (dtype or torch.float32)
    assert ebm.sample(5).shape == (5, 2)
    torch.testing.assert_close(samples[2:], ebm.sample(3, key=key(1), first=2))
