"""Flows with any distribution of their latents: fixed, learned, and of the context."""

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from testing.flow_testing import FLOWS, randn, ready
from torch import Tensor, nn
from torch.distributions import (
    AffineTransform,
    Beta,
    Categorical,
    Distribution,
    Independent,
    Laplace,
    LogNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Poisson,
    StudentT,
    TransformedDistribution,
    Uniform,
)

from gencore.models import ConditionalNormal, CouplingFlow, DistributionModule, Flow
from gencore.models.flows import latent_distribution
from gencore.nn import Permutation

KEY = torch.tensor([11, 5])


def mixture(logits: Tensor, loc: Tensor) -> Distribution:
    return MixtureSameFamily(Categorical(logits=logits), Independent(Normal(loc, 0.7), 1))


def separate_boxes(features: int) -> Distribution:
    """Uniform on [−3, −1]ᴰ and on [1, 3]ᴰ."""
    low = torch.tensor([-3.0, 1.0])[:, None].expand(2, features)
    boxes = Independent(Uniform(low, low + 2, validate_args=False), 1)
    return MixtureSameFamily(
        Categorical(torch.tensor([0.3, 0.7])), boxes, validate_args=False
    )  # whose support torch takes for the intersection of its parts'


def learned_boxes(logits: Tensor) -> Distribution:
    return MixtureSameFamily(Categorical(logits=logits), separate_boxes(2).component_distribution)


def spread(features: int) -> Tensor:
    return torch.linspace(0.5, 1.5, features)


# Distributions of vectors of so many latents: fixed, and modules that return them.
FIXED: dict[str, Callable[[int], Distribution]] = {
    "uniform": lambda n: Uniform(-2 * spread(n), spread(n)),
    "Laplace": lambda n: Independent(Laplace(spread(n), spread(n)), 1),
    "Student": lambda n: StudentT(torch.full((n,), 7.0), spread(n)),
    "correlated": lambda n: MultivariateNormal(
        spread(n), torch.diag(spread(n)) + 0.3 * torch.ones(n, n)
    ),
    "beta": lambda n: Beta(1 + spread(n), torch.full((n,), 2.0)),
    "mixture": lambda n: mixture(torch.tensor([0.0, 1.0]), torch.stack([spread(n), -spread(n)])),
    "boxes": separate_boxes,
    "transformed": lambda n: TransformedDistribution(
        Normal(torch.zeros(n), spread(n)), [AffineTransform(1.0, 2.0)]
    ),
}
MODULES: dict[str, Callable[[int], nn.Module]] = {
    "learned": lambda n: DistributionModule(Normal, loc=spread(n), scale=spread(n)),
    "learned mixture": lambda n: DistributionModule(
        mixture, logits=torch.tensor([0.0, 1.0]), loc=torch.stack([spread(n), -spread(n)])
    ),
}
BASES = {**FIXED, **MODULES}
BOUNDED = ("uniform", "beta", "boxes")


def identity(base, features: int = 2, context_size: int = 0) -> Flow:
    return Flow(Permutation(range(features)), [features], base=base, context_size=context_size)


def of_torch(name: str, features: int) -> Distribution:
    """The distribution with the latents as its event."""
    made = BASES[name](features)
    made = made() if isinstance(made, nn.Module) else made
    return Independent(made, len(made.batch_shape)) if made.batch_shape else made


