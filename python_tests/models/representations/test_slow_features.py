"""Slow feature analysis against closed forms: sinusoids, their mixtures, and white noise."""

import math

import pytest
import torch

from gencore.models import SlowFeatures, quadratic_expansion

NUM = 4000


def sinusoids(periods, num=NUM):
    """Whole periods, so that they are uncorrelated, with unit variance; [T, J] in float64."""
    time = torch.arange(num, dtype=torch.float64) / num
    phases = torch.linspace(0.3, 1.9, len(periods), dtype=torch.float64)
    return torch.stack(
        [
            math.sqrt(2) * (2 * math.pi * number * time + phase).sin()
            for number, phase in zip(periods, phases, strict=True)
        ],
        1,
    )


def mixed(sources, size, seed=0):
    """In a random basis, moved, with directions of very different scales."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(sources.shape[1], size, generator=generator, dtype=torch.float64)
    return sources @ matrix * torch.logspace(-1, 2, size, dtype=torch.float64) + 5


def correlations(y, sources):
    """[J, K]"""
    return torch.corrcoef(torch.cat([y, sources], 1).T)[: y.shape[1], y.shape[1] :]


def test_b25_slow_sources_come_back_up_to_sign_and_in_order():
    sources = sinusoids([13, 2, 40, 5])
    y = SlowFeatures(4, 4).fit(mixed(sources, 4)).double()(mixed(sources, 4))
    found = correlations(y, sources[:, [1, 3, 0, 2]]).abs()
    torch.testing.assert_close(found, torch.eye(4, dtype=torch.float64), atol=2e-3, rtol=0)


def test_the_slowness_of_sinusoids_is_known():
    """⟨(y(t + 1) − y(t))²⟩ = 2(1 − cos ω) for unit variance, ω the angle of a step."""
    periods = [2, 5, 13]
    model = SlowFeatures(3, 3).double().fit(mixed(sinusoids(periods), 3))
    expected = torch.tensor([2 - 2 * math.cos(2 * math.pi * k / NUM) for k in periods])
    torch.testing.assert_close(model.slowness, expected.double(), rtol=2e-3, atol=0)


def test_b25_features_have_unit_variance_and_no_correlation_and_are_in_order():
    torch.manual_seed(0)
    x = torch.randn(5, 300, 6, dtype=torch.float64).cumsum(1) + torch.randn(5, 300, 6)
    model = SlowFeatures(6, 6).double().fit(x)
    y = model(x)
    rows = y.flatten(0, 1)
    torch.testing.assert_close(rows.mean(0), torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(rows.T @ rows / len(rows), torch.eye(6, dtype=torch.float64))
    steps = y.diff(dim=1).flatten(0, 1)
    # The steps are uncorrelated too, and their mean squares are the slowness.
    torch.testing.assert_close(steps.T @ steps / len(steps), model.slowness.diag())
    assert (model.slowness.diff() > 0).all()


def test_no_other_direction_is_slower():
    """The quotient of every direction lies between the smallest and the largest slowness."""
    torch.manual_seed(1)
    x = torch.randn(500, 4, dtype=torch.float64).cumsum(0) @ torch.randn(4, 4).double()
    model = SlowFeatures(4, 4).double().fit(x)
    directions = torch.randn(4, 1000, dtype=torch.float64)
    y = (x - x.mean(0)) @ directions
    quotient = y.diff(dim=0).square().mean(0) / y.square().mean(0)
    assert quotient.min() >= model.slowness[0] * (1 - 1e-9)
    assert quotient.max() <= model.slowness[-1] * (1 + 1e-9)


def test_b25_a_slow_latent_of_a_quadratic_mixture():
    """Wiskott and Sejnowski's first example: x₁ = sin t + cos² 11t, x₂ = cos 11t. The slow sin t is
    x₁ − x₂², which linear functions do not reach."""
    t = torch.linspace(0, 2 * math.pi, 2001, dtype=torch.float64)[:-1]
    x = torch.stack([t.sin() + (11 * t).cos().square(), (11 * t).cos()], 1)
    source = t.sin()[:, None]
    for degree, least, most in ((1, 0, 0.99), (2, 0.99999, 1.00001)):
        model = SlowFeatures(2, 1, degree=degree).double().fit(x)
        assert least < correlations(model(x), source).abs().item() < most
    weight = model.weight[:, 0] / model.weight[0, 0]  # of x₁, x₂, x₁², x₁x₂ and x₂²
    torch.testing.assert_close(weight, torch.tensor([1.0, 0, 0, 0, -1]).double(), atol=1e-2, rtol=0)


def test_white_noise_has_a_slowness_of_2():
    """⟨(y(t + 1) − y(t))²⟩ = 2, within the spread of eigenvalues of 20,000 times."""
    torch.manual_seed(2)
    model = SlowFeatures(3, 3).fit(torch.randn(20_000, 3))
    assert ((model.slowness - 2).abs() < 0.1).all()


def test_signals_are_not_continued_in_each_other():
    """Two constant levels with a jump between them: within a signal nothing moves."""
    torch.manual_seed(3)
    level = torch.tensor([-1.0, 1.0])[:, None, None].expand(2, 100, 1)
    x = torch.cat([level, torch.randn(2, 100, 1)], 2) @ torch.randn(2, 2)
    model = SlowFeatures(2, 1).fit(x)
    assert model.slowness.item() < 1e-10
    apart = model(x)[..., 0].mean(1)
    assert (apart[0] - apart[1]).abs().item() == pytest.approx(2, rel=1e-3)
    assert SlowFeatures(2, 1).fit(x.flatten(0, 1)).slowness.item() > 0.01


def test_directions_without_variance_are_left_out():
    """A signal of two sources in four entries has two features, and not a third one."""
    sources = sinusoids([2, 9])
    x = mixed(sources, 4)
    y = SlowFeatures(4, 2).double().fit(x)(x)
    found = correlations(y, sources).abs()
    torch.testing.assert_close(found, torch.eye(2, dtype=torch.float64), atol=2e-3, rtol=0)
    with pytest.raises(ValueError, match=r"varies in 2 directions .*expected at least the 3"):
        SlowFeatures(4, 3).fit(x)
    with pytest.raises(ValueError, match="varies in 0 directions"):
        SlowFeatures(4, 1).fit(torch.ones(10, 4))


def test_the_expansion_has_all_products_once():
    x = torch.randn(5, 3, dtype=torch.float64)
    expected = [x[:, i] for i in range(3)]
    expected += [x[:, i] * x[:, j] for i in range(3) for j in range(i, 3)]
    torch.testing.assert_close(quadratic_expansion(x), torch.stack(expected, 1))
    assert SlowFeatures(3, 9, degree=2).mean.shape == (9,)


def test_the_largest_weight_is_positive_and_a_stored_model_is_the_same():
    x = mixed(sinusoids([2, 9]), 2)
    model = SlowFeatures(2, 2).fit(x)
    for weight in model.weight.T:
        assert weight[weight.abs().argmax()] > 0
    torch.testing.assert_close(SlowFeatures(2, 2).fit(x[:, :] * 1.0).weight, model.weight)
    other = SlowFeatures(2, 2)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(x.float()), model(x.float()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": 0}, "features is 0"),
        ({"num_features": 0}, "num_features is 0"),
        ({"num_features": 3}, "num_features is 3; expected at most 2"),
        ({"num_features": 6, "degree": 2}, "num_features is 6; expected at most 5"),
        ({"degree": 3}, "degree is 3"),
        ({"tolerance": 1.0}, "tolerance 1.0"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"SlowFeatures: .*{message}"):
        SlowFeatures(**{"features": 2, "num_features": 1, **options})


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(10, 3), r"shape \[1, 10, 3\]; expected \[T, 2\]"),
        (torch.zeros(1, 2), "two times or more"),
        (torch.zeros(2), r"shape \[2\]"),
        (torch.full((5, 2), torch.nan), "not all finite"),
    ],
)
def test_signals_that_do_not_fit(x, message):
    with pytest.raises(ValueError, match=f"SlowFeatures.fit: .*{message}"):
        SlowFeatures(2, 1).fit(x)


def test_calls_that_do_not_fit():
    model = SlowFeatures(2, 1)
    with pytest.raises(RuntimeError, match="call fit first"):
        model(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"x has shape \[3\]; expected \[..., 2\]"):
        model.fit(torch.randn(9, 2))(torch.zeros(3))
