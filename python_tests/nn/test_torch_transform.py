"""Invertible layers as transforms of torch.distributions."""

import copy
import pickle

import pytest
import torch
from testing.flow_testing import jacobian_log_det, randn, redraw
from torch import nn
from torch.distributions import (
    AffineTransform,
    ComposeTransform,
    Independent,
    Normal,
    TransformedDistribution,
)

from gencore.models import Glow
from gencore.nn import AffineCoupling, MaskedAutoregressive, Permutation, Squeeze, TorchTransform


def autoregressive(context_size: int = 0) -> MaskedAutoregressive:
    layer = MaskedAutoregressive(3, (8,), context_size=context_size).double()
    redraw(layer, 0.5, seed=0)
    return layer


class Counted(MaskedAutoregressive):
    """A layer that counts its evaluations in either direction."""

    num_calls = 0

    def forward(self, x, context=None):
        self.num_calls += 1
        return super().forward(x, context)

    def inverse(self, z, context=None):
        self.num_calls += 1
        return super().inverse(z, context)


def test_it_is_a_transform_of_torch():
    t = TorchTransform(autoregressive(), [3])
    assert t.inv.inv is t
    assert t.bijective
    assert (t.domain.event_dim, t.codomain.event_dim, t.event_dim) == (1, 1, 1)
    x = randn(5, 4, 3)
    z = t(x)
    torch.testing.assert_close(t.inv(z), x)
    rows = x.flatten(0, 1)
    expected = jacobian_log_det(t, rows)
    torch.testing.assert_close(t.log_abs_det_jacobian(x, z).flatten(), expected)
    assert t(x[0, 0]).shape == (3,)
    assert t.log_abs_det_jacobian(x[0, 0], z[0, 0]).shape == ()
    assert repr(t) == "TorchTransform(MaskedAutoregressive, event_shape=[3])"


def test_it_is_composed_with_those_of_torch():
    t = TorchTransform(autoregressive(), [3])
    both = ComposeTransform([t, AffineTransform(1.0, 2.0, event_dim=1)])
    x = randn(5, 3)
    torch.testing.assert_close(both.inv(both(x)), x)
    torch.testing.assert_close(both.log_abs_det_jacobian(x, both(x)), jacobian_log_det(both, x))


def test_contexts_are_broadcast_with_data():
    layer, context = autoregressive(context_size=2), randn(4, 2)
    t, x = TorchTransform(layer, [3], context), randn(5, 1, 3)
    z = t(x)
    assert z.shape == t.forward_shape(x.shape) == (5, 4, 3)
    for i in range(4):
        expected, log_det = layer(x[:, 0], context[i].expand(5, 2))
        torch.testing.assert_close(z[:, i], expected)
        torch.testing.assert_close(t.log_abs_det_jacobian(x, z)[:, i], log_det)
    normal = Independent(Normal(torch.zeros(3).double(), torch.ones(3).double()), 1)
    density = TransformedDistribution(normal, [t.inv])
    assert (density.batch_shape, density.event_shape) == ((4,), (3,))
    assert density.expand([7, 4]).sample().shape == (7, 4, 3)


def test_events_change_their_shape():
    t = TorchTransform(Squeeze(), [1, 4, 4], output_shape=[4, 2, 2])
    assert t(randn(5, 6, 1, 4, 4)).shape == (5, 6, 4, 2, 2)
    assert t.inverse_shape(torch.Size([5, 4, 2, 2])) == (5, 1, 4, 4)
    normal = Independent(Normal(torch.zeros(4, 2, 2), torch.ones(4, 2, 2)), 3)
    assert TransformedDistribution(normal, [t.inv]).sample((5,)).shape == (5, 1, 4, 4)


def test_contexts_of_several_dimensions():
    flow = Glow(
        (1, 4, 4), num_levels=1, num_steps=1, hidden_channels=4, context_size=(2, 4, 4)
    ).double().eval()  # fmt: skip
    redraw(flow, 0.1, seed=0)
    density, x = flow(randn(3, 2, 4, 4)), randn(5, 3, 1, 4, 4, seed=1)
    z = density.transform(x)
    assert z.shape == (5, 3, 16)
    torch.testing.assert_close(z[2], flow.transform(x[2], density.context)[0])
    same = TransformedDistribution(density.base, [density.transform.inv])
    torch.testing.assert_close(same.log_prob(x), density.log_prob(x))


def test_a_cache_spares_the_way_back_and_the_jacobian():
    layer = Counted(3, (8,)).double()
    redraw(layer, 0.5, seed=0)
    plain = TorchTransform(layer, [3])
    normal = Independent(Normal(torch.zeros(3).double(), torch.ones(3).double()), 1)
    counts = []
    for t in (plain, plain.with_cache()):
        layer.num_calls = 0
        density = TransformedDistribution(normal, [t.inv])
        torch.manual_seed(0)
        x = density.rsample((5,))
        counts.append((layer.num_calls, density.log_prob(x), layer.num_calls))
    (_, expected, without), (first, found, with_cache) = counts
    torch.testing.assert_close(found, expected)
    assert (without, first, with_cache) == (3, 1, 1)
    cached = plain.with_cache()
    assert cached == plain
    assert cached.with_cache(1) is cached
    x, other = randn(5, 3), randn(5, 3, seed=1)
    cached(x)
    expected = jacobian_log_det(plain, other)  # not that of the last one
    torch.testing.assert_close(cached.log_abs_det_jacobian(other, plain(other)), expected)


def test_gradients_reach_weights_and_contexts():
    layer, context = autoregressive(context_size=2), randn(4, 2).requires_grad_()
    t = TorchTransform(layer, [3], context)
    t.log_abs_det_jacobian(randn(4, 3), None).sum().backward()
    assert context.grad.any()
    assert all(p.grad is not None for p in layer.parameters())


def test_it_can_be_copied_and_compared():
    layer = autoregressive()
    t, x = TorchTransform(layer, [3]), randn(5, 3)
    assert t == TorchTransform(layer, [3])
    assert t != TorchTransform(autoregressive(), [3])
    assert len({t, TorchTransform(layer, [3])}) == 1
    for other in (copy.deepcopy(t), pickle.loads(pickle.dumps(t))):
        assert torch.equal(other(x), t(x))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: TorchTransform(nn.Linear(3, 3), [3]), TypeError, "got a Linear, expected a Tran"),
        (lambda: TorchTransform(Permutation([0]), [1], [0.0]), TypeError, "context is a list"),
        (lambda: TorchTransform(Permutation([0, 1]), [2])(randn(5, 3)), ValueError, r"\[5, 3\]"),
        (
            lambda: TorchTransform(Permutation([0, 1]), [2])(torch.ones(())),
            ValueError,
            r"shape \[\]",
        ),
        (
            lambda: TorchTransform(AffineCoupling(nn.Linear(1, 2)), [2], randn(4, 2))(randn(5, 2)),
            ValueError,
            r"got the shape \[5, 2\]; .* with the batch \[4\] of contexts",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
