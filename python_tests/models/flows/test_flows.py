"""Flows as densities: exact Jacobians, grids, known entropies."""

import math
from collections.abc import Callable

import pytest
import torch
from testing.flow_testing import (
    FLOWS,
    check_transform,
    gaussian_entropy,
    grid_integral,
    jacobian_log_det,
    randn,
    randomize,
    ready,
)
from torch.distributions import Normal

from gencore.data import load_density
from gencore.models import (
    MAF,
    NICE,
    CouplingFlow,
    Flow,
    Glow,
    PlanarFlow,
    RadialFlow,
    RealNVP,
    ResidualFlow,
    SplineFlow,
)
from gencore.nn import Permutation, SplineCoupling

VECTOR_FLOWS: dict[str, Callable[..., Flow]] = {
    "NICE": lambda features, **options: NICE(features, hidden_widths=(16,), **options),
    "CouplingFlow": lambda features, **options: CouplingFlow(
        features, hidden_widths=(16,), **options
    ),
}

IMAGE_FLOWS: dict[str, Callable[..., Flow]] = {
    "Glow": lambda shape, **options: Glow(
        shape, num_levels=2, num_steps=2, hidden_channels=8, **options
    ),
    "additive Glow": lambda shape, **options: Glow(
        shape, num_levels=1, num_steps=2, hidden_channels=8, coupling="additive", **options
    ),
    "spline Glow": lambda shape, **options: Glow(
        shape, num_levels=2, num_steps=1, hidden_channels=8, coupling="spline", **options
    ),
    "RealNVP": lambda shape, **options: RealNVP(shape, hidden_channels=4, num_blocks=1, **options),
}


@pytest.mark.parametrize("features", [2, 3, 7])
@pytest.mark.parametrize("context_size", [0, 2])
@pytest.mark.parametrize("name", VECTOR_FLOWS)
def test_vector_flows_invert_with_exact_jacobians(name, context_size, features):
    torch.manual_seed(0)
    flow = ready(VECTOR_FLOWS[name](features, context_size=context_size))
    context = torch.randn(3, context_size, dtype=torch.float64) if context_size else None
    check_transform(flow.transform, torch.randn(3, features, dtype=torch.float64), context)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 8)])
@pytest.mark.parametrize("context_size", [0, 2])
@pytest.mark.parametrize("name", IMAGE_FLOWS)
def test_image_flows_invert_with_exact_jacobians(name, context_size, shape):
    torch.manual_seed(0)
    flow = ready(IMAGE_FLOWS[name](shape, context_size=context_size), scale=0.1)
    context = torch.randn(2, context_size, dtype=torch.float64) if context_size else None
    check_transform(flow.transform, torch.randn(2, *shape, dtype=torch.float64), context)


def test_ten_couplings_on_the_plane_are_exact():
    """Inverse, log-determinant, integral; and log q(x) at x = g(z) from either direction, so that
    both forms of KL(q‖p) agree: E_q log q and E_z[log q₀(z) − log|det g′(z)|]."""
    torch.manual_seed(0)
    flow = ready(CouplingFlow(2, num_layers=10, hidden_widths=(16, 16)), scale=0.15)
    close = {"rtol": 0.0, "atol": 1e-10}
    x = randn(100, 2)
    z, log_det = flow.transform(x)
    torch.testing.assert_close(flow.transform.inverse(z)[0], x, **close)
    expected = jacobian_log_det(lambda t: flow.transform(t)[0], x)
    torch.testing.assert_close(log_det, expected, **close)
    assert log_det.std() > 0.1  # far from a map that keeps volumes
    assert grid_integral(flow, 40, 1001) == pytest.approx(1, abs=1e-3)
    z = randn(100, 2, seed=1)
    x, log_det = flow.transform.inverse(z)
    of_latents = Normal(0, 1).log_prob(z).sum(1) - log_det
    torch.testing.assert_close(flow.log_prob(x), of_latents, **close)


@pytest.mark.parametrize("base", ["normal", "logistic"])
@pytest.mark.parametrize("name", VECTOR_FLOWS)
def test_densities_on_the_plane_integrate_to_one(name, base):
    torch.manual_seed(0)
    flow = ready(VECTOR_FLOWS[name](2, num_layers=4, base=base), scale=0.1)
    reach = 15 if base == "normal" else 70  # the flow stretches its latents
    assert grid_integral(flow, reach, 401) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", sorted(FLOWS.keys() - {"CircularSplineFlow"}))
def test_every_flow_takes_either_base(name):
    """The densities of the bases differ by a factor that the latents alone decide."""
    torch.manual_seed(0)
    normal, logistic = (FLOWS[name](base=base) for base in ("normal", "logistic"))
    normal, logistic = ready(normal, 0.1), logistic.double().eval()
    logistic.load_state_dict(normal.state_dict())
    x = normal.sample(5)
    z = normal.transform(x)[0].flatten(1)
    density = Normal(0, 1).log_prob(z).sum(1)
    other = (-z - 2 * torch.nn.functional.softplus(-z)).sum(1)
    torch.testing.assert_close(logistic.log_prob(x) - normal.log_prob(x), other - density)