@pytest.mark.parametrize("name", ["Laplace", "Student", "learned"])
@pytest.mark.parametrize("flow_name", sorted(FLOWS.keys() - {"CircularSplineFlow"}))
def test_every_flow_takes_it(flow_name, name):
    """The densities of two bases differ by a factor that the latents alone decide."""
    torch.manual_seed(0)
    normal = ready(FLOWS[flow_name](base="normal"), 0.1)
    numel = normal.latent_shape.numel()
    options = {"reversible": True} if flow_name == "CouplingFlow" else {}
    other = FLOWS[flow_name](base=BASES[name](numel), **options).double().eval()
    other.load_state_dict(normal.state_dict(), strict=False)
    x = normal.sample(5)
    z = normal.transform(x)[0]
    base = of_torch(name, numel).log_prob(z.float()).double()
    expected = base - Normal(0, 1).log_prob(z).flatten(1).sum(1)
    found = other.log_prob(x) - normal.log_prob(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert other().sample((4,)).shape == (4, *normal.event_shape)


@pytest.mark.parametrize("name", BASES)
def test_samples_have_the_density_which_integrates_to_one(name):
    """Through a flow and a temperature; the share of samples in half-planes, by a grid too."""
    torch.manual_seed(0)
    base = BASES[name](2)
    density = ready(CouplingFlow(2, num_layers=2, hidden_widths=(8,), base=base))(temperature=0.7)
    num, points = 20_000, 401
    with torch.no_grad():
        x = density.sample((num,))
    reach = 1.1 * x.abs().max().item() if name in BOUNDED else 14.0
    width = 2 * reach / points
    axis = -reach + width * (torch.arange(points, dtype=torch.float64) + 0.5)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        mass = density.log_prob(grid).exp() * width**2
    # Edges of a support cut cells.
    assert mass.sum().item() == pytest.approx(1, abs=0.02 if name in BOUNDED else 1e-3)
    for direction in torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64):
        middle = (x @ direction).median()
        share = mass[grid @ direction < middle].sum() / mass.sum()
        # Half of the samples; a column of the grid beside them holds at most that much.
        assert abs(share - 0.5) < 4 * math.sqrt(0.25 / num) + 0.02


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_scales_the_latents(name, temperature):
    flow, base = identity(BASES[name](3), 3), of_torch(name, 3)
    with torch.no_grad():
        z = flow.sample_latents(6, key=KEY)
        assert torch.equal(flow.sample(6, temperature=temperature, key=KEY), temperature * z)
    found = flow.log_prob(temperature * z, temperature=temperature)
    torch.testing.assert_close(found, base.log_prob(z) - 3 * math.log(temperature))


