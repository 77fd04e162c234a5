"""Transitions of states by noise."""

import pytest
import torch

from gencore.nn import StateTransition


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("bounded", [True, False])
def test_the_form_of_a_transition(residual, bounded):
    """Without hidden layers: A s + B ξ + M m + b, in that order of columns, around it the rest."""
    transition = StateTransition(3, 2, (), code_size=4, residual=residual, bounded=bounded).double()
    state, noise, code = (torch.randn(5, size).double() for size in (3, 2, 4))
    a, b, m = transition.network.last.weight.split([3, 2, 4], 1)
    expected = state @ a.T + noise @ b.T + code @ m.T + transition.network.last.bias
    expected = state + expected if residual else expected
    expected = expected.tanh() if bounded else expected
    torch.testing.assert_close(transition(state, noise, code), expected)


def test_unrolling_is_one_step_after_another():
    transition = StateTransition(3, 2, code_size=1)
    start, noise, code = torch.randn(4, 3), torch.randn(4, 5, 2), torch.randn(4, 1)
    states, state = transition.unroll(start, noise, code), start
    for t in range(5):
        state = transition(state, noise[:, t], code)
        torch.testing.assert_close(states[:, t], state)


def test_no_frames_have_no_states():
    assert StateTransition(3, 2).unroll(torch.zeros(4, 3), torch.zeros(4, 0, 2)).shape == (4, 0, 3)


def test_noise_matters_from_the_start():
    """Latents could not be inferred otherwise."""
    transition, noise = StateTransition(3, 2), torch.zeros(1, 4, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(transition.unroll(torch.zeros(1, 3), noise).sum(), noise)
    assert (grad.abs().sum(2) > 0).all()


def test_bounded_states_stay_bounded():
    transition = StateTransition(3, 2)
    with torch.no_grad():
        transition.network.last.bias.fill_(5.0)
        states = transition.unroll(torch.full((1, 3), 9.0), torch.randn(1, 300, 2))
    assert states.abs().max() <= 1


@pytest.mark.parametrize(
    ("start", "noise"),
    [((4, 2), (4, 5, 2)), ((4, 3), (4, 5, 3)), ((4, 3), (3, 5, 2)), ((4, 3), (4, 2))],
)
def test_shapes_that_do_not_fit_are_told(start, noise):
    with pytest.raises(ValueError, match="StateTransition: states have shape"):
        StateTransition(3, 2).unroll(torch.zeros(start), torch.zeros(noise))


def test_sizes_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match="noise_size is 0"):
        StateTransition(3, 0)
    with pytest.raises(ValueError, match="context"):
        StateTransition(3, 2, code_size=1)(torch.zeros(4, 3), torch.zeros(4, 2))
