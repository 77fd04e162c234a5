"""Transforms for bounded and tabular data: the logit, fixed scales, and bijections of torch."""

import copy
import math
import pickle

import pytest
import torch
from testing.flow_testing import check_transform, randn, redraw
from torch.distributions import (
    Beta,
    Normal,
    TransformedDistribution,
    constraints,
    transforms,
)

from gencore.metrics import bits_per_dim
from gencore.models import Flow, SplineFlow
from gencore.nn import (
    Compose,
    ElementwiseAffine,
    Inverse,
    Logit,
    TorchBijection,
    UniformDequantization,
)

COLUMNS = constraints.cat(
    [constraints.positive, constraints.interval(-2.0, 5.0), constraints.real], dim=-1
)
TRANSFORMS = {
    "logit": lambda: Logit(0.0),
    "logit of 1e-6": lambda: Logit(),
    "logit of 0.05": lambda: Logit(0.05),
    "affine": lambda: ElementwiseAffine([0.2, -1.0, 3.0], [0.5, 2.0, 1e-2]),
    "log": lambda: Inverse(TorchBijection(transforms.ExpTransform())),
    "positive": lambda: TorchBijection.onto(constraints.positive),
    "interval": lambda: TorchBijection.onto(constraints.interval(-2.0, 5.0)),
    "softplus": lambda: TorchBijection(transforms.SoftplusTransform()),
    "tanh": lambda: Inverse(TorchBijection(transforms.TanhTransform())),
    "columns": lambda: TorchBijection.onto(COLUMNS),
}


