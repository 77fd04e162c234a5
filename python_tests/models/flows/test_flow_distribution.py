"""What a flow that is called gives: a distribution as torch's users know them."""

import copy
import math

import pytest
import torch
from testing.flow_testing import FLOWS, jacobian_log_det, randn, ready
from torch import nn
from torch.distributions import (
    AffineTransform,
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    Normal,
    TransformedDistribution,
    kl_divergence,
)

from gencore.models import ConditionalNormal, CouplingFlow, Flow, FlowDistribution
from gencore.nn import ActNorm, Permutation


def test_it_is_one_of_torch():
    flow = ready(CouplingFlow(3, hidden_widths=(8,)))
    distribution = flow()
    assert isinstance(distribution, Distribution)
    assert distribution.event_shape == (3,)
    assert distribution.batch_shape == ()
    x = distribution.sample((4, 5))
    assert x.shape == (4, 5, 3)
    assert not x.requires_grad
    assert distribution.log_prob(x).shape == (4, 5)
    torch.testing.assert_close(distribution.log_prob(x)[2, 3], flow.log_prob(x[2, 3][None])[0])


def test_a_context_makes_a_batch():
    flow = ready(CouplingFlow(3, hidden_widths=(8,), context_size=2))
    context = torch.randn(4, 2, dtype=torch.float64)
    distribution = flow(context)
    assert distribution.batch_shape == (4,)
    x = distribution.sample((5,))
    assert x.shape == (5, 4, 3)
    torch.testing.assert_close(distribution.log_prob(x)[1], flow.log_prob(x[1], context))
    expanded = flow(context[:1]).expand((4,))
    torch.testing.assert_close(
        expanded.log_prob(x[0]), flow.log_prob(x[0], context[:1].expand(4, 2))
    )


def test_rsample_carries_gradients_through_the_inverse():
    flow = ready(CouplingFlow(2, hidden_widths=(8,)))
    flow().rsample((6,)).square().sum().backward()
    grads = [parameter.grad for parameter in flow.parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)
    assert any(grad.abs().sum() > 0 for grad in grads if grad is not None)


def test_temperature_scales_the_latents():
    flow = Flow(Permutation.reverse(2), [2])
    torch.manual_seed(0)
    cold = flow(temperature=0.5).sample((1000,))
    torch.manual_seed(0)
    torch.testing.assert_close(cold, 0.5 * flow().sample((1000,)))
    with pytest.raises(ValueError, match="temperature is -1"):
        flow(temperature=-1.0)
    with pytest.raises(ValueError, match="temperature is nan"):
        flow.sample(2, temperature=math.nan)
    with pytest.raises(ValueError, match="temperature is inf"):
        flow.sample(2, temperature=math.inf)
    with pytest.raises(ValueError, match="temperature is inf"):
        flow.log_prob(torch.zeros(2, 2), temperature=math.inf)


# Uniform angles have no scale.
TEMPERATURES = [(n, t) for n in FLOWS for t in (1.0, 0.7) if (n, t) != ("CircularSplineFlow", 0.7)]
NORMAL = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)


def coupling_flow(**options) -> Flow:
    return ready(CouplingFlow(3, hidden_widths=(8,), **options))


