"""Invertible layers: inverses, log-determinants, and what each promises besides."""

import copy
import math

import pytest
import torch
from testing.flow_testing import check_transform, randn, randomize, redraw
from torch import nn

from gencore.nn import (
    MLP,
    ActNorm,
    AffineCoupling,
    Compose,
    ConvConditioner,
    Inverse,
    InvertibleConv1x1,
    MultiScale,
    Permutation,
    ResidualConditioner,
    Reversible,
    Squeeze,
    Transform,
)
from gencore.ops import backend


def built(transform: Transform) -> Transform:
    """In float64, evaluating, with parameters that make it no identity."""
    transform = transform.double().eval()
    randomize(transform)
    return transform


def vector_coupling(features: int, *, swap: bool = False, **options: object) -> AffineCoupling:
    moved = features - features // 2 if swap else features // 2
    outputs = moved if options.get("additive") else 2 * moved
    network = MLP(features - moved, (8,), outputs)
    return AffineCoupling(network, swap=swap, **options)  # type: ignore[arg-type]


VECTORS = {
    "permutation": lambda: Permutation([2, 0, 4, 1, 3]),
    "actnorm": lambda: ActNorm(5),
    "conv1x1": lambda: InvertibleConv1x1(5),
    "coupling": lambda: vector_coupling(5),
    "swapped": lambda: vector_coupling(5, swap=True),
    "additive": lambda: vector_coupling(5, additive=True),
    "unbounded": lambda: vector_coupling(5, bound=None),
    "inverse": lambda: Inverse(vector_coupling(5)),
    "composed": lambda: Compose(vector_coupling(5), ActNorm(5), vector_coupling(5, swap=True)),
}

IMAGES = {
    "actnorm": lambda: ActNorm(3),
    "conv1x1": lambda: InvertibleConv1x1(3),
    "channels": lambda: AffineCoupling(ConvConditioner(2, 8, 2)),
    "channels swapped": lambda: AffineCoupling(ConvConditioner(1, 8, 4), swap=True),
    "checkerboard": lambda: AffineCoupling(ResidualConditioner(3, 8, 6), mask="checkerboard"),
    "checkerboard swapped": lambda: AffineCoupling(
        ConvConditioner(3, 8, 6), mask="checkerboard", swap=True
    ),
}


@pytest.mark.parametrize("name", ["native", "reference"])
@pytest.mark.parametrize("transform", VECTORS)
def test_vectors(transform, name):
    with backend(name):
        check_transform(built(VECTORS[transform]()), randn(4, 5))


@pytest.mark.parametrize("shape", [(2, 3, 3, 2), (1, 3, 1, 5)])
@pytest.mark.parametrize("transform", IMAGES)
def test_images(transform, shape):
    check_transform(built(IMAGES[transform]()), randn(*shape))


def test_squeeze():
    check_transform(Squeeze(), randn(2, 3, 4, 2))


def test_multiscale_joins_the_latents_of_all_levels():
    levels = [Compose(Squeeze(), ActNorm(4)), Compose(Squeeze(), ActNorm(8))]
    flow = built(MultiScale(levels, [(4, 2, 4), (8, 1, 2)]))
    x = randn(2, 1, 4, 8)
    check_transform(flow, x)
    assert flow(x)[0].shape == (2, 32)
    first = levels[0](x)[0]
    torch.testing.assert_close(flow(x)[0][:, :16], first[:, 2:].flatten(1))


@pytest.mark.parametrize("coupling", [ConvConditioner, ResidualConditioner])
def test_contexts_condition_each_row_by_itself(coupling):
    transform = built(AffineCoupling(coupling(2, 8, 2, context_size=4)))
    x, context = randn(3, 3, 2, 2), randn(3, 4, seed=1)
    check_transform(transform, x, context)
    other = transform(x, context.roll(1, 0))[0]
    assert not torch.allclose(other[:, 2:], transform(x, context)[0][:, 2:])


def test_networks_start_as_the_identity():
    x = randn(2, 4, 2, 2).float()
    for network in (ConvConditioner(2, 8, 4), ResidualConditioner(2, 8, 4)):
        z, log_det = AffineCoupling(network).eval()(x)
        torch.testing.assert_close(z, x)
        assert log_det.abs().max() == 0


def test_permutations():
    order = Permutation.random(6, torch.Generator().manual_seed(0)).order
    assert sorted(order.tolist()) == list(range(6))
    with pytest.raises(ValueError, match="not a permutation"):
        Permutation([0, 0, 2])


def test_compose_takes_transforms_only():
    with pytest.raises(TypeError, match="Compose: got a Linear"):
        Compose(nn.Linear(2, 2))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Compose, Reversible])