@pytest.mark.parametrize("name", VECTOR_FLOWS)
def test_a_conditional_density_integrates_to_one_for_every_context(name):
    torch.manual_seed(0)
    flow = ready(VECTOR_FLOWS[name](2, num_layers=4, context_size=1, base="normal"), scale=0.2)
    for value in (-2.0, 2.0):
        context = torch.tensor([[value]], dtype=torch.float64)
        integral = grid_integral(flow, 15, 401, context)
        assert integral == pytest.approx(1, abs=1e-3)


def test_a_trained_flow_reaches_the_entropy_of_a_gaussian():
    generator = torch.Generator().manual_seed(0)
    factor = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.5, 0.0], [-0.3, 1.2, 0.7]])
    mean = torch.tensor([1.0, -2.0, 0.5])

    def draw(num: int) -> torch.Tensor:
        return mean + torch.randn(num, 3, generator=generator) @ factor.T

    torch.manual_seed(0)
    flow = CouplingFlow(3, num_layers=6, hidden_widths=(16,), generator=generator)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    for _ in range(400):
        loss = -flow.log_prob(draw(512)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    test = draw(50_000)
    with torch.no_grad():
        nll = -flow.log_prob(test)
    entropy = gaussian_entropy((factor @ factor.T).double())
    standard_error = nll.std().item() / math.sqrt(len(test))
    assert entropy - 4 * standard_error < nll.mean().item() < entropy + 4 * standard_error + 0.02


@pytest.mark.parametrize(
    "make",
    [
        lambda: Glow((3, 8, 8), num_levels=2, num_steps=8, hidden_channels=16),
        lambda: RealNVP((3, 8, 8), hidden_channels=8, num_blocks=1, batch_norm=False),
    ],
    ids=["Glow", "RealNVP"],
)
def test_fresh_image_flows_keep_large_inputs_finite(make):
    torch.manual_seed(0)
    flow = make()
    randomize(flow, scale=0.05)
    x = 10 * torch.randn(8, 3, 8, 8)
    log_prob = flow.log_prob(x)
    assert log_prob.isfinite().all()
    log_prob.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in flow.parameters())
    z, _ = flow.transform(x)
    back = flow.eval().transform.inverse(flow.transform(x)[0])[0]
    assert (back - x).abs().max() < 1e-2
    assert z.isfinite().all()


def test_a_glow_of_splines_bends_what_it_is_given_and_gives_it_back_in_float32():
    torch.manual_seed(0)
    glow = Glow((3, 8, 8), num_levels=2, num_steps=4, hidden_channels=16, coupling="spline")
    x = torch.rand(64, 3, 8, 8) - 0.5
    start = glow.transform(x)[0]  # the first batch, which ActNorm takes its scales from
    couplings = [layer for layer in glow.modules() if isinstance(layer, SplineCoupling)]
    assert [(layer.num_bins, layer.tail_bound) for layer in couplings] == [(4, 3.0)] * 8
    inside = []
    for layer in couplings:
        layer.register_forward_hook(
            lambda layer, arguments, _: inside.append(
                (layer.moved(arguments[0]).abs() < 3).float().mean().item()
            )
        )
    redraw_last_layers(couplings)
    glow.eval()
    with torch.no_grad():
        z, log_det = glow.transform(x)
        back, inverse_log_det = glow.transform.inverse(z)
    assert min(inside) > 0.9
    assert (z - start).abs().mean() > 0.1
    assert (back - x).abs().max() < 1e-3
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=1e-3, atol=0.1)


def redraw_last_layers(couplings):
    with torch.no_grad():
        for layer in couplings:
            layer.network.last.weight.normal_(0, 0.05)