def gaussian(mean: float, std: float) -> Flow:
    """N(mean, std²) in each of two dimensions."""
    norm = ActNorm(2)
    norm(torch.tensor([[mean - std, mean - std], [mean + std, mean + std]], dtype=torch.float64))
    flow = Flow(norm, [2]).double()
    z, _ = flow.transform(torch.tensor([[mean, mean + std]], dtype=torch.float64))
    torch.testing.assert_close(z, torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    return flow


class TestBatch:
    def test_expand_makes_identical_distributions(self):
        flow = coupling_flow()
        several = flow().expand([4, 2])
        assert several.batch_shape == (4, 2)
        x = several.sample((5,))
        assert x.shape == (5, 4, 2, 3)
        assert len(x.reshape(-1, 3).unique(dim=0)) == 40
        torch.testing.assert_close(several.log_prob(x), flow().log_prob(x))
        assert several.log_prob(x[:, :1, :1]).shape == (5, 4, 2)
        assert several.expand((7, 4, 2)).rsample().shape == (7, 4, 2, 3)

    def test_expanding_a_context_repeats_its_rows(self):
        flow, context = coupling_flow(context_size=2), randn(4, 2)
        several, x = flow(context).expand([6, 4]), randn(6, 4, 3)
        expected = torch.stack([flow.log_prob(rows, context) for rows in x])
        torch.testing.assert_close(several.log_prob(x), expected)

    def test_the_temperature_and_the_validation_go_along(self):
        one = FlowDistribution(coupling_flow(), None, 0.5, validate_args=False)
        several, x = one.expand([2]), randn(3)
        torch.testing.assert_close(several.log_prob(x), one.log_prob(x).expand(2))
        assert several.log_prob(torch.full((3,), torch.nan).double()).isnan().all()

    def test_independent_sums_over_the_batch(self):
        x = randn(5, 4, 3)
        flow = coupling_flow()
        together = Independent(flow().expand([4]), 1)
        assert (together.batch_shape, together.event_shape) == ((), (4, 3))
        torch.testing.assert_close(together.log_prob(x), flow().log_prob(x).sum(1))

    def test_a_mixture_of_contexts_has_the_mean_density(self):
        flow, x = coupling_flow(context_size=2), randn(5, 3)
        components = flow(randn(4, 2, seed=1))
        mixture = MixtureSameFamily(Categorical(torch.ones(4).double()), components)
        expected = components.log_prob(x[:, None]).logsumexp(1) - math.log(4)
        torch.testing.assert_close(mixture.log_prob(x), expected)
        assert mixture.sample((6,)).shape == (6, 3)

    def test_an_affine_map_behind_it_adds_its_jacobian(self):
        flow, x, loc = coupling_flow(), randn(5, 4, 3), randn(4, 3, seed=1)
        scaled = TransformedDistribution(flow(), [AffineTransform(loc, 2.0)])
        assert scaled.rsample((6,)).shape == (6, 4, 3)
        expected = flow().log_prob((x - loc) / 2) - 3 * math.log(2)
        torch.testing.assert_close(scaled.log_prob(x), expected)

    def test_no_values_have_no_densities(self):
        assert coupling_flow()().log_prob(torch.zeros(0, 3).double()).shape == (0,)
        assert coupling_flow()().expand([0]).sample((2,)).shape == (2, 0, 3)


class TestMeasures:
    def test_a_divergence_between_two_flows_by_sampling(self):
        """KL(N(m, s²) ‖ N(0, 1)) = (s² + m² − 1)/2 − log s in each dimension."""
        mean, std = 0.5, 1.5
        p, q = gaussian(mean, std)(), gaussian(0.0, 1.0)()
        torch.manual_seed(0)
        x = p.sample((20_000,))
        terms = p.log_prob(x) - q.log_prob(x)
        expected = 2 * ((std**2 + mean**2 - 1) / 2 - math.log(std))
        assert abs(terms.mean() - expected) < 4 * terms.std() / math.sqrt(len(x))

    @pytest.mark.parametrize("temperature", [0.5, 2.0])
    def test_the_density_is_that_of_the_samples_temperature(self, temperature):
        x = randn(5, 2)
        expected = Normal(0.5, 1.5 * temperature).log_prob(x).sum(1)
        actual = gaussian(0.5, 1.5)(temperature=temperature).log_prob(x)
        torch.testing.assert_close(actual, expected)

    def test_a_point_mass_has_no_density(self):
        with pytest.raises(ValueError, match=r"temperature is 0\.0; expected more"):
            coupling_flow()(temperature=0.0).log_prob(randn(3))

    @pytest.mark.parametrize(
        ("measure", "message"),
        [
            (lambda p: p.mean, r"the mean of a flow has no closed form; estimate it: sample"),
            (lambda p: p.stddev, "the variance of a flow has no closed form"),
            (lambda p: p.mode, "the mode of a flow has no closed form"),
            (lambda p: p.entropy(), r"the entropy of .*: -rsample_and_log_prob\(\(num,\)\)\[1\]"),
            (lambda p: kl_divergence(p, p), r"divergence .*: x, log_p = p.rsample_and_log_prob"),
            (lambda p: kl_divergence(p, NORMAL), r"divergence .*: x, log_p = p.rsample_and_log"),
            (lambda p: kl_divergence(NORMAL, p), r"divergence .*: x = p.sample\(\(num,\)\); \(p"),
        ],
    )
    def test_what_has_no_closed_form_says_what_to_do(self, measure, message):
        with pytest.raises(NotImplementedError, match=message):
            measure(coupling_flow()())


class TestBadInput:
    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda p: p.log_prob(1.0), TypeError, "the value is a float; expected a tensor"),
            (lambda p: p.log_prob(randn(4, 2)), ValueError, r"shape \[4, 2\]; expected \[..., 3"),
            (lambda p: p.log_prob(randn(5, 3)), ValueError, r"\[5, 3\], .* with the batch \[4\]"),
            (lambda p: p.expand([3]), ValueError, r"shape \[4\] does not expand to \[3\]"),
            (lambda p: p.expand([-1]), ValueError, r"shape \[4\] does not expand to \[-1\]"),
            (lambda p: p.log_prob(randn(4, 3) * torch.nan), ValueError, "found invalid values"),
        ],
    )
    def test_is_named(self, call, error, message, monkeypatch):
        monkeypatch.setattr(Distribution, "_validate_args", True)  # which zuko switches off
        with pytest.raises(error, match=message):
            call(coupling_flow()().expand([4]))

    def test_validation_is_that_of_torch(self, monkeypatch):
        nan = torch.full((3,), torch.nan).double()
        assert FlowDistribution(coupling_flow(), None, validate_args=False).log_prob(nan).isnan()
        monkeypatch.setattr(Distribution, "_validate_args", False)
        assert coupling_flow()().log_prob(nan).isnan()


