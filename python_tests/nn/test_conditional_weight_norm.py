"""Filters of class-dependent norms, and the projection of a class: values by hand, slopes, fits."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from gencore.nn import ConditionalWeightNorm, DCGANDiscriminator, ProjectionDiscriminator

LABELS = torch.tensor([2, 0, 1, 2, 2])


def layers():
    return {
        "linear": (nn.Linear(4, 3), (5, 4), functional.linear),
        "convolution": (nn.Conv2d(4, 6, 3), (5, 4, 6, 5), functional.conv2d),
        "grouped": (
            nn.Conv2d(4, 6, 3, groups=2, bias=False),
            (5, 4, 6, 5),
            lambda *given: functional.conv2d(*given, groups=2),
        ),
        "transposed": (
            nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1),
            (5, 4, 3, 2),
            lambda *given: functional.conv_transpose2d(*given, stride=2, padding=1),
        ),
    }


@pytest.fixture(params=["linear", "convolution", "grouped", "transposed"])
def case(request):
    """A layer with gains and biases of its own for each of three classes, data, and the plain
    operator."""
    torch.manual_seed(0)
    plain, shape, operator = layers()[request.param]
    layer = ConditionalWeightNorm(plain.double(), 3)
    nn.init.normal_(layer.gain)
    nn.init.normal_(layer.bias)
    return layer, torch.randn(shape, dtype=torch.float64), operator


def filters(layer, weight):
    return weight.movedim(layer.channel_axis, 0).flatten(1)


def test_the_norm_of_a_filter_is_its_gain(case):
    layer, _, _ = case
    for label in range(3):
        norms = filters(layer, layer.weight(label)).norm(dim=1)
        torch.testing.assert_close(norms, layer.gain[label].abs())


def test_it_is_the_convolution_of_each_class(case):
    """Data point by data point, by g v / ‖v‖ written out."""
    layer, x, operator = case
    v = layer.layer.weight
    by_filter = filters(layer, v)
    unit = (by_filter / by_filter.square().sum(1, keepdim=True).sqrt()).reshape(
        v.movedim(layer.channel_axis, 0).shape
    )
    y = layer(x, LABELS)
    for n, label in enumerate(LABELS.tolist()):
        gain = layer.gain[label].reshape(-1, *[1] * (v.ndim - 1))
        weight = (gain * unit).movedim(0, layer.channel_axis)
        torch.testing.assert_close(y[n : n + 1], operator(x[n : n + 1], weight, layer.bias[label]))


def test_the_slope_is_orthogonal_to_the_directions(case):
    layer, x, _ = case
    layer(x, LABELS).square().sum().backward()
    v, slope = filters(layer, layer.layer.weight), filters(layer, layer.layer.weight.grad)
    assert (slope.norm(dim=1) > 1e-2).all()
    torch.testing.assert_close((v * slope).sum(1), torch.zeros(len(v), dtype=torch.float64))


def test_gradients(case):
    layer, x, _ = case

    def apply(x, v, gain, bias):
        given = {"layer.weight": v, "gain": gain, "bias": bias}
        return torch.func.functional_call(layer, given, (x[:2], LABELS[:2]))

    x.requires_grad_()
    assert torch.autograd.gradcheck(apply, (x, layer.layer.weight, layer.gain, layer.bias))


def test_every_class_starts_as_the_layer():
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 5, 3)
    x = torch.randn(5, 3, 6, 6)
    expected = plain(x)
    torch.testing.assert_close(ConditionalWeightNorm(plain, 3)(x, LABELS), expected)


def test_one_class_is_weight_normalisation():
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 5, 3)
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 5, 3))
    normed.load_state_dict(
        {
            "bias": plain.bias,
            "parametrizations.weight.original0": torch.full((5, 1, 1, 1), 2.0),
            "parametrizations.weight.original1": plain.weight,
        }
    )
    layer = ConditionalWeightNorm(plain, 1)
    nn.init.constant_(layer.gain, 2.0)
    x = torch.randn(4, 3, 6, 6)
    labels = torch.zeros(4, dtype=torch.int64)
    torch.testing.assert_close(layer(x, labels), normed(x))


def test_a_row_depends_on_its_own_label_alone():
    torch.manual_seed(0)
    layer = ConditionalWeightNorm(nn.Linear(4, 3), 3)
    nn.init.normal_(layer.gain)
    x = torch.randn(2, 4)
    before, after = (layer(x, torch.tensor([0, label])) for label in (1, 2))
    assert torch.equal(before[0], after[0])
    assert (before[1] != after[1]).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ConditionalWeightNorm(nn.ReLU(), 3), TypeError, "layer is ReLU; expected a lin"),
        (lambda: ConditionalWeightNorm(nn.Linear(2, 2), 0), ValueError, "num_classes is 0"),
        (
            lambda: ConditionalWeightNorm(nn.ConvTranspose2d(4, 4, 3, groups=2), 3),
            ValueError,
            "layer has 2 groups",
        ),
    ],
)
def test_layers_that_do_not_fit(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_filter_of_zeros_has_no_direction():
    layer = nn.Linear(2, 2)
    nn.init.zeros_(layer.weight)
    with pytest.raises(ValueError, match="a filter of zeros"):
        ConditionalWeightNorm(layer, 3)


class TestProjection:
    def test_it_is_the_equation(self):
        torch.manual_seed(0)
        discriminator = ProjectionDiscriminator(nn.Tanh(), 4, 3).double()
        x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
        phi = torch.tanh(x)
        expected = [
            phi[n] @ discriminator.embedding.weight[label]
            + phi[n] @ discriminator.last.weight[0]
            + discriminator.last.bias[0]
            for n, label in enumerate(LABELS.tolist())
        ]
        torch.testing.assert_close(discriminator(x, LABELS), torch.stack(expected))
        assert torch.autograd.gradcheck(lambda x: discriminator(x, LABELS), (x,))

    def test_it_learns_the_ratio_of_normal_densities(self):
        """Data N(μ_y, I), samples N(ν_y, I), of equal |μ_y| and |ν_y|, so that the best logit
        (μ_y − ν_y)·x has no term that depends on the class alone: e(y) + w is μ_y − ν_y."""
        torch.manual_seed(0)
        angles = torch.tensor([[0.0, 1.0], [2.0, 4.0], [4.5, 4.5]])
        mu, nu = (torch.stack([a.cos(), a.sin()], 1) for a in angles.T)
        discriminator = ProjectionDiscriminator(nn.Identity(), 2, 3)
        labels = torch.arange(3).repeat(20_000)
        real, fake = (mean[labels] + torch.randn(len(labels), 2) for mean in (mu, nu))
        optimizer = torch.optim.LBFGS(
            discriminator.parameters(), max_iter=100, line_search_fn="strong_wolfe"
        )

        def closure():
            optimizer.zero_grad()
            loss = functional.softplus(-discriminator(real, labels)).mean()
            loss = loss + functional.softplus(discriminator(fake, labels)).mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        slopes = discriminator.embedding.weight + discriminator.last.weight
        # 20,000 of each class: a weight's standard error is below 1.6 / √20,000 = 0.011.
        torch.testing.assert_close(slopes, mu - nu, rtol=0, atol=0.05)

    def test_calls_that_do_not_fit(self):
        discriminator = ProjectionDiscriminator(nn.Identity(), 2, 3)
        with pytest.raises(ValueError, match=r"features have shape \[1, 3\]; expected \[1, 2\]"):
            discriminator(torch.zeros(1, 3), torch.tensor([0]))
        with pytest.raises(ValueError, match=r"labels have shape \[2\] for 1 data points"):
            discriminator(torch.zeros(1, 2), torch.tensor([0, 1]))
        with pytest.raises(IndexError, match="labels are from 3 to 3; expected classes from 0 to"):
            discriminator(torch.zeros(1, 2), torch.tensor([3]))
        with pytest.raises(ValueError, match="num_classes is 0"):
            ProjectionDiscriminator(nn.Identity(), 2, 0)

    def test_it_takes_the_features_of_a_convolutional_discriminator(self):
        convolutional = DCGANDiscriminator((1, 8, 8), width=4)
        conditional = ProjectionDiscriminator(convolutional.features, convolutional.num_features, 3)
        conditional(torch.rand(5, 1, 8, 8), LABELS).sum().backward()
        assert conditional.embedding.weight.grad.abs().sum(1).gt(0).all()
