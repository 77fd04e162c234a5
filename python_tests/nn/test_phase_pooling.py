"""PhasePool and PhaseUnpool: what they call, a β that is learnt, errors."""

import math

import pytest
import torch

from gencore.nn import PhasePool, PhaseUnpool
from gencore.ops import phase_pool, phase_unpool


def maps(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def test_they_call_the_operators_with_their_settings():
    z = maps(2, 8, 7, 9)
    settings = {"padding": (1, 0), "circular": False}
    pooled = PhasePool((4, 3, 3), 2, beta=2.5, **settings)(z)
    expected = phase_pool(z, (4, 3, 3), 2, 2.5, **settings)
    assert all(torch.equal(a, b) for a, b in zip(pooled, expected, strict=True))
    settings |= {"output_size": (8, 7, 9), "mode": "drop"}
    magnitude, phase = pooled[0], 2 * pooled[1]
    expected = phase_unpool(magnitude, phase, (4, 3, 3), 2, **settings)
    assert torch.equal(PhaseUnpool((4, 3, 3), 2, **settings)(magnitude, phase), expected)


def test_a_number_is_no_parameter():
    assert not list(PhasePool(2).parameters())
    assert PhasePool(2, beta=0.0).beta == 0.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_learnt_beta_starts_where_it_was_told(dtype):
    pool = PhasePool(2, beta=3.0, learnable=True)
    z = maps(1, 2, 4, 4, dtype=dtype)
    magnitude, phase = pool(z)
    expected, _ = phase_pool(z, 2, beta=3.0)
    torch.testing.assert_close(magnitude, expected)
    (magnitude.sum() + phase.sum()).float().backward()
    assert pool.log_beta.grad.abs() > 0


def test_beta_is_learnt_and_stays_positive():
    """The pools' means are reached as β goes to zero, and never beyond."""
    z = maps(4, 4, 8, 8)
    mean = torch.nn.functional.avg_pool3d(z.unsqueeze(1), 2).squeeze(1)
    pool = PhasePool(2, beta=2.0, learnable=True)
    optimizer = torch.optim.SGD(pool.parameters(), 2.0)
    for _ in range(100):
        loss = (pool(z)[0] - mean).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert 0 < pool.beta.item() < 0.5


def test_it_shows_its_settings():
    text = repr(PhasePool((1, 4, 4), beta=2.0, learnable=True))
    assert text == (
        "PhasePool((1, 4, 4), None, beta=2, learnable=True, padding=(0, 0), circular=True)"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": -1.0}, "PhasePool: beta is -1.0, expected a finite number, not negative"),
        ({"beta": math.nan}, "PhasePool: beta is nan"),
        ({"beta": 0.0, "learnable": True}, "PhasePool: beta is 0.0, expected .* positive"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        PhasePool(2, **arguments)
