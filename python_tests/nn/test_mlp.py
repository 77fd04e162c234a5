"""The conditioner network: its shape, its start at zero, its context and bad input."""

import pytest
import torch

from gencore.nn import MLP


def test_the_last_layer_starts_at_zero():
    torch.manual_seed(0)
    x = torch.randn(5, 3)
    assert not MLP(3, [8, 8], 2)(x).any()
    assert MLP(3, [8, 8], 2, zero_last=False)(x).all()
    assert MLP(3, [], 2, zero_last=False)(x).shape == (5, 2)


def test_outputs_depend_on_the_context_and_on_their_own_row_only():
    torch.manual_seed(0)
    mlp = MLP(3, [8], 2, zero_last=False, context_size=2)
    x, context = torch.randn(4, 3, requires_grad=True), torch.randn(4, 2, requires_grad=True)
    grads = torch.autograd.grad(mlp(x, context)[1].sum(), (x, context))
    for grad in grads:
        assert grad[1].all()
        assert not grad[[0, 2, 3]].any()


def test_a_context_that_is_not_wanted_is_ignored():
    mlp, x = MLP(3, [8], 2, zero_last=False), torch.randn(4, 3)
    assert torch.equal(mlp(x, torch.randn(4, 7)), mlp(x))


@pytest.mark.parametrize("context", [None, torch.zeros(4, 3), torch.zeros(1, 2)])
def test_a_missing_or_wrong_context_is_named(context):
    with pytest.raises(ValueError, match=r"MLP: expected a context \[4, 2\]"):
        MLP(3, [8], 2, context_size=2)(torch.zeros(4, 3), context)


def test_bad_sizes_and_activations_are_named():
    with pytest.raises(ValueError, match="hidden_widths"):
        MLP(3, [0], 2)
    with pytest.raises(ValueError, match="'swish'; expected one of"):
        MLP(3, [4], 2, activation="swish")