def test_it_prints_and_copies():
    distribution = coupling_flow()().expand([2])
    assert repr(distribution) == (
        "FlowDistribution(CouplingFlow, batch_shape=[2], event_shape=[3], temperature=1.0)"
    )
    x = randn(2, 3)
    torch.testing.assert_close(copy.deepcopy(distribution).log_prob(x), distribution.log_prob(x))


def both_passes(density, sample_shape, *, together: bool):
    """Samples, their log-densities and the gradients of a loss of both."""
    torch.manual_seed(3)
    if together:
        x, log_prob = density.rsample_and_log_prob(sample_shape)
    else:
        x = density.rsample(sample_shape)
        log_prob = density.log_prob(x)
    weights = randn(*log_prob.shape, seed=1)
    loss = (weights * log_prob).sum() + (x.sin() * randn(*x.shape, seed=2)).sum()
    leaves = [p for p in density.flow.parameters() if p.requires_grad]
    if density.context is not None:
        leaves.append(density.context)
    return x, log_prob, torch.autograd.grad(loss, leaves, materialize_grads=True)


def calls_of(transform, monkeypatch) -> list[str]:
    """The names of the directions that the transform is evaluated in, as they are."""
    calls = []
    for name in ("forward", "inverse"):
        function = getattr(transform, name)

        def recorded(*args, name=name, function=function, **options):
            calls.append(name)
            return function(*args, **options)

        monkeypatch.setattr(transform, name, recorded)
    return calls