def unit(*shape: int, seed: int = 0, dtype=torch.float64):
    """Uniform numbers."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)


def box_integral(flow: Flow, low: list[float], high: list[float], points: int = 400) -> float:
    """∫ p(x) dx over a box of the plane, by the midpoint rule."""
    steps = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    axes = [a + (b - a) * steps for a, b in zip(low, high, strict=True)]
    area = math.prod(b - a for a, b in zip(low, high, strict=True))
    with torch.no_grad():
        return flow.log_prob(torch.cartesian_prod(*axes)).exp().mean().item() * area


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2)])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_inverse_and_log_det_are_those_of_the_jacobian(name, shape):
    if name == "columns" and len(shape) == 3:
        shape = (2, 2, 3)  # whose last dimension is that of the columns
    check_transform(TRANSFORMS[name]().double(), unit(*shape))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_half_precision_and_tracing(name):
    transform, x = TRANSFORMS[name](), unit(6, 3, dtype=torch.float32)
    expected, log_det = transform(x)
    assert log_det.dtype == torch.float32
    half, half_log_det = transform(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert half_log_det.dtype == torch.float32
    traced = torch.compile(transform, fullgraph=True, backend="eager")(x)
    torch.testing.assert_close(traced, (expected, log_det))
    by_row = torch.func.vmap(lambda row: transform(row[None])[1][0])(x)
    torch.testing.assert_close(by_row, log_det)


def test_densities_are_those_of_torch():
    x = unit(20, 2)
    pairs = (
        (Logit(0.0), transforms.SigmoidTransform()),
        (TorchBijection(transforms.SoftplusTransform()), transforms.SoftplusTransform()),
        (TorchBijection.onto(constraints.positive), transforms.ExpTransform()),
    )
    for transform, theirs in pairs:
        normal = Normal(torch.zeros(2).double(), torch.ones(2).double())
        expected = TransformedDistribution(normal, [theirs]).log_prob(x).sum(1)
        torch.testing.assert_close(Flow(transform, [2]).log_prob(x), expected)


class TestLogit:
    def test_the_digits_of_numbers_next_to_0_and_1(self):
        x = torch.tensor([1e-37, 1e-20, 1e-7, 0.1, 0.5, 0.9, 1 - 2**-20, 1 - 2**-24])
        for alpha in (0.0, 1e-6, 0.05):
            logit = Logit(alpha)
            z, log_det = logit(x[:, None])
            wide = x.double()
            y, rest = alpha + (1 - 2 * alpha) * wide, alpha + (1 - 2 * alpha) * (1 - wide)
            expected = (y / rest).log()
            torch.testing.assert_close(z[:, 0].double(), expected, rtol=1e-6, atol=1e-6)
            expected = ((1 - 2 * alpha) / y / rest).log()
            torch.testing.assert_close(log_det.double(), expected, rtol=1e-6, atol=1e-6)
            back, inverse_log_det = logit.inverse(z)
            error = (back[:, 0].double() - wide).abs()
            assert (error < 1e-5 * (wide if alpha == 0 else 1)).all()
            if alpha == 0:  # to what z tells of x: within its rounding
                torch.testing.assert_close(inverse_log_det, -log_det, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("alpha", [0.0, 1e-6, 0.05])
    @pytest.mark.parametrize(
        "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str
    )
    def test_the_inverse_stays_within_the_open_interval(self, alpha, dtype):
        z = torch.cat([torch.linspace(-100, 100, 801), torch.tensor([-1e4, 1e4])]).to(dtype)
        logit, reach = Logit(alpha), alpha / (1 - 2 * alpha)
        x, log_det = logit.inverse(z[:, None])
        assert x.dtype == dtype
        assert x.double().min() > -reach if reach else x.min() > 0
        assert x.double().max() < 1 + reach + torch.finfo(dtype).eps if reach else x.max() < 1
        again, log_det_again = logit(x)  # which a value outside would refuse
        assert all(t.isfinite().all() for t in (log_det, again, log_det_again))
        assert (x[1:-2] >= x[:-3]).all()

    def test_at_the_ends(self):
        ends = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
        for alpha in (1e-6, 0.05):
            z, log_det = Logit(alpha)(ends)
            end = math.log((1 - alpha) / alpha)
            assert z[0].tolist() == pytest.approx([-end, end])
            slope = (1 - 2 * alpha) / (alpha * (1 - alpha))
            assert log_det.item() == pytest.approx(2 * math.log(slope))
        for x in (ends, torch.tensor([[0.5, -0.1]])):
            with pytest.raises(ValueError, match=r"^Logit: data reach from .*alpha > 0"):
                Logit(0.0)(x)
        with pytest.raises(ValueError, match=r"reach from 0 to 1.06; expected .* 1 \+ 0.0555556$"):
            Logit(0.05)(torch.tensor([[0.0, 1.06]]))
        assert Logit(0.0)(torch.tensor([[math.nan]]))[0].isnan()

    @pytest.mark.parametrize("alpha", [-0.1, 0.5, math.nan])
    def test_bad_alpha(self, alpha):
        with pytest.raises(ValueError, match=r"^Logit: alpha is"):
            Logit(alpha)


class TestBoundedFlows:
    def test_a_logistic_base_is_the_uniform_law(self):
        x = unit(1000, 2, dtype=torch.float32).clamp(1e-7, 1 - 1e-7)
        log_prob = Flow(Logit(0.0), [2], base="logistic").log_prob(x)
        torch.testing.assert_close(log_prob, torch.zeros(1000), rtol=0, atol=1e-5)

    def test_grey_levels_under_the_uniform_law_take_their_bits(self):
        x = torch.randint(256, (5, 3), dtype=torch.uint8)
        y, log_det = UniformDequantization()(x)
        log_prob = Flow(Logit(0.0), [3], base="logistic").log_prob(y)
        bits = torch.full((5,), 8.0)
        torch.testing.assert_close(bits_per_dim(log_prob, 3), bits, rtol=0, atol=1e-5)
        torch.testing.assert_close(bits_per_dim(log_prob + log_det, 3, bins=1), bits)

    def test_densities_integrate_to_one_over_their_box(self):
        torch.manual_seed(0)
        flow = SplineFlow(2, num_layers=3, hidden_widths=[8]).double()
        redraw(flow, 0.3)
        on_the_square = Flow(Compose(Logit(0.0), flow.transform), [2])
        assert box_integral(on_the_square, [0, 0], [1, 1]) == pytest.approx(1.0, abs=1e-4)
        scaled = ElementwiseAffine([2.0, -1.0], [3.0, 0.5])
        in_a_box = Flow(Compose(scaled, Logit(0.0), flow.transform), [2])
        assert box_integral(in_a_box, [2, -1], [5, -0.5]) == pytest.approx(1.0, abs=1e-4)
        # with alpha, over the interval that its inverse fills
        wider = Flow(Compose(Logit(0.1), flow.transform), [2])
        reach = 0.1 / 0.8
        assert box_integral(wider, [-reach] * 2, [1 + reach] * 2) == pytest.approx(1.0, abs=1e-4)
        assert box_integral(wider, [0, 0], [1, 1]) < 0.99

    def test_a_density_on_the_simplex_integrates_to_one(self):
        transform = TorchBijection.onto(constraints.simplex)
        flow = Flow(transform, [3], latent_shape=[2])
        steps = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
        grid = torch.cartesian_prod(steps, steps)
        grid = grid[grid.sum(1) < 1 - 1e-9]
        x = torch.cat([grid, 1 - grid.sum(1, keepdim=True)], 1)
        # cells that the diagonal cuts count whole or not at all
        assert (flow.log_prob(x).exp().sum() / 1e6).item() == pytest.approx(1.0, abs=5e-3)
        assert torch.allclose(flow.sample(5).sum(1), torch.ones(5))

    @pytest.mark.parametrize("law", [Beta(1.0, 1.0), Beta(2.0, 5.0)], ids=["uniform", "beta"])
    def test_a_fit_reaches_the_entropy(self, law):
        """Of which that of the uniform law is 0."""
        torch.manual_seed(0)
        spline = SplineFlow(2, num_layers=2, hidden_widths=[16], tail_bound=6.0, num_bins=16)
        standard = ElementwiseAffine.standardize(Logit()(law.sample((10_000, 2)))[0])
        flow = Flow(Compose(Logit(), standard, spline.transform), [2])
        optimiser = torch.optim.Adam(flow.parameters(), 1e-2)
        for step in range(120):
            optimiser.param_groups[0]["lr"] = 1e-2 * (1 - step / 120)
            loss = -flow.log_prob(law.sample((512, 2))).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            x = law.sample((50_000, 2))
            excess = law.log_prob(x).sum(1) - flow.log_prob(x)
        error = 4 * excess.std().item() / math.sqrt(len(x))
        assert -error < excess.mean().item() < 0.03 + error


class TestElementwiseAffine:
    @pytest.mark.parametrize("shape", [(200, 3), (40, 3, 5, 2)])
    def test_standardize(self, shape):
        x = randn(*shape) * 1e-3 + 7
        z, log_det = ElementwiseAffine.standardize(x)(x)
        channels = z.transpose(0, 1).flatten(1)
        torch.testing.assert_close(channels.mean(1), torch.zeros(3).double(), rtol=0, atol=1e-9)
        torch.testing.assert_close(channels.var(1, correction=0), torch.ones(3).double())
        deviations = x.transpose(0, 1).flatten(1).std(1, correction=0)
        expected = -deviations.log().sum() * math.prod(shape[2:])
        torch.testing.assert_close(log_det, expected.expand(len(x)))

    def test_min_max_reaches_0_and_1_and_nothing_beyond(self):
        for seed, dtype in ((0, torch.float32), (1, torch.float64), (2, torch.float32)):
            x = 1e3 * randn(50, 200, seed=seed).to(dtype)
            z = ElementwiseAffine.min_max(x)(x)[0]
            assert torch.equal(z.amin(0), torch.zeros(200, dtype=dtype))
            assert torch.equal(z.amax(0), torch.ones(200, dtype=dtype))
            Logit()(z)

    @pytest.mark.parametrize("method", ["standardize", "min_max"])
    @pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
    def test_a_constant_column_keeps_its_scale(self, method, value):
        # In float64 the mean of 70 times 0.1 is rounded, and the variance is not 0.
        x = torch.stack([torch.full((70,), value), torch.linspace(0, 8, 70)], 1).double()
        x[:, 0] = value
        transform = getattr(ElementwiseAffine, method)(x)
        assert transform.scale[0] == 1
        z, log_det = transform(x)
        assert z[:, 0].abs().max() <= 1e-6 * max(value, 1)
        assert log_det.isfinite().all()
        torch.testing.assert_close(transform.inverse(z)[0], x)

    def test_it_is_saved_and_not_trained(self):
        transform = ElementwiseAffine([1, 2], [3, 4])
        other = ElementwiseAffine([0.0, 0.0], [1.0, 1.0])
        other.load_state_dict(transform.state_dict())
        assert not list(transform.parameters())
        assert other.double().inverse(torch.ones(1, 2).double())[0].tolist() == [[4.0, 6.0]]
        with torch.device("meta"):
            made = ElementwiseAffine([1.0, 2.0], [3.0, 4.0])
        assert made.to_empty(device="cpu").scale.tolist() == [3.0, 4.0]

    def test_bad_input_is_named(self):
        for arguments in (([0.0], [1.0, 2.0]), ([], []), ([0.0], [0.0]), ([math.nan], [1.0])):
            with pytest.raises(ValueError, match=r"^ElementwiseAffine: "):
                ElementwiseAffine(*arguments)
        x = torch.ones(3, 2)
        with pytest.raises(ValueError, match=r"^ElementwiseAffine: data have shape \[3, 2\]"):
            ElementwiseAffine([0.0] * 3, [1.0] * 3)(x)
        for method in (ElementwiseAffine.standardize, ElementwiseAffine.min_max):
            with pytest.raises(TypeError, match=r"^ElementwiseAffine\.\w+: data are torch.int64"):
                method(x.long())
            with pytest.raises(ValueError, match=r"data have shape \[0, 2\]"):
                method(x[:0])
            with pytest.raises(ValueError, match=r"column 1 has values that are not finite \(1 of"):
                method(torch.tensor([[1.0, math.nan], [2.0, 3.0]]))


class TestTorchBijection:
    def test_it_is_copied_and_pickled(self):
        for name in ("columns", "interval", "softplus"):
            transform, x = TRANSFORMS[name](), unit(4, 3)
            for same in (copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):
                torch.testing.assert_close(same(x), transform(x))

    @pytest.mark.parametrize(
        ("support", "value"),
        [
            (constraints.positive, 0.0),
            (constraints.interval(-2.0, 5.0), 5.5),
            (constraints.unit_interval, -0.5),
            (constraints.greater_than(1.0), math.nan),
        ],
        ids=str,
    )
    def test_data_outside_of_the_support_are_refused(self, support, value):
        transform = TorchBijection.onto(support)
        with pytest.raises(ValueError, match=r"^TorchBijection: got values from .* within "):
            transform(torch.tensor([[2.0, value]]))
        assert transform.inverse(torch.tensor([[math.nan]]))[0].isnan()

    def test_latents_outside_of_the_range_are_refused(self):
        turned = Inverse(TorchBijection(transforms.TanhTransform()))
        with pytest.raises(ValueError, match=r"^TorchBijection: got values from 1 to 2"):
            turned.inverse(torch.tensor([[1.0, 2.0]]))

    def test_bad_input_is_named(self):
        with pytest.raises(TypeError, match=r"^TorchBijection: got a Logit"):
            TorchBijection(Logit())
        with pytest.raises(ValueError, match=r"^TorchBijection: AbsTransform\(\) is not bijective"):
            TorchBijection(transforms.AbsTransform())
        exp = transforms.ExpTransform()
        nested = transforms.ComposeTransform([exp, transforms.CatTransform([exp.inv])])
        for inverse in (exp.inv, nested, transforms.IndependentTransform(exp.inv, 1)):
            with pytest.raises(ValueError, match=r"holds the inverse of a transform"):
                TorchBijection(inverse)
        with pytest.raises(ValueError, match=r"rows of at least 1 dim"):
            TorchBijection.onto(constraints.simplex)(torch.ones(3))
        with pytest.raises(NotImplementedError):
            TorchBijection.onto(constraints.boolean)
