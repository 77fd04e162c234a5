"""What the tests of Markov chains share: energies with known moments, and a test of means."""

import math

import torch


def key(seed, device="cpu"):
    return torch.tensor([seed, 0], device=device)


def quadratic(precision=1.0):
    return lambda x: 0.5 * precision * x.flatten(1).square().sum(1)


def normal(*size, seed=0, device="cpu", dtype=torch.float32):
    """The same start on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, generator=generator, dtype=dtype).to(device)


def assert_means(values, expected, errors=4.0):
    """Means over independent chains `values` [N, ...], within so many of their standard errors."""
    values = values.double().cpu()
    expected = torch.as_tensor(expected, dtype=torch.float64)
    standard_error = values.std(0) / math.sqrt(len(values))
    deviation = (values.mean(0) - expected) / standard_error
    assert deviation.abs().max() < errors, f"{values.mean(0)} for {expected}: {deviation} errors"


def assert_variance(samples, expected):
    """Within five standard errors of the variance of independent Gaussian samples."""
    variance = samples.double().square().mean().item()
    assert abs(variance / expected - 1) < 5 * math.sqrt(2 / samples.numel())


class Counted:
    """An energy that counts its calls."""

    def __init__(self, energy):
        self.energy, self.calls = energy, 0

    def __call__(self, x):
        self.calls += 1
        return self.energy(x)
