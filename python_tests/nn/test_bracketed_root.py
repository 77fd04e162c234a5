"""Roots within brackets, where Newton's method alone fails, and their derivatives."""

import pytest
import torch

from gencore.nn.bracketed_root import bracketed_root, newton_steps

FUNCTIONS = {
    # Newton's method runs away from every start but close ones.
    "arctangent": lambda a: (torch.atan(20 * a), 20 / (1 + (20 * a) ** 2)),
    # A triple root, where it is slow.
    "cube": lambda a: (a**3, 3 * a**2),
    # Flat to rounding but near the root.
    "step": lambda a: (torch.tanh(200 * a), 200 * (1 - torch.tanh(200 * a) ** 2)),
    "line": lambda a: (a, torch.ones_like(a)),
    "steep": lambda a: (torch.expm1(30 * a), 30 * torch.exp(30 * a)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_hard_functions(name, dtype):
    root = torch.linspace(-0.9, 0.9, 41, dtype=dtype)
    start, high = torch.full_like(root, 0.95), torch.full_like(root, 2.0)

    def shifted(a):
        return FUNCTIONS[name](a - root)

    found = bracketed_root(shifted, start, -high, high)
    torch.testing.assert_close(found, root, rtol=0, atol=8 * torch.finfo(dtype).eps)


def test_a_coarse_function_ends_the_search_at_its_precision():
    calls = []

    def function(a):
        calls.append(1)
        return ((a - 0.3) * 1000).round() / 1000, torch.ones_like(a)

    one = torch.ones(5, dtype=torch.float64)
    found = bracketed_root(function, one, -one, one, precision=1e-3)
    assert (found - 0.3).abs().max() < 2e-3
    assert len(calls) < 5


def test_the_start_is_left_alone():
    start = torch.zeros(3)
    found = bracketed_root(FUNCTIONS["line"], start, start - 1, start + 1)
    assert torch.equal(found, start)
    assert found.data_ptr() != start.data_ptr()


def test_three_derivatives_of_the_implicit_function():
    """Of the root of a³ = y: y^(1/3)."""
    y = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    root = y.detach() ** (1 / 3)
    value = newton_steps(lambda a: (a**3 - y, 3 * a**2), root)
    for expected in (2 ** (-2 / 3) / 3, -2 * 2 ** (-5 / 3) / 9, 10 * 2 ** (-8 / 3) / 27):
        (value,) = torch.autograd.grad(value, y, create_graph=True)
        assert value.item() == pytest.approx(expected)
