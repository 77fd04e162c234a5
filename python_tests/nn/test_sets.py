"""Layers of sets: who sees whom, closed forms, derivatives, and which functions they can be."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import conv2d, linear

from gencore.nn import (
    MLP,
    DeepSets,
    EquivariantConv2d,
    EquivariantConvDiscriminator,
    EquivariantLinear,
    EquivariantMLP,
    InvariantNetwork,
    MinibatchDiscrimination,
    MinibatchStdDev,
)


def of_vectors():
    return torch.randn(3, 5, 4, dtype=torch.float64)


def of_images():
    return torch.randn(2, 3, 2, 4, 4, dtype=torch.float64)


EQUIVARIANT = {
    "linear": (lambda: EquivariantLinear(4, 6), of_vectors),
    "conv": (lambda: EquivariantConv2d(2, 3, 3, padding=1), of_images),
    "strided": (
        lambda: EquivariantConv2d(2, 3, 4, stride=2, padding=1),
        of_images,
    ),
    "mlp": (lambda: EquivariantMLP(4, (6, 5), 2, activation="tanh"), of_vectors),
    "scores": (lambda: EquivariantMLP(4, (6,), activation="tanh"), of_vectors),
    "images": (lambda: EquivariantConvDiscriminator((2, 4, 4), widths=(2, 3)), of_images),
    "std dev": (MinibatchStdDev, of_vectors),
    "std dev of maps": (MinibatchStdDev, of_images),
    "discrimination": (
        lambda: MinibatchDiscrimination(4, num_kernels=3, kernel_size=2),
        of_vectors,
    ),
}
INVARIANT = {
    "mean": (lambda: InvariantNetwork(EquivariantMLP(4, (6,), 2)), of_vectors),
    "mean of images": (
        lambda: InvariantNetwork(EquivariantConvDiscriminator((2, 4, 4), widths=(2, 3))),
        of_images,
    ),
    "sum": (lambda: deep_sets("sum"), of_vectors),
    "mean of features": (lambda: deep_sets("mean"), of_vectors),
    "max": (lambda: deep_sets("max"), of_vectors),
}
ALL = EQUIVARIANT | INVARIANT


def deep_sets(pooling):
    inner, outer = MLP(4, (6,), 3, zero_last=False), MLP(3, (6,), 2, zero_last=False)
    return DeepSets(inner, outer, pooling=pooling)


def make(name):
    torch.manual_seed(0)
    network, draw = ALL[name]
    return network().double(), draw()


class TestSymmetry:
    @pytest.mark.parametrize("name", EQUIVARIANT)
    def test_outputs_are_permuted_as_the_members_are(self, name):
        network, x = make(name)
        order = torch.randperm(x.shape[1])
        torch.testing.assert_close(network(x[:, order]), network(x)[:, order], rtol=0, atol=1e-12)
        single = network.float()
        torch.testing.assert_close(
            single(x.float()[:, order]), single(x.float())[:, order], rtol=0, atol=1e-6
        )

    @pytest.mark.parametrize("name", INVARIANT)
    def test_functions_of_a_set_stay_as_they_are(self, name):
        network, x = make(name)
        order = torch.randperm(x.shape[1])
        torch.testing.assert_close(network(x[:, order]), network(x), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("name", ALL)
    def test_sets_do_not_see_each_other(self, name):
        network, x = make(name)
        slopes = torch.autograd.functional.jacobian(
            lambda x: network(x).reshape(len(x), -1).sum(1), x
        )
        sets = len(x)
        slopes = slopes.reshape(sets, sets, -1)
        others = ~torch.eye(sets, dtype=torch.bool)
        assert torch.equal(slopes[others], torch.zeros_like(slopes[others]))
        assert (slopes[~others] != 0).any(1).all()

    @pytest.mark.parametrize("name", ["linear", "conv", "scores", "images", "discrimination"])
    def test_members_see_each_other(self, name):
        network, x = make(name)
        (slope,) = torch.autograd.grad(network(x.requires_grad_())[:, 0].sum(), x)
        assert (slope.flatten(2) != 0).any(2).all()

    @pytest.mark.parametrize("name", ["linear", "conv", "strided", "std dev", "max"])
    def test_gradients(self, name):
        network, x = make(name)
        x = x[:1, :2]
        parameters = list(network.parameters())
        names = [key for key, _ in network.named_parameters()]

        def call(x, *values):
            return torch.func.functional_call(network, dict(zip(names, values, strict=True)), (x,))

        inputs = (x.requires_grad_(), *parameters)
        assert gradcheck(call, inputs)
        assert gradgradcheck(call, inputs)

    @pytest.mark.parametrize("name", ["mlp", "discrimination", "sum"])
    def test_gradients_by_the_members(self, name):
        network, x = make(name)
        x = x[:1]
        assert gradcheck(network, (x.requires_grad_(),))
        assert gradgradcheck(network, (x,))


class TestEquivariantLayers:
    def test_a_linear_one_is_the_formula(self):
        layer, x = make("linear")
        for n, b in ((0, 0), (2, 3)):
            mean = sum(x[n, c] for c in range(5)) / 5
            expected = layer.bias + (5 * layer.weight @ x[n, b] + layer.mean_weight @ mean) / 6
            torch.testing.assert_close(layer(x)[n, b], expected)

    def test_a_convolution_is_the_formula(self):
        layer, x = make("strided")
        bias = layer.bias[:, None, None]
        means = conv2d(x.mean(1), layer.mean_weight, stride=2, padding=1)
        for b in range(3):
            own = conv2d(x[:, b], layer.weight, stride=2, padding=1)
            torch.testing.assert_close(layer(x)[:, b], bias + (3 * own + means) / 4)

    def test_of_one_member_both_maps_count_the_same(self):
        layer, x = make("linear")
        expected = linear(x[:, :1], (layer.weight + layer.mean_weight) / 2, layer.bias)
        torch.testing.assert_close(layer(x[:, :1]), expected)
        layer, x = make("conv")
        kernel = (layer.weight + layer.mean_weight) / 2
        expected = conv2d(x[:, 0], kernel, layer.bias, padding=1)
        torch.testing.assert_close(layer(x[:, :1])[:, 0], expected)

    def test_without_the_mean_it_is_a_plain_layer(self):
        layer, x = make("conv")
        nn.init.zeros_(layer.mean_weight)
        expected = conv2d(x.flatten(0, 1), layer.weight * 3 / 4, layer.bias, padding=1)
        torch.testing.assert_close(layer(x).flatten(0, 1), expected)

    def test_it_starts_as_torch_s_layers(self):
        """Uniform within ±1/√fan-in, of which the standard deviation is 1/√(3·fan-in)."""
        layers = EquivariantLinear(300, 400), EquivariantConv2d(30, 50, 3)
        for layer, fan_in in zip(layers, (300, 270), strict=True):
            for weight in (layer.weight, layer.mean_weight):
                assert weight.abs().max() <= fan_in**-0.5
                assert weight.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.05)

    def test_input_that_does_not_fit(self):
        with pytest.raises(ValueError, match=r"EquivariantLinear: x has shape \[3, 4\]; expected"):
            EquivariantLinear(4, 2)(torch.zeros(3, 4))
        with pytest.raises(ValueError, match=r"expected \[N, B, 4\], with B of 1 or more"):
            EquivariantLinear(4, 2)(torch.zeros(3, 0, 4))
        with pytest.raises(ValueError, match=r"expected \[N, B, 2, H, W\]"):
            EquivariantConv2d(2, 2, 3)(torch.zeros(3, 2, 8, 8))
        with pytest.raises(ValueError, match="EquivariantLinear: out_features is 0"):
            EquivariantLinear(4, 0)
        with pytest.raises(ValueError, match="EquivariantConv2d: padding is -1"):
            EquivariantConv2d(4, 4, 3, padding=-1)
        with pytest.raises(ValueError, match="EquivariantMLP: activation is 'sine'"):
            EquivariantMLP(4, (3,), activation="sine")
        with pytest.raises(ValueError, match="EquivariantLinear: out_features is 0"):
            EquivariantMLP(4, (3,), 0)
        with pytest.raises(ValueError, match="EquivariantConvDiscriminator: images are 6x8"):
            EquivariantConvDiscriminator((1, 6, 8), widths=(2, 2, 2))


class TestAlternatives:
    def test_the_standard_deviation_is_one_more_feature(self):
        network, x = make("std dev of maps")
        y = network(x)
        assert torch.equal(y[:, :, :2], x)
        for n in range(2):
            expected = x[n].std(0, correction=0).mean()
            torch.testing.assert_close(y[n, :, 2], expected.expand(3, 4, 4))

    def test_equal_members_have_finite_gradients(self):
        x = torch.ones(2, 3, 4, requires_grad=True)
        MinibatchStdDev()(x).sum().backward()
        assert x.grad.isfinite().all()

    def test_members_of_two_processes_are_one_set(self, monkeypatch):
        """Values and two derivatives of the sum of both losses. The processes are threads here."""
        parts, lock = [None, None], threading.Barrier(2, timeout=30)
        mine, x = threading.local(), torch.randn(2, 6, 2, 3, 3, dtype=torch.float64)

        def all_reduce(value):
            parts[mine.rank] = value.clone()
            lock.wait()
            value.copy_(parts[0] + parts[1])
            lock.wait()

        def derivatives(network, x):
            x.requires_grad_()
            y = network(x)
            (slope,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
            (curvature,) = torch.autograd.grad(slope.square().sum(), x)
            return y, slope, curvature

        def on_rank(rank):
            mine.rank = rank
            network = MinibatchStdDev(over_processes=True)
            return derivatives(network, x[:, [slice(0, 3), slice(3, 6)][rank]].detach().clone())

        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_world_size", lambda: 2)
        monkeypatch.setattr(dist, "all_reduce", all_reduce)
        with ThreadPoolExecutor(2) as threads:
            found = list(threads.map(on_rank, range(2)))
        expected = derivatives(MinibatchStdDev(), x.clone())
        for one, two, whole in zip(*found, expected, strict=True):
            torch.testing.assert_close(torch.cat([one, two], 1), whole)

    def test_closeness_is_the_sum_over_pairs(self):
        network, x = make("discrimination")
        y = network(x)
        assert torch.equal(y[..., :4], x)
        for b, k in ((0, 0), (4, 2)):
            rows = x[1] @ network.weight[:, k]
            expected = sum((-(rows[b] - row).abs().sum()).exp() for row in rows)
            torch.testing.assert_close(y[1, b, 4 + k], expected)

    def test_deep_sets_pool_the_features_of_members(self):
        x = torch.randn(2, 5, 3)
        for pooling, expected in (("sum", x.sum(1)), ("mean", x.mean(1)), ("max", x.amax(1))):
            network = DeepSets(nn.Identity(), nn.Identity(), pooling=pooling)
            torch.testing.assert_close(network(x), expected)

    def test_input_that_does_not_fit(self):
        with pytest.raises(ValueError, match=r"MinibatchStdDev: x has shape \[3, 4\]; expected"):
            MinibatchStdDev()(torch.zeros(3, 4))
        with pytest.raises(ValueError, match=r"MinibatchDiscrimination: x has shape \[3, 2, 4\]"):
            MinibatchDiscrimination(3)(torch.zeros(3, 2, 4))
        with pytest.raises(ValueError, match="DeepSets: pooling is 'min'; expected one of max"):
            DeepSets(nn.Identity(), nn.Identity(), pooling="min")
        with pytest.raises(ValueError, match=r"DeepSets: x has shape \[3, 0, 4\]"):
            deep_sets("sum")(torch.zeros(3, 0, 4))


class Square(nn.Module):
    def forward(self, x):
        return x.square()


SIZE = 8


def draw_sets(num):
    """Sets of 8 numbers, of normal laws whose means and standard deviations vary."""
    return torch.randn(num, 1, 1) + (0.2 + 1.8 * torch.rand(num, 1, 1)) * torch.randn(num, SIZE, 1)


def fraction_unexplained(network, target, steps=500):
    """Of the variance of a function of sets, after training: 1 is the mean as the prediction."""
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 0.01)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
        optimizer.zero_grad()
        x = draw_sets(128)
        (network(x) - target(x)).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        x = draw_sets(5000)
        return ((network(x) - target(x)).square().mean() / target(x).var()).item()


TARGETS = {
    "std": lambda x: x.squeeze(2).std(1),
    "max": lambda x: x.squeeze(2).amax(1),
}


class TestUniversalApproximation:
    def test_hand_set_weights_are_the_variance(self):
        """x_b − ρ(x), its square, the mean: of 17 numbers whose mean is not 0."""
        torch.manual_seed(0)
        size = 17
        centre = EquivariantLinear(1, 1, bias=False).double()
        with torch.no_grad():
            centre.weight.fill_((size + 1) / size)
            centre.mean_weight.fill_(-(size + 1))
        network = InvariantNetwork(nn.Sequential(centre, Square()))
        x = 3 + torch.randn(5, size, 1, dtype=torch.float64)
        torch.testing.assert_close(network(x), x.var(1, correction=0), rtol=1e-12, atol=0)

    @pytest.mark.parametrize("name", TARGETS)
    def test_symmetric_functions_are_learned(self, name):
        torch.manual_seed(0)
        network = InvariantNetwork(EquivariantMLP(1, (24, 24)))
        assert fraction_unexplained(network, TARGETS[name]) < 0.1

    @pytest.mark.parametrize("name", TARGETS)
    def test_means_of_functions_of_single_members_are_not_enough(self, name):
        torch.manual_seed(0)
        network = InvariantNetwork(EquivariantMLP(1, (24, 24)))
        for layer in network.modules():
            if isinstance(layer, EquivariantLinear):
                layer.mean_weight.requires_grad_(False).zero_()
        assert fraction_unexplained(network, TARGETS[name]) > 0.25

    def test_the_first_member_stays_unknown(self):
        """Of x_1 no more can be told than the mean of the set: the rest is σ²(1 − 1/B), of laws
        with Var x_1 = 1 + E σ²."""
        torch.manual_seed(0)
        network = InvariantNetwork(EquivariantMLP(1, (24, 24)))
        found = fraction_unexplained(network, lambda x: x[:, 0, 0])
        variance = (2.0**3 - 0.2**3) / (3 * 1.8)  # E σ² of σ ~ U(0.2, 2)
        assert found == pytest.approx(variance * (1 - 1 / SIZE) / (1 + variance), abs=0.04)
