"""Flow contrastive estimation: each side's gradient, its limits, and the turns of the game."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from gencore.models import (
    CouplingFlow,
    EnergyClassifier,
    EnergyDensity,
    Flow,
    FlowContrastiveEBM,
)
from gencore.nn import MLP, MLPEnergy, Permutation, Transform
from gencore.objectives import AdaptiveAlternation
from gencore.samplers import HMC


def key(seed):
    return torch.tensor([seed, 0])


def data(num, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, 2, generator=generator, dtype=torch.float64)


def energy_density(log_z=0.3):
    torch.manual_seed(0)
    return EnergyDensity(MLPEnergy(2, (8,)), log_z, learned=True).double()


def coupling_flow():
    torch.manual_seed(1)
    flow = CouplingFlow(2, num_layers=4, hidden_widths=(8,)).double()
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.4)
    return flow


class Scale(Transform):
    """z = x/s, the flow of N(0, s²I)."""

    def __init__(self, scale):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale, dtype=torch.float64))

    def forward(self, x, context=None):
        return x / self.scale, -2 * self.scale.log().expand(len(x))

    def inverse(self, z, context=None):
        return z * self.scale, 2 * self.scale.log().expand(len(z))


class Quadratic(nn.Module):
    """E = ‖x‖²/2, of log Z = log 2π."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        return 0.5 * self.factor * x.square().sum(1)