@pytest.mark.parametrize("features", [2, 64])
@pytest.mark.parametrize("bound", [2.0, None])
@pytest.mark.parametrize("kind", [CouplingFlow, MAF])
def test_fresh_deep_flows_keep_large_inputs_finite(kind, bound, features):
    """Log-scales start at zero, so that no depth and no scale of the data moves volumes."""
    torch.manual_seed(0)
    flow = kind(features, num_layers=32, bound=bound)
    x = 10 * torch.randn(16, features)
    z, log_det = flow.transform(x)
    assert not log_det.any()
    assert 0.5 < z.norm() / x.norm() < 2
    assert (z - x).norm() / x.norm() > 0.01
    torch.testing.assert_close(flow.transform.inverse(z)[0], x, rtol=1e-4, atol=1e-4)
    flow.log_prob(x).mean().backward()
    assert all(p.grad.abs().max() < 1e5 for p in flow.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", [CouplingFlow, MAF])
def test_flows_learn_coordinates_that_tell_nothing_of_one_another(kind):
    """From the identity they stay at the score of a normal, −2.83: a gradient has nothing to
    follow. Measured over the last 50 of 200 steps, with four seeds: −2.57 to −2.32."""
    torch.manual_seed(0)
    spots = load_density("twenty_five_gaussians")
    x = spots.sample(200 * 256, key=torch.tensor([1, 0])) / math.sqrt(2)
    flow, losses = kind(2), []
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
    for batch in x.split(256):
        loss = -flow.log_prob(batch).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sum(losses[-50:]) / 50 < 2.7


@pytest.mark.parametrize("kind", [CouplingFlow, SplineFlow])
def test_couplings_of_two_coordinates_take_turns(kind):
    """Whatever the seed: two in a row that move the same coordinate are one."""
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        flow = ready(kind(2, num_layers=6, mixing="permutation", generator=generator))
        path, moved = [torch.randn(1, 2, dtype=torch.float64)], []
        for layer in flow.transform:
            path.append(layer(path[-1])[0])
            if not isinstance(layer, Permutation):
                moved.append((path[-1] != path[-2])[0].tolist())
        assert moved == [[False, True], [True, False]] * 3
        assert all(
            layer.order.tolist() == [0, 1]
            for layer in flow.transform
            if isinstance(layer, Permutation)
        )


def test_activations_of_couplings():
    torch.manual_seed(0)
    relu, silu = (CouplingFlow(2, activation=name) for name in ("relu", "silu"))
    silu.load_state_dict(relu.state_dict())
    x = torch.randn(5, 2)
    assert not torch.allclose(relu.log_prob(x), silu.log_prob(x))
    with pytest.raises(ValueError, match="activation is 'sine'"):
        CouplingFlow(2, activation="sine")


def test_a_generator_reproduces_samples():
    flow = ready(CouplingFlow(2, hidden_widths=(8,)))
    a, b = (flow.sample(5, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a, b)


def test_the_identity_flow_has_its_base_density():
    flow, x = Flow(Permutation.reverse(2), [2]), torch.linspace(-9, 9, 20).view(10, 2)
    torch.testing.assert_close(flow().log_prob(x), Normal(0, 1).log_prob(x).sum(-1))
    logistic = Flow(Permutation.reverse(2), [2], base="logistic")
    far = torch.full((1, 2), 500.0)
    torch.testing.assert_close(logistic.log_prob(far), torch.tensor([-1000.0]))
    torch.manual_seed(0)
    x = logistic.sample(20_000)
    # variance π²/3, whose estimate has the relative standard error √((κ − 1)/n), κ = 4.2
    error = math.sqrt(3.2 / x.numel()) * math.pi**2 / 3
    assert abs(x.var().item() - math.pi**2 / 3) < 4 * error


def test_logistic_latents_in_half_precision():
    flow = NICE(2, hidden_widths=(8,)).bfloat16()
    assert flow.sample(5).dtype == torch.bfloat16
    assert flow.sample(5).isfinite().all()


def test_grey_levels_are_no_data():
    with pytest.raises(TypeError, match=r"Glow: data are torch\.uint8"):
        Glow((1, 8, 8), num_steps=1, hidden_channels=4).log_prob(
            torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Flow(Permutation.reverse(2), [2], base="cauchy"), "Flow: base is 'cauchy'"),
        (lambda: NICE(2, base="cauchy"), "NICE: base is 'cauchy'"),
        (lambda: Flow(Permutation.reverse(2), [2]).log_prob(torch.zeros(5, 3)), r"\[5, 3\]"),
        (lambda: Glow((3, 10, 8)), "multiples of 8"),
        (lambda: Glow((8, 8)), r"expected \(C, H, W\)"),
        (lambda: Glow((3, 8, 8), coupling="linear"), "coupling is 'linear'"),
        (lambda: Glow((3, 8, 8), coupling="spline", num_bins=1), "num_bins is 1"),
        (lambda: Glow((3, 8, 8), num_levels=0), "num_levels is 0"),
        (lambda: RealNVP((3, 7, 8)), "multiples of 2"),
        (lambda: RealNVP((3, 8, 8), num_scales=0), "num_scales is 0"),
        (lambda: NICE(0), "NICE: features is 0"),
        (lambda: CouplingFlow(0), "CouplingFlow: features is 0"),
        (lambda: SplineFlow(0), "SplineFlow: features is 0"),
        (lambda: NICE(2, num_layers=0), "NICE: num_layers is 0"),
        (lambda: CouplingFlow(2, num_layers=-1), "CouplingFlow: num_layers is -1"),
        (lambda: SplineFlow(2, num_layers=0), "SplineFlow: num_layers is 0"),
        (lambda: PlanarFlow(2, num_layers=0), "PlanarFlow: num_layers is 0"),
        (lambda: RadialFlow(2, num_layers=0), "RadialFlow: num_layers is 0"),
        (lambda: ResidualFlow(2, num_blocks=0), "ResidualFlow: num_blocks is 0"),
        (lambda: ResidualFlow(2, step_size=0.0), "ResidualFlow: step_size is 0.0"),
        (lambda: Glow((1, 8, 8), hidden_channels=0), "hidden_channels is 0"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_data_in_another_dtype_than_the_weights_are_named():
    with pytest.raises(TypeError, match=r"data are torch\.float64 and the weights torch\.float32"):
        CouplingFlow(2).log_prob(torch.zeros(5, 2, dtype=torch.float64))