class TestOnePass:
    @pytest.mark.parametrize(("name", "temperature"), TEMPERATURES)
    def test_samples_with_densities_are_samples_then_densities(
        self, name, temperature, monkeypatch
    ):
        torch.manual_seed(0)
        # Spectral norms know the weights as they were drawn.
        flow = ready(FLOWS[name](), 0.0 if name == "ResidualFlow" else 0.2)
        density = flow(temperature=temperature)
        expected = both_passes(density, (3, 2), together=False)
        calls = calls_of(flow.transform, monkeypatch)
        found = both_passes(density, (3, 2), together=True)
        assert calls == ["inverse"]
        assert found[0].shape == (3, 2, *flow.event_shape)
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)

    @pytest.mark.parametrize("base", ["logistic", NORMAL, "context"])
    def test_whatever_the_base_and_the_batch(self, base):
        torch.manual_seed(0)
        base = ConditionalNormal(nn.Linear(2, 6)) if base == "context" else base
        flow = coupling_flow(context_size=2, base=base)
        density = flow(randn(4, 1, 2).requires_grad_()).expand([4, 5])
        found, expected = (both_passes(density, (3,), together=both) for both in (True, False))
        assert found[1].shape == (3, 4, 5)
        torch.testing.assert_close(found, expected)

    def test_a_divergence_as_its_error_says(self):
        p, q = gaussian(0.5, 1.5)(), gaussian(0.0, 1.0)()
        torch.manual_seed(0)
        x, log_p = p.rsample_and_log_prob((20_000,))
        terms = log_p - q.log_prob(x)
        expected = 1.5**2 + 0.5**2 - 1 - 2 * math.log(1.5)
        assert abs(terms.mean() - expected) < 4 * terms.std() / math.sqrt(len(x))
        entropy = -p.rsample_and_log_prob((20_000,))[1]
        expected = math.log(2 * math.pi * math.e * 1.5**2)
        assert abs(entropy.mean() - expected) < 4 * entropy.std() / math.sqrt(len(x))

    def test_a_point_mass_has_no_density(self):
        with pytest.raises(ValueError, match=r"temperature is 0\.0; expected more"):
            coupling_flow()(temperature=0.0).rsample_and_log_prob()


class TestTransform:
    @pytest.mark.parametrize(("name", "temperature"), TEMPERATURES)
    def test_with_the_base_it_is_the_same_distribution(self, name, temperature):
        torch.manual_seed(0)
        flow = ready(FLOWS[name](), 0.0 if name == "ResidualFlow" else 0.2)
        density = flow(temperature=temperature)
        base, to_latents = density.base, density.transform
        same = TransformedDistribution(base, [to_latents.inv])
        assert same.event_shape == flow.event_shape
        assert same.batch_shape == ()
        x = same.sample((5,)).detach()
        assert x.shape == (5, *flow.event_shape)
        torch.testing.assert_close(same.log_prob(x), density.log_prob(x))
        z = to_latents(x)
        assert z.shape == (5, *flow.latent_shape)
        torch.testing.assert_close(to_latents.inv(z), x)
        log_det = jacobian_log_det(to_latents, x)
        torch.testing.assert_close(to_latents.log_abs_det_jacobian(x, z), log_det)
        torch.testing.assert_close(to_latents.inv.log_abs_det_jacobian(z, x), -log_det)

    @pytest.mark.parametrize("base", ["normal", "logistic", "context"])
    def test_contexts_make_batches(self, base):
        torch.manual_seed(0)
        base = ConditionalNormal(nn.Linear(2, 6)) if base == "context" else base
        density = coupling_flow(context_size=2, base=base)(randn(4, 2))
        same = TransformedDistribution(density.base, [density.transform.inv])
        assert (same.batch_shape, same.event_shape) == ((4,), (3,))
        x = same.rsample((5,))
        assert x.shape == (5, 4, 3)
        torch.testing.assert_close(same.log_prob(x), density.log_prob(x))

    def test_the_base_of_a_batch_of_more_dimensions(self):
        torch.manual_seed(0)
        flow = coupling_flow(context_size=2)
        assert flow(randn(4, 5, 2)).base.batch_shape == (4, 5)
        flow = coupling_flow(context_size=2, base=ConditionalNormal(nn.Linear(2, 6)))
        with pytest.raises(NotImplementedError, match=r"batch shape is \[4, 5\]; expected one dim"):
            assert flow(randn(4, 5, 2)).base


def test_names_of_bad_bases_are_those_of_the_flow():
    with pytest.raises(ValueError, match=r"^CouplingFlow: the base is a Normal with batch shape"):
        CouplingFlow(3, base=Normal(0.0, 1.0))