def test_stacks_are_sequences(kind):
    """Of the transforms themselves: slices share their weights."""
    layers = [vector_coupling(4, swap=i % 2 == 1).double() for i in range(5)]
    stack, x = kind(*layers), randn(3, 4)
    for layer in layers:
        randomize(layer)
    assert len(stack) == 5
    assert list(stack) == layers
    assert list(reversed(stack)) == layers[::-1]
    assert [stack[0], stack[-1], stack[2]] == [layers[0], layers[4], layers[2]]
    for part, expected in ((slice(1, 3), layers[1:3]), (slice(None, None, -2), layers[::-2])):
        assert type(stack[part]) is kind
        assert list(stack[part]) == expected
    front, back = stack[:2], stack[2:]
    z, log_det = front(x)
    rest = back(z)
    torch.testing.assert_close((rest[0], log_det + rest[1]), stack(x))
    assert len(stack[5:]) == 0
    with pytest.raises(IndexError):
        stack[5]
    with pytest.raises(TypeError):
        stack["first"]


def test_couplings_name_options_that_do_not_fit():
    with pytest.raises(ValueError, match="mask is 'rows'"):
        AffineCoupling(nn.Linear(1, 2), mask="rows")
    for bound in (0.0, -1.0, math.nan, 100.0):
        with pytest.raises(ValueError, match="AffineCoupling: bound is"):
            AffineCoupling(nn.Linear(1, 2), bound=bound)


def test_multiscale_names_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="1 levels and 2 shapes"):
        MultiScale([Squeeze()], [(4, 1, 1), (4, 1, 1)])
    with pytest.raises(ValueError, match="1 channels after a level"):
        MultiScale([Squeeze(), Squeeze()], [(1, 2, 2), (4, 1, 1)])
    with pytest.raises(ValueError, match=r"expected \[N, 4\]"):
        MultiScale([Squeeze()], [(4, 1, 1)]).inverse(torch.zeros(2, 5))


def test_multiscale_parts_an_odd_number_of_channels_as_couplings_do():
    levels = [
        Compose(Squeeze(), AffineCoupling(nn.Conv2d(6, 12, 1))),  # of 12 channels 6 leave
        Compose(Permutation.reverse(6), InvertibleConv1x1(6)),  # of 6 leave 3
        AffineCoupling(nn.Conv2d(2, 2, 1)),  # of 3 leaves the one that is moved
        Permutation.reverse(2),
    ]
    flow = MultiScale(levels, [(12, 2, 2), (6, 2, 2), (3, 2, 2), (2, 2, 2)]).double()
    redraw(flow, 0.3, seed=0)
    check_transform(flow, randn(3, 3, 4, 4))
    split = MultiScale([Permutation.reverse(5), Permutation.reverse(3)], [(5,), (3,)])
    assert split(torch.arange(5.0)[None])[0].tolist() == [[1, 0, 2, 3, 4]]


class TestActNorm:
    def test_the_first_batch_gets_mean_0_and_variance_1(self):
        x = 5 + 3 * randn(64, 3, 4, 4).float()
        layer = ActNorm(3)
        z, log_det = layer(x)
        torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(
            z.var((0, 2, 3), unbiased=False), torch.ones(3), atol=1e-5, rtol=0
        )
        expected = -16 * x.double().var((0, 2, 3), unbiased=False).sqrt().log().sum()
        torch.testing.assert_close(log_det.double(), expected.expand(64), atol=1e-4, rtol=0)
        # ... and the second batch does not
        second = layer(x + 1)[0].mean((0, 2, 3))
        assert (second - 1 / 3).abs().max() < 0.02

    def test_in_evaluation_nothing_is_initialised(self):
        layer, x = ActNorm(3).eval(), 5 + randn(8, 3).float()
        torch.testing.assert_close(layer(x)[0], x)
        assert not layer.is_initialized

    def test_constant_channels_stay_finite(self):
        for value in (0.0, 0.1, 1e6):
            x = torch.full((64, 2, 3, 3), value)
            x[:, 1].normal_(generator=torch.Generator().manual_seed(0))
            layer = ActNorm(2)
            z, log_det = layer(x)
            assert z.isfinite().all()
            assert log_det.isfinite().all()
            assert layer.log_scale[0] == 0
            assert z[:, 0].abs().max() < 1e-6 * max(value, 1)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200])
    def test_a_batch_that_is_not_finite_is_refused_and_is_not_the_first(self, bad):
        x = 3 * randn(16, 2)
        y = x.clone()
        y[3, 1] = bad
        layer = ActNorm(2).double()
        with pytest.raises(ValueError, match=r"ActNorm: the first batch.* channel 1 \(1 of 2"):
            layer(y)
        assert not layer.is_initialized
        assert not layer.log_scale.any()
        torch.testing.assert_close(layer(x)[0].var(0, unbiased=False), torch.ones(2).double())
        layer(y)  # later ones are data like others

    def test_its_state_survives_saving(self, tmp_path):
        layer, x = ActNorm(3), 5 + randn(8, 3).float()
        layer(x)
        torch.save(layer.state_dict(), tmp_path / "state.pt")
        loaded = ActNorm(3)
        loaded.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        torch.testing.assert_close(loaded(x + 7)[0], layer(x + 7)[0])

    def test_an_uninitialised_state_replaces_an_initialised_one(self):
        layer, x = ActNorm(3), 5 + randn(8, 3).float()
        fresh = copy.deepcopy(layer.state_dict())
        layer(x)
        layer.load_state_dict(fresh)
        assert layer(x + 7)[0].mean().abs() < 1e-5

    def test_a_network_whose_first_batch_was_refused_halfway_takes_the_next_one(self):
        network = ConvConditioner(2, 8, 4, context_size=1)
        x = randn(4, 2, 4, 4).float()
        with pytest.raises(ValueError, match="ActNorm: the first batch"):
            network(x, torch.full((4, 1), math.nan))
        network(x, torch.ones(4, 1))
        assert network.middle.norm.is_initialized
        assert network.middle.norm.log_scale.any()


