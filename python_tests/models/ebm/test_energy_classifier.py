"""A classifier of energies against Bayes' rule for Gaussians."""

import math

import pytest
import torch
from testing.flow_energies import points
from torch import nn

from gencore.models import EnergyClassifier
from gencore.nn import MLPEnergy

DIM = 3
MEANS = [[0.0, 1.0, -1.0], [0.5, 0.0, 0.0], [-1.0, 0.3, 2.0]]
VARIANCES = [[1.0, 0.5, 2.0], [0.3, 0.3, 0.3], [4.0, 1.0, 0.7]]


class Gaussian(nn.Module):
    """E = ½ Σ (x − μ)²/v − ½ ‖x‖²·relative, without its constant."""

    def __init__(self, mean, variance, relative=0.0):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        self.register_buffer("variance", torch.tensor(variance, dtype=torch.float64))
        self.relative = relative

    @property
    def normal(self):
        normal = torch.distributions.Normal(self.mean, self.variance.sqrt())
        return torch.distributions.Independent(normal, 1)

    @property
    def log_z(self):
        return 0.5 * (DIM * math.log(2 * math.pi) + self.variance.log().sum())

    def forward(self, x):
        own = 0.5 * ((x - self.mean).square() / self.variance).sum(1)
        return own - self.relative * 0.5 * x.square().sum(1)


def bayes(log_densities, priors):
    """p(k | x), by products and a sum."""
    joint = torch.stack(
        [prior * d.exp() for prior, d in zip(priors, log_densities, strict=True)], 1
    )
    return joint / joint.sum(1, keepdim=True)


def test_the_posterior_is_that_of_bayes_for_gaussians():
    classes = [Gaussian(*c) for c in zip(MEANS, VARIANCES, strict=True)]
    priors = [0.2, 0.5, 0.3]
    classifier = EnergyClassifier(
        classes, log_z=torch.stack([c.log_z for c in classes]), priors=priors
    )
    x = points(50, DIM)
    expected = bayes([c.normal.log_prob(x) for c in classes], priors)
    torch.testing.assert_close(classifier.log_posterior(x).exp(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(classifier(x).softmax(1), expected, rtol=1e-12, atol=1e-12)


def test_densities_relative_to_a_background():
    """p_k = exp(−E_k) q/Z_k with q = N(0, I), which the posterior does not ask for."""
    classes = [Gaussian(*c, relative=1.0) for c in zip(MEANS, VARIANCES, strict=True)]
    priors = [3.0, 1.0, 4.0, 2.0]  # of the background first, and of any sum
    log_z = [(c.log_z - 0.5 * DIM * math.log(2 * math.pi)).item() for c in classes]
    classifier = EnergyClassifier(classes, log_z=log_z, priors=priors, background=True)
    x = points(50, DIM)
    background = torch.distributions.Normal(0, 1).log_prob(x).sum(1)
    expected = bayes([background, *(c.normal.log_prob(x) for c in classes)], priors)
    assert classifier(x).shape == (50, 4)
    assert not classifier(x)[:, 0].any()
    torch.testing.assert_close(classifier.log_posterior(x).exp(), expected, rtol=1e-12, atol=1e-12)


def test_the_constants_are_learned_where_they_are_not_known():
    """By the cross-entropy of exact posteriors as labels: the biases end at log ρ − log Z."""
    classes = [Gaussian(*c) for c in zip(MEANS, VARIANCES, strict=True)]
    classifier = EnergyClassifier(classes)
    assert (classifier.bias == classifier.bias[0]).all()
    x = 2 * points(400, DIM)
    labels = bayes([c.normal.log_prob(x) for c in classes], [1.0] * 3)
    optimizer = torch.optim.LBFGS(classifier.parameters(), max_iter=200, tolerance_grad=1e-12)

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(classifier(x), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    found = classifier.bias.detach() - classifier.bias.detach()[0]
    log_z = torch.stack([c.log_z for c in classes])
    torch.testing.assert_close(found, log_z[0] - log_z, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_logits_have_the_dtype_of_the_energies(dtype):
    classifier = EnergyClassifier([MLPEnergy(2).to(dtype), MLPEnergy(2).to(dtype)], priors=[1, 3])
    logits = classifier(torch.zeros(3, 2, dtype=dtype))
    assert logits.dtype == classifier.bias.dtype == dtype
    torch.testing.assert_close(
        classifier.bias.detach().exp(), torch.tensor([0.25, 0.75], dtype=dtype)
    )


def test_bad_input_is_explained():
    with pytest.raises(ValueError, match="EnergyClassifier: energies is empty"):
        EnergyClassifier([])
    energies = [MLPEnergy(2), MLPEnergy(2)]
    with pytest.raises(ValueError, match=r"log_z has shape \[3\] for 2 energies without .* \[2\]"):
        EnergyClassifier(energies, log_z=[0.0] * 3)
    with pytest.raises(ValueError, match=r"priors has shape \[2\] for 2 energies with .* \[3\]"):
        EnergyClassifier(energies, priors=[0.5, 0.5], background=True)
    with pytest.raises(ValueError, match="expected positive numbers"):
        EnergyClassifier(energies, priors=[0.0, 1.0])
    with pytest.raises(ValueError, match=r"EnergyClassifier: energy\(x\) has shape \[3, 1\]"):
        EnergyClassifier([nn.Linear(2, 1)])(torch.zeros(3, 2))