class TestSampling:
    @pytest.mark.parametrize("name", BASES)
    def test_parts_are_those_of_the_whole(self, name, monkeypatch):
        monkeypatch.setattr(latent_distribution, "_BLOCK_NUMBERS", 12)  # four rows of three
        flow = identity(BASES[name](3), 3)
        with torch.no_grad():
            whole = flow.sample_latents(30, key=KEY)
            parts = [
                flow.sample_latents(num, key=KEY, first=first)
                for first, num in ((0, 3), (3, 0), (3, 10), (13, 17))
            ]
            other = flow.sample_latents(30, key=KEY + 1)
        assert torch.equal(torch.cat(parts), whole)
        assert len(torch.cat([whole, other]).unique(dim=0)) == 60  # no block repeats another

    @pytest.mark.parametrize("name", ["uniform", "Student", "mixture"])
    def test_the_generators_decide(self, name):
        flow = identity(FIXED[name](3), 3)
        torch.manual_seed(0)
        state = torch.get_rng_state()
        flow.sample_latents(5, key=KEY)
        assert torch.equal(torch.get_rng_state(), state)
        seeded = [flow.sample(5, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
        assert torch.equal(*seeded)
        torch.manual_seed(0)
        default = flow.sample(5)
        assert not torch.equal(flow.sample(5), default)
        torch.manual_seed(0)
        assert torch.equal(flow.sample(5), default)

    def test_rows_of_a_context_are_split_too_where_quantiles_are_known(self):
        flow = identity(ConditionalNormal(nn.Linear(4, 6)), 3, context_size=4)
        context = randn(9, 4, dtype=torch.float32)
        whole = flow.sample_latents(9, context, key=KEY)
        parts = [
            flow.sample_latents(len(rows), rows, key=KEY, first=first)
            for first, rows in ((0, context[:4]), (4, context[4:]))
        ]
        torch.testing.assert_close(torch.cat(parts), whole)

    def test_rows_of_a_context_that_cannot_be_split_say_so(self):
        flow = identity(ContextMixture(), 3, context_size=4)
        context = randn(9, 4, dtype=torch.float32)
        with torch.no_grad():
            assert torch.equal(*(flow.sample(9, context, key=KEY) for _ in range(2)))
            with pytest.raises(ValueError, match=r"first is 4, but draws of .* MixtureSameFamily"):
                flow.sample(5, context[4:], key=KEY, first=4)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_none_is_on_an_open_end(self, dtype):
        """Numbers of few digits are rounded to 1 now and then, where the density is 0."""
        flow = identity(Uniform(torch.zeros(2), torch.ones(2))).to(dtype)
        z = flow.sample_latents(50_000, key=KEY)
        assert z.dtype == dtype
        assert torch.equal(flow.log_prob(z), torch.zeros(len(z)))

    def test_gradients_by_the_parameters(self):
        """∂z/∂loc = 1 and ∂z/∂scale = (z − loc)/scale, and nothing is said of mixtures'."""
        base = DistributionModule(Laplace, loc=torch.zeros(3), scale=2 * torch.ones(3))
        z = identity(base, 3).sample(5)
        z.sum().backward()
        torch.testing.assert_close(base.loc.grad, torch.full((3,), 5.0))
        torch.testing.assert_close(base.raw_scale.grad, z.detach().sum(0))  # by log scale
        flow = identity(MODULES["learned mixture"](3), 3)
        for draw in (flow().rsample, flow().rsample_and_log_prob):
            with pytest.raises(NotImplementedError, match="MixtureSameFamily, have no gradient"):
                draw((5,))
        assert flow().sample((5,)).shape == (5, 3)
        assert not flow().has_rsample
        assert identity(FIXED["mixture"](3), 3)().has_rsample
        assert identity(base, 3)().has_rsample
        assert identity("logistic", 3)().has_rsample


class TestBoundedSupport:
    @pytest.mark.parametrize("name", BOUNDED)
    def test_outside_the_density_is_zero_and_has_no_gradient(self, name, monkeypatch):
        monkeypatch.setattr(Distribution, "_validate_args", True)  # which zuko switches off
        torch.manual_seed(0)
        flow = CouplingFlow(2, num_layers=2, hidden_widths=(8,), base=FIXED[name](2))
        x = torch.cat([flow.sample(5).detach(), torch.full((3, 2), 30.0)]).requires_grad_()
        log_prob = flow().log_prob(x)
        assert log_prob.isneginf().tolist() == [False] * 5 + [True] * 3
        gradient = torch.autograd.grad(log_prob[5:].sum(), x, retain_graph=True)[0]
        assert not gradient.any()
        log_prob.sum().backward()
        alone = x.detach()[:5].requires_grad_()
        flow.log_prob(alone).sum().backward()
        torch.testing.assert_close(x.grad[:5], alone.grad)
        assert all(p.grad.isfinite().all() for p in flow.parameters())

    @pytest.mark.parametrize(
        ("base", "inside"),
        [
            (DistributionModule(Beta, concentration1=spread(2), concentration0=spread(2)), 0.5),
            (DistributionModule(LogNormal, loc=spread(2), scale=spread(2)), 1.5),
            (DistributionModule(learned_boxes, logits=spread(2)), 1.5),
        ],
    )
    def test_nor_have_parameters_that_are_learned(self, base, inside):
        flow = identity(base)
        inside, outside = torch.full((1, 2), inside), torch.full((1, 2), -9.0)
        (flow.log_prob(torch.cat([inside, outside])) * torch.tensor([1.0, 2.0])).sum().backward()
        found = [p.grad.clone() for p in flow.parameters()]
        flow.zero_grad()
        flow.log_prob(inside).sum().backward()
        torch.testing.assert_close(found, [p.grad for p in flow.parameters()])

    @pytest.mark.parametrize("name", ["Laplace", *BOUNDED])
    def test_what_is_missing_stays_missing(self, name):
        x = torch.tensor([[torch.nan, 1.5], [torch.nan, 99.0], [-1.5, -1.5]])
        found = identity(FIXED[name](2)).log_prob(x)
        assert found.isnan().tolist() == [True, True, False]

    def test_a_mixture_has_the_union_of_its_parts(self):
        flow = identity(separate_boxes(2))
        x = torch.tensor([[-2.0, -2.0], [2.0, 2.0], [0.0, 0.0], [2.0, -2.0]])
        expected = torch.tensor([0.3 / 4, 0.7 / 4, 0.0, 0.0]).log()
        torch.testing.assert_close(flow.log_prob(x), expected)

    def test_no_rows(self):
        assert identity(FIXED["uniform"](2)).log_prob(torch.zeros(0, 2)).shape == (0,)
        assert identity(FIXED["mixture"](2)).sample(0).shape == (0, 2)


class TestFixed:
    @pytest.mark.parametrize("name", FIXED)
    def test_it_goes_where_the_flow_goes(self, name):
        flow, x = identity(FIXED[name](2)), identity(FIXED[name](2)).sample(5, key=KEY)
        expected = flow.log_prob(x)
        assert not flow.state_dict().keys() - {"transform.order", "transform.inverse_order"}
        wide = copy.deepcopy(flow).double()
        assert wide.sample(2).dtype == torch.float64
        torch.testing.assert_close(
            wide.log_prob(x.double()), expected.double(), rtol=1e-4, atol=1e-4
        )
        meta = copy.deepcopy(flow).to("meta").to_empty(device="cpu")
        meta.load_state_dict(flow.state_dict())
        for other in (meta, pickle.loads(pickle.dumps(flow))):
            assert torch.equal(other.log_prob(x), expected)
            assert torch.equal(other.sample(3, key=KEY), flow.sample(3, key=KEY))

    def test_what_is_given_is_not_touched(self, monkeypatch):
        monkeypatch.setattr(Distribution, "_validate_args", True)
        given = Uniform(torch.zeros(2), torch.ones(2))
        flow = identity(given)
        flow.double().log_prob(torch.full((1, 2), 5.0).double())
        assert given.low.dtype == torch.float32
        with pytest.raises(ValueError, match="support"):
            given.log_prob(torch.full((2,), 5.0))

    def test_batch_and_event_together_are_the_latents_shape(self):
        loc = randn(2, 3, dtype=torch.float32)
        x = randn(4, 2, 3, dtype=torch.float32)
        expected = Normal(loc, 1.0).log_prob(x).sum((1, 2))
        for base in (Normal(loc, 1.0), *(Independent(Normal(loc, 1.0), k) for k in (1, 2))):
            flow = Flow(Permutation(range(2)), [2, 3], base=base)
            torch.testing.assert_close(flow.log_prob(x), expected)
            assert flow().base.event_shape == (2, 3)


class TestLearned:
    def test_it_learns_the_data_and_keeps_its_scale_positive(self):
        torch.manual_seed(0)
        x = torch.tensor([3.0, 0.01]) * torch.randn(500, 2) + 2
        base = DistributionModule(Normal, loc=torch.zeros(2), scale=torch.ones(2))
        flow = identity(base)
        optimiser = torch.optim.Adam(flow.parameters(), 0.1)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 500)
        for _ in range(500):
            optimiser.zero_grad()
            (-flow.log_prob(x).mean()).backward()
            optimiser.step()
            schedule.step()
        found = base()
        torch.testing.assert_close(found.loc, x.mean(0), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.scale, x.std(0, correction=0), rtol=1e-2, atol=0.0)

    def test_its_state_is_that_of_the_flow(self):
        flow = identity(MODULES["learned"](2))
        assert [name for name, _ in flow.named_parameters()] == ["base.loc", "base.raw_scale"]
        other = identity(DistributionModule(Normal, loc=torch.zeros(2), scale=torch.ones(2)))
        other.load_state_dict(flow.state_dict())
        x = randn(5, 2, dtype=torch.float32)
        torch.testing.assert_close(other.log_prob(x), flow.log_prob(x))
        assert flow.double().sample(3).dtype == torch.float64

    def test_constrained_parameters_start_where_they_are_given(self):
        covariance = torch.tensor([[2.0, 0.3], [0.3, 1.0]])
        base = DistributionModule(MultivariateNormal, loc=spread(2), covariance_matrix=covariance)
        torch.testing.assert_close(base().covariance_matrix, covariance)
        base().log_prob(torch.zeros(2)).backward()
        assert base.raw_covariance_matrix.grad.isfinite().all()

    def test_buffers_in_the_place_of_parameters(self):
        base = DistributionModule(Normal, learnable=False, loc=spread(2), scale=spread(2))
        flow = identity(base)
        assert not list(flow.parameters())
        assert {"base.loc", "base.scale"} < flow.state_dict().keys()
        assert flow.double().sample(3).dtype == torch.float64
        assert repr(base) == "DistributionModule(Normal, loc, scale, learnable=False)"


class ContextMixture(nn.Module):
    """A mixture whose first component is where the context says."""

    def forward(self, context: Tensor) -> Distribution:
        loc = torch.stack([context[:, :3], torch.zeros_like(context[:, :3])], 1)
        return mixture(torch.zeros(len(context), 2), loc)


class TestConditional:
    def test_each_class_has_its_gaussian(self):
        table = torch.tensor([[3.0, 0.0, 0.1, -1.0], [-1.0, 2.0, -0.5, 0.3]])  # means, log-scales
        network = nn.Linear(2, 4, bias=False)
        with torch.no_grad():
            network.weight.copy_(table.T)
        flow = identity(ConditionalNormal(network), context_size=2)
        x = randn(5, 2, dtype=torch.float32)
        found = flow(torch.eye(2)).log_prob(x[:, None])
        expected = Normal(table[:, :2], table[:, 2:].exp()).log_prob(x[:, None]).sum(-1)
        torch.testing.assert_close(found, expected)
        torch.manual_seed(0)
        samples = flow(torch.eye(2)).sample((10_000,))
        error = (samples.mean(0) - table[:, :2]).abs() * math.sqrt(10_000) / table[:, 2:].exp()
        assert error.max() < 4.5
        assert flow(torch.eye(2)).base.batch_shape == (2,)

    def test_transform_and_base_meet_the_same_context(self):
        torch.manual_seed(0)
        base = ConditionalNormal(nn.Linear(4, 6))
        flow = ready(CouplingFlow(3, num_layers=2, hidden_widths=(8,), context_size=4, base=base))
        context, x = randn(5, 4), randn(5, 3, seed=1)
        together = flow.log_prob(x, context)
        alone = [flow.log_prob(x[i : i + 1], context[i : i + 1]) for i in range(5)]
        torch.testing.assert_close(together, torch.cat(alone))
        assert (flow.log_prob(x, context.roll(1, 0)) - together).abs().min() > 1e-3
        torch.testing.assert_close(
            together,
            flow.base(context).log_prob(flow.transform(x, context)[0])
            + flow.transform(x, context)[1],
        )
        together.sum().backward()
        assert all(p.grad.isfinite().all() and p.grad.any() for p in base.parameters())

    def test_a_base_without_a_use_for_the_context_is_called_without(self):
        flow = CouplingFlow(3, hidden_widths=(8,), context_size=4, base=MODULES["learned"](3))
        assert flow(torch.zeros(5, 4)).sample((2,)).shape == (2, 5, 3)

    def test_it_is_evaluated_once(self):
        base = ConditionalNormal(nn.Linear(4, 6))
        calls = []
        base.register_forward_hook(lambda *_: calls.append(1))
        identity(base, 3, context_size=4)(torch.zeros(5, 4)).rsample_and_log_prob((7,))
        assert len(calls) == 1

    @pytest.mark.parametrize("context_size", [0, 4])
    def test_another_flow_is_a_base(self, context_size):
        inner = ready(CouplingFlow(3, num_layers=2, hidden_widths=(8,), context_size=context_size))
        outer = ready(CouplingFlow(3, num_layers=2, hidden_widths=(8,), context_size=4, base=inner))
        context, x = randn(5, 4), randn(5, 3, seed=1)
        z, log_det = outer.transform(x, context)
        expected = inner.log_prob(z, context if context_size else None) + log_det
        torch.testing.assert_close(outer.log_prob(x, context), expected)
        sample, log_prob = outer(context).rsample_and_log_prob()
        torch.testing.assert_close(outer.log_prob(sample, context), log_prob)

    def test_log_scales_are_bounded(self):
        network = nn.Linear(1, 4)
        with torch.no_grad():
            network.bias.fill_(1e4)
        flow = identity(ConditionalNormal(network), context_size=1)
        log_prob = flow.log_prob(torch.zeros(1, 2), torch.zeros(1, 1))
        assert log_prob.isfinite().all()


@pytest.mark.parametrize(
    "name", ["uniform", *(pytest.param(n, marks=pytest.mark.slow) for n in ("mixture", "learned"))]
)
def test_densities_compile_in_one_graph(name):
    torch.manual_seed(0)
    flow = CouplingFlow(3, num_layers=2, hidden_widths=(8,), base=BASES[name](3))
    x = 2 * randn(6, 3, dtype=torch.float32)
    torch.compiler.reset()
    compiled = torch.compile(flow.log_prob, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), flow.log_prob(x))


