"""The squared norm of a code's Jacobian."""

import math

import pytest
import torch
from torch import nn

from gencore.objectives import contraction_penalty


def test_of_a_sigmoid_layer_in_closed_form() -> None:
    """Σ_j (h_j (1 − h_j))² ‖W_j‖² (Rifai et al. 2011)."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(5, 4), nn.Sigmoid()).double()
    x = torch.randn(7, 5, dtype=torch.float64)
    h = encoder(x)
    expected = (h * (1 - h)).square() @ encoder[0].weight.square().sum(1)
    torch.testing.assert_close(contraction_penalty(encoder, x), expected)


def test_the_estimate_is_unbiased() -> None:
    torch.manual_seed(1)
    matrix, num = torch.randn(3, 6, dtype=torch.float64), 40_000
    x = torch.zeros(num, 6, dtype=torch.float64)
    found = contraction_penalty(
        lambda x: x @ matrix.T, x, num_probes=2, generator=torch.Generator().manual_seed(0)
    )
    # vᵀ A v of v ~ N(0, I), with A = M Mᵀ, has the mean tr A and the variance 2 tr A².
    gram = matrix @ matrix.T
    error = math.sqrt(2 * gram.square().sum().item() / (2 * num))
    assert abs(found.mean().item() - gram.trace().item()) < 4 * error


def test_it_trains_an_encoder() -> None:
    weight = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda w, x: contraction_penalty(lambda x: (x @ w.T).tanh(), x), (weight, x)
    )


def test_rows_are_those_of_the_whole_batch() -> None:
    x, key = torch.randn(5, 4), torch.tensor([3, 4])
    whole = contraction_penalty(torch.tanh, x, num_probes=3, key=key)
    part = contraction_penalty(torch.tanh, x[2:], num_probes=3, key=key, first=2)
    assert torch.equal(whole[2:], part)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="num_probes is 0"):
        contraction_penalty(torch.tanh, torch.zeros(2, 3), num_probes=0)
    bias = torch.zeros(3, requires_grad=True)
    with pytest.raises(ValueError, match="do not depend on x"):
        contraction_penalty(lambda x: bias.expand(len(x), 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="do not depend on x"):
        contraction_penalty(lambda x: torch.zeros(2, 3), torch.zeros(2, 3))
