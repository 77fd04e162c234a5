"""What noise in the chains does to training (Yan 2022, §2.4.7), where it has a closed form."""

import pytest
import torch
from torch import nn

from gencore.models import DivergenceError, ShortRunEBM, check_divergence

NUM_STEPS, STEP, NOISE, SPREAD = 40, 0.1, 0.1, 0.05


class Quadratic(nn.Module):
    """E = θ‖x‖²/2, for which a step multiplies by a = 1 − hθ."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def forward(self, x):
        return 0.5 * self.theta * x.flatten(1).square().sum(1)


def train(noise_scale, learning_rate):
    """θ after gradient descent on data of standard deviation 0.05, half of a step's noise."""
    generator = torch.Generator().manual_seed(0)
    x = SPREAD * torch.randn(1000, 1, dtype=torch.float64, generator=generator)
    x *= SPREAD / x.square().mean().sqrt()
    ebm = ShortRunEBM(
        Quadratic(), (1,), num_steps=NUM_STEPS, step_size=STEP, noise_scale=noise_scale
    )
    optimizer = torch.optim.Adam(ebm.parameters(), lr=learning_rate)
    for iteration in range(120):
        start = torch.randn(500, 1, dtype=torch.float64, generator=generator)
        terms = ebm(x, start, key=torch.tensor([iteration, 0]))
        check_divergence(*terms[:3], max_gap=10.0)
        optimizer.zero_grad()
        terms.loss.backward()
        optimizer.step()
    return ebm.energy.theta.item()


def test_noise_free_training_is_stable_where_noisy_training_diverges():
    """Data closer together than a step's noise: no θ brings noisy samples, of variance s² at
    least, to it, so that θ grows until steps are longer than 2/θ and the chains explode. Without
    noise a fixed point exists, θ* = (1 − σ^(1/K))/h."""
    expected = (1 - SPREAD ** (1 / NUM_STEPS)) / STEP
    assert train(0.0, 0.02) == pytest.approx(expected, rel=0.03)
    with pytest.raises(DivergenceError):
        train(NOISE, 0.5)