class TestInvertibleConv1x1:
    def test_it_starts_as_a_rotation(self):
        layer = InvertibleConv1x1(6, torch.Generator().manual_seed(0)).double()
        weight = layer(torch.eye(6, dtype=torch.float64))[0].T.detach()
        torch.testing.assert_close(weight @ weight.T, torch.eye(6).double(), atol=1e-6, rtol=0)

    def test_the_float32_inverse_is_accurate_where_the_matrix_is_ill_conditioned(self):
        layer = InvertibleConv1x1(48, torch.Generator().manual_seed(0))
        with torch.no_grad():
            layer.log_diagonal.copy_(torch.linspace(-1, 1, 48))
        x = randn(8, 48, 4, 4).float()
        z = layer(x)[0]
        error = (layer.inverse(z)[0] - x).abs().max()
        weight = layer.double()(torch.eye(48, dtype=torch.float64))[0].T
        # what rounding the output alone would do, times the length of a sum
        allowed = torch.linalg.cond(weight) * torch.finfo(torch.float32).eps * x.abs().max()
        assert error < allowed
        assert allowed < 1


@pytest.mark.parametrize("bound", [2.0, None])
def test_thirty_two_couplings_on_large_inputs(bound):
    torch.manual_seed(0)
    layers = []
    for i in range(32):
        network = MLP(4, (64, 64), 8, zero_last=False)
        layers.append(AffineCoupling(network, swap=bool(i % 2), bound=bound))
    flow = Compose(*layers)
    x = 10 * randn(64, 8).float()
    results = [*flow(10 * x), *flow.inverse(10 * x)]
    finite = all(bool(result.isfinite().all()) for result in results)
    # The plain exponential overflows in the same place.
    assert finite == (bound is not None)


def test_an_empty_batch_is_not_the_first():
    layer = ActNorm(2)
    layer(torch.zeros(0, 2))
    assert not layer.is_initialized
    z = layer(torch.tensor([[0.0, 1.0], [4.0, 3.0]]))[0]
    torch.testing.assert_close(z.mean(0), torch.zeros(2))
    assert layer.is_initialized


@pytest.mark.parametrize(
    "layer", [lambda: ActNorm(3), lambda: InvertibleConv1x1(3), lambda: Permutation([2, 0, 1])]
)
@pytest.mark.parametrize("shape", [(5, 2), (5, 4), (5, 1), (3,), (2, 4, 3, 3)])
def test_data_of_another_number_of_channels(layer, shape):
    transform = layer()
    with pytest.raises(ValueError, match="expected"):
        transform(torch.ones(shape))
    with pytest.raises(ValueError, match="expected"):
        transform.inverse(torch.ones(shape))


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 4, 4), (2, 1, 16, 16)])
def test_data_that_do_not_fit_the_scales(shape):
    flow = MultiScale([Squeeze(), Squeeze()], [(4, 4, 4), (8, 2, 2)])
    with pytest.raises(ValueError, match=r"MultiScale: .* expected \[N, 4, 4, 4\]"):
        flow(torch.zeros(shape))


@pytest.mark.parametrize("make", [ActNorm, InvertibleConv1x1, Squeeze])
def test_sizes_below_one(make):
    with pytest.raises(ValueError, match="expected at least 1"):
        make(0)


def test_only_transforms_are_turned_round():
    with pytest.raises(TypeError, match="Inverse: got a Linear"):
        Inverse(torch.nn.Linear(1, 1))