def test_each_side_trains_itself_alone():
    model = FlowContrastiveEBM(energy_density(), coupling_flow())
    x = data(16)
    model.density_value(x, key=key(1)).loss.backward()
    assert all(p.grad is not None for p in model.density.parameters())
    assert all(p.grad is None for p in model.flow.parameters())
    model.zero_grad()
    model.flow_value(x, key=key(1)).value.backward()
    assert all(p.grad is None for p in model.density.parameters())
    assert all(p.grad is not None for p in model.flow.parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_both_sides_see_one_value_and_the_gradients_of_its_formula():
    """V written out with one graph for all (4.10): u and 1 − u at data and samples."""
    model = FlowContrastiveEBM(energy_density(), coupling_flow())
    x = data(12)
    samples = model.flow.sample(12, key=key(2))
    p, q = ([torch.exp(f.log_prob(y)) for y in (x, samples)] for f in (model, model.flow))
    value = (p[0] / (p[0] + q[0])).log().mean() + (q[1] / (p[1] + q[1])).log().mean()
    of_density, of_flow = model.density_value(x, key=key(2)), model.flow_value(x, key=key(2))
    torch.testing.assert_close(of_density.value, value)
    torch.testing.assert_close(of_flow.value, value)
    for mine, module in ((of_density.value, model.density), (of_flow.value, model.flow)):
        parameters = [w for w in module.parameters() if w.requires_grad]
        expected = torch.autograd.grad(value, parameters, retain_graph=True)
        for got, want in zip(torch.autograd.grad(mine, parameters), expected, strict=True):
            torch.testing.assert_close(got, want)


def test_equal_densities_have_the_value_of_a_coin():
    density = EnergyDensity(Quadratic(), math.log(2 * math.pi), learned=True)
    model = FlowContrastiveEBM(density, Flow(Scale(1.0), [2]))
    contrast = model.density_value(data(50))
    assert contrast.value.item() == pytest.approx(-2 * math.log(2), abs=1e-9)
    model.flow_value(data(50)).value.backward()


def test_the_flows_gradient_is_that_of_the_jensen_shannon_divergence():
    """At p_θ = p_data = N(0, I) and q = N(0, s²I): dV/ds against differences of the divergence by
    quadrature in the radius, in units of the Monte Carlo error."""
    radius = torch.linspace(1e-6, 14, 40_001, dtype=torch.float64)

    def divergence(s):
        p, q = (
            -0.5 * (radius / t) ** 2 - 2 * math.log(t) - math.log(2 * math.pi) for t in (1.0, s)
        )
        m = torch.logaddexp(p, q) - math.log(2)
        integrand = 2 * math.pi * radius * (p.exp() * (p - m) + q.exp() * (q - m))
        return torch.trapezoid(integrand, radius).item()

    s, h = 1.5, 1e-3
    expected = (divergence(s + h) - divergence(s - h)) / (2 * h)
    density = EnergyDensity(Quadratic(), math.log(2 * math.pi), learned=True)
    model = FlowContrastiveEBM(density, Flow(Scale(s), [2]))
    gradients = []
    for seed in range(40):
        model.zero_grad()
        model.flow_value(data(5000, seed), key=key(seed)).value.backward()
        gradients.append(model.flow.transform.scale.grad.clone())
    found = torch.stack(gradients)
    error = found.std().item() / len(found) ** 0.5
    assert error < 0.02 * expected
    assert abs(found.mean().item() - expected) < 4 * error


def test_a_classifier_of_one_class_is_the_energy():
    energy, x = MLPEnergy(2, (8,)).double(), data(20)
    one = EnergyClassifier([energy], log_z=[0.4])
    model = FlowContrastiveEBM(one, coupling_flow())
    plain = FlowContrastiveEBM(EnergyDensity(energy, 0.4, learned=True), model.flow)
    values = [m.density_value(x, key=key(3)).value for m in (model, plain)]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(model.log_prob(x), -energy(x) - 0.4)


def test_the_mixture_of_classes_and_their_labels():
    """(4.16) is the logarithm of a sum, and (4.15) a cross-entropy of f_k − c_k."""
    torch.manual_seed(0)
    log_z = torch.tensor([0.2, -0.5, 1.0], dtype=torch.float64)
    network = MLP(2, (8,), 3, zero_last=False).double()
    classifier = EnergyClassifier(network, log_z=log_z, num_classes=3)
    x, label = data(10), torch.arange(10) % 3
    classes = torch.exp(-network(x) - log_z)  # p_k(x)
    torch.testing.assert_close(classifier.log_prob(x), classes.mean(1).log())
    labelled = classes.gather(1, label[:, None])[:, 0] / classes.sum(1)
    entropy = nn.functional.cross_entropy(classifier(x), label)
    torch.testing.assert_close(entropy, -labelled.log().mean())


def test_samples_of_the_flow_and_of_chains():
    model = FlowContrastiveEBM(energy_density().float(), coupling_flow().float())
    x = model.sample(6, key=key(4))
    assert torch.equal(x[4:], model.sample(2, key=key(4), first=4))
    assert not x.requires_grad
    kernel = partial(HMC, step_size=0.1, num_leapfrog=3)
    moved = model.sample(6, kernel=kernel, num_steps=5, key=key(4))
    assert not torch.equal(moved, x)
    torch.testing.assert_close(
        moved[4:], model.sample(2, kernel=kernel, num_steps=5, key=key(4), first=4)
    )


def test_chains_of_the_energy_correct_the_flow():
    """From N(0, 2²I) to N(0, I), the energy's: variances within four errors."""
    density = EnergyDensity(Quadratic(), math.log(2 * math.pi), learned=True)
    model = FlowContrastiveEBM(density, Flow(Scale(2.0), [2]))
    kernel = partial(HMC, step_size=0.5, num_leapfrog=4)
    x = model.sample(4000, kernel=kernel, num_steps=30, key=key(5))
    assert x.var(0) == pytest.approx([1.0, 1.0], abs=4 * (2 / 4000) ** 0.5)


def test_samples_come_with_their_densities():
    flow = coupling_flow()
    x, log_q = flow.sample_and_log_prob(7, key=key(6))
    torch.testing.assert_close(x, flow.sample(7, key=key(6)))
    torch.testing.assert_close(log_q, flow.log_prob(x))
    logistic = Flow(Permutation.reverse(2), [2], base="logistic")
    x, log_q = logistic.sample_and_log_prob(7, key=key(6))
    torch.testing.assert_close(log_q, logistic.log_prob(x))


class TestAdaptiveAlternation:
    def test_the_rule_of_the_source(self):
        turns = AdaptiveAlternation(cap=100)
        for accuracy, then in ((0.5, "density"), (0.51, "noise"), (0.5, "noise"), (0.4, "density")):
            turns.update(accuracy)
            assert turns.player == then

    def test_a_pinned_accuracy_does_not_run_away(self):
        """At ½, where the source's rule moves the noise for ever, both go on to move."""
        turns, moved = AdaptiveAlternation(cap=5), []
        turns.player = "noise"
        for _ in range(100):
            moved.append(turns.player)
            turns.update(0.5)
        assert moved.count("noise") == moved.count("density") == 50

    def test_the_warm_up_and_a_resumed_count(self):
        turns = AdaptiveAlternation(warmup=3, cap=2)
        for _ in range(3):
            turns.update(0.9)
            assert turns.player == "density"
        turns.update(0.9)
        turns.update(0.9)
        resumed = AdaptiveAlternation(warmup=3, cap=2)
        resumed.load_state_dict(turns.state_dict())
        for accuracy in (0.6, 0.4, 0.4, 0.5, 0.7):
            assert resumed.player == turns.player
            for each in (turns, resumed):
                each.update(accuracy)

    @pytest.mark.parametrize(
        "options", [{"warmup": -1}, {"cap": 0}, {"threshold": 1.0}, {"threshold": 0.0}]
    )
    def test_wrong_options_are_named(self, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            AdaptiveAlternation(**options)


@pytest.mark.parametrize(
    ("density", "flow", "error", "message"),
    [
        (MLPEnergy(2), CouplingFlow(2), TypeError, "density is a MLPEnergy"),
        (EnergyDensity(MLPEnergy(2)), CouplingFlow(2), ValueError, "log_z of the density is None"),
        (
            EnergyClassifier([MLPEnergy(2)], background=True), CouplingFlow(2), ValueError,
            "has a background",
        ),
        (
            EnergyDensity(MLPEnergy(2), 0.0, learned=True), CouplingFlow(2, context_size=3),
            ValueError, "context of size 3",
        ),
    ],
)  # fmt: skip
def test_wrong_parts_are_named(density, flow, error, message):
    with pytest.raises(error, match=message):
        FlowContrastiveEBM(density, flow)


def test_steps_need_a_kernel():
    model = FlowContrastiveEBM(energy_density(), coupling_flow())
    with pytest.raises(ValueError, match="num_steps is 3 without a kernel"):
        model.sample(2, num_steps=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EnergyClassifier(MLP(2, (4,), 3)), "num_classes is None"),
        (lambda: EnergyClassifier([MLPEnergy(2)], num_classes=1), "num_classes is 1"),
        (
            lambda: EnergyClassifier(MLP(2, (4,), 3), num_classes=2)(torch.zeros(5, 2)),
            r"the module gives \[5, 3\]",
        ),
        (
            lambda: EnergyClassifier([MLPEnergy(2)], background=True).log_prob(torch.zeros(1, 2)),
            "relative to that of the background",
        ),
    ],
)
def test_wrong_classifiers_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_normals_of_the_scale_flow():
    """The helper of these tests is the density that it says."""
    x = data(5)
    torch.testing.assert_close(
        Flow(Scale(1.5), [2]).log_prob(x), Normal(0.0, 1.5).log_prob(x).sum(1)
    )