@pytest.mark.parametrize(
    ("base", "error", "message"),
    [
        (lambda: 3, ValueError, "base is 3; expected normal, logistic, a distribution"),
        (lambda: Normal(0.0, 1.0), ValueError, r"a Normal with batch shape \[\] .* \[2\] of both"),
        (lambda: Normal(torch.zeros(5, 2), 1.0), ValueError, r"batch shape \[5, 2\]"),
        (lambda: Poisson(torch.ones(2)), ValueError, "the base is a Poisson, which is discrete"),
        (
            lambda: Normal(nn.Parameter(torch.zeros(2)), 1.0),
            ValueError,
            "require gradients, .*; give a DistributionModule",
        ),
        (
            lambda: CouplingFlow(2, hidden_widths=(8,))(),
            ValueError,
            "holds a CouplingFlow, .* give the module",
        ),
        (
            lambda: ConditionalNormal(nn.Linear(3, 4)),
            ValueError,
            "a ConditionalNormal, takes a context, but context_size is 0",
        ),
    ],
)
def test_bases_that_do_not_fit(base, error, message):
    with pytest.raises(error, match=f"^Flow: .*{message}" if message[:4] != "base" else message):
        identity(base())


@pytest.mark.parametrize(
    ("base", "error", "message"),
    [
        (nn.Linear(3, 2), TypeError, "the base gives a Tensor; expected a torch.distributions"),
        (DistributionModule(Normal, loc=torch.zeros(4), scale=torch.ones(4)), ValueError, r"\[4\]"),
        (
            DistributionModule(Normal, loc=torch.zeros(2), scale=torch.ones(2)).double(),
            TypeError,
            r"data are torch\.float32 and the weights torch\.float64; convert",
        ),
        (ConditionalNormal(nn.Linear(3, 5)), ValueError, r"gives \[5, 5\] for contexts \[5, 3\]"),
        (ConditionalNormal(nn.Linear(3, 6)), ValueError, r"or with one for each of 5 rows"),
    ],
)
def test_modules_that_do_not_fit(base, error, message):
    flow, context = Flow(Permutation(range(2)), [2], base=base, context_size=3), torch.zeros(5, 3)
    with pytest.raises(error, match=message):
        flow.log_prob(torch.zeros(5, 2), context)


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        ({"loc": 0.0, "scale": torch.ones(2)}, TypeError, "loc is float; expected a tensor"),
        ({"loc": torch.zeros(2, dtype=torch.int64)}, TypeError, "loc is torch.int64"),
        ({"loc": torch.zeros(2), "scale": -torch.ones(2)}, ValueError, "DistributionModule: Exp"),
        ({"loc": torch.zeros(2), "rate": torch.ones(2)}, TypeError, "rate"),
    ],
)
def test_parameters_that_do_not_fit(tensors, error, message, monkeypatch):
    monkeypatch.setattr(Distribution, "_validate_args", True)
    with pytest.raises(error, match=message):
        DistributionModule(Normal, **tensors)


def test_a_base_of_another_dtype_is_named():
    class Wide(nn.Module):
        def forward(self) -> Distribution:
            return Uniform(torch.zeros(2).double(), torch.ones(2).double())

    flow = Flow(CouplingFlow(2, hidden_widths=(8,)).transform, [2], base=Wide())
    message = r"a Uniform, is of torch\.float64, and the latents are torch\.float32; convert"
    for call in (lambda: flow.log_prob(torch.zeros(5, 2)), lambda: flow.sample(5)):
        with pytest.raises(TypeError, match=message):
            call()
    assert flow.double().sample(5).dtype == torch.float64
