"""The gradient penalty: closed forms, and its second derivatives."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from gencore.models import AutoencoderEnergy, MultiScaleDiscriminator, image_pyramid
from gencore.nn import MLP, ConvDiscriminator, LookUpDiscriminator
from gencore.nn.parametrized import spectral_norm
from gencore.objectives import gradient_penalty

KEY = torch.tensor([3, 0])


def pair(*shape):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(2))


@pytest.mark.parametrize("norm", [0.0, 0.5, 1.0, 5.0])
def test_of_a_linear_critic_it_is_closed(norm):
    """λ(‖w‖ − 1)², with the gradient 2λ(‖w‖ − 1)w/‖w‖, and none where it has no direction."""
    real, fake = pair(6, 2, 2)
    w = (norm * torch.tensor([[0.6, 0.0], [0.0, 0.8]], dtype=torch.float64)).requires_grad_()
    penalty = gradient_penalty(lambda x: (x * w).sum((1, 2)), real, fake, weight=100.0)
    assert penalty.item() == pytest.approx(100 * (norm - 1) ** 2)
    penalty.backward()
    direction = w.detach() / norm if norm else torch.zeros_like(w)
    torch.testing.assert_close(w.grad, 200 * (norm - 1) * direction)


def test_the_slope_is_taken_between_data_and_samples():
    """Of ‖x‖²/2 it is ‖x̂‖: from samples at 1 to data at 3, (x̂ − 1)² has the mean 4/3."""
    fake = torch.ones(100_000, 1, dtype=torch.float64)
    penalty = gradient_penalty(
        lambda x: 0.5 * x.square().sum(1), 3 * fake, fake, weight=1.0, key=KEY
    )
    # The variance of (2u)² is 16/5 − 16/9.
    assert penalty.item() == pytest.approx(4 / 3, abs=4 * (16 / 5 - 16 / 9) ** 0.5 / 100_000**0.5)


def test_each_row_has_its_point_whatever_the_parts():
    real, fake = pair(6, 3)
    seen = []

    def critic(x):
        seen.append(x.detach())
        return x.sum(1)

    gradient_penalty(critic, real, fake, key=KEY)
    gradient_penalty(critic, real[2:], fake[2:], key=KEY, first=2)
    whole, part = seen
    assert torch.equal(whole[2:], part)
    u = (whole - fake) / (real - fake)
    torch.testing.assert_close(u, u[:, :1].expand(-1, 3))
    assert len(u[:, 0].unique()) == 6


def test_second_derivatives_of_a_smooth_critic():
    real, fake = pair(4, 3)

    def penalty(w, v):
        return gradient_penalty(lambda x: torch.tanh(x @ w) @ v, real, fake, key=KEY)

    generator = torch.Generator().manual_seed(1)
    w = torch.randn(3, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    v = torch.randn(5, dtype=torch.float64, generator=generator, requires_grad=True)
    assert gradcheck(penalty, (w, v))
    assert gradgradcheck(penalty, (w, v))


@pytest.mark.parametrize("norm", [0.0, 0.5, 1.0, 5.0])
def test_one_sided_it_leaves_small_slopes_alone(norm):
    """λ([‖w‖ − 1]⁺)²."""
    real, fake = pair(6, 2)
    w = (norm * torch.tensor([0.6, 0.8], dtype=torch.float64)).requires_grad_()
    penalty = gradient_penalty(lambda x: x @ w, real, fake, weight=100.0, one_sided=True)
    assert penalty.item() == pytest.approx(100 * max(norm - 1, 0) ** 2)
    penalty.backward()
    slope = 200 * max(norm - 1, 0) * torch.tensor([0.6, 0.8], dtype=torch.float64)
    torch.testing.assert_close(w.grad, slope)


LABELS = torch.tensor([0, 2, 1])


class FollowsFrames(nn.Module):
    """The second frame of each clip, as what follows the first."""

    def __init__(self, **options):
        super().__init__()
        self.network = MultiScaleDiscriminator(
            8, num_scales=2, num_inputs=1, channels=1, width=0.01, **options
        )

    def forward(self, clips):
        return self.network(clips[:, :1], image_pyramid(clips[:, 1], 2)).sum(1)


DISCRIMINATORS = {
    "plain": ((1, 4, 4), lambda: ConvDiscriminator((1, 4, 4), widths=(2, 3), blocks="plain")),
    "residual": ((1, 4, 4), lambda: ConvDiscriminator((1, 4, 4), widths=(2, 3), stem=2)),
    "perceptron": ((3,), lambda: nn.Sequential(MLP(3, (4,), 1, zero_last=False), nn.Flatten(0))),
    "rectified perceptron": (
        (3,),
        lambda: nn.Sequential(
            MLP(3, (8, 8), 1, activation="relu", zero_last=False), nn.Flatten(0)
        ),
    ),
    "spectrally normalised": (
        (3,),
        lambda: nn.Sequential(
            spectral_norm(nn.Linear(3, 4)), nn.Tanh(), spectral_norm(nn.Linear(4, 1)), nn.Flatten(0)
        ).eval(),
    ),
    "autoencoder": (
        (3,), lambda: AutoencoderEnergy(nn.Linear(3, 2), nn.Linear(2, 3), activation=nn.Tanh())
    ),
    "labelled vectors": ((4,), lambda: Labelled(LookUpDiscriminator((4,), 3, widths=(3,)))),
    "labelled images": (
        (1, 4, 4), lambda: Labelled(LookUpDiscriminator((1, 4, 4), 3, widths=(2,)))
    ),
    "frames": ((2, 1, 8, 8), FollowsFrames),
    "frames apart": ((2, 1, 8, 8), lambda: FollowsFrames(separate_frames=True)),
}  # fmt: skip


class Labelled(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x, LABELS)


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_gradients_in_the_weights_of_discriminators(name):
    """The backward pass of the penalty goes twice through every layer that they are made of."""
    torch.manual_seed(0)
    shape, make = DISCRIMINATORS[name]
    network = make().double()
    real, fake = pair(3, *shape)
    weights = {name: value.detach() for name, value in network.named_parameters()}

    def penalty(*values):
        def critic(x):
            return torch.func.functional_call(
                network, dict(zip(weights, values, strict=True)), (x,)
            )

        return gradient_penalty(critic, real, fake, key=KEY)

    values = [weight.clone().requires_grad_() for weight in weights.values()]
    assert gradcheck(penalty, values)
    gradients = torch.autograd.grad(penalty(*values), values, materialize_grads=True)
    assert any(gradient.any() for gradient in gradients)


class TestCompiled:
    """torch.compile's code has no second derivatives: the penalty goes round it."""

    @pytest.fixture
    def network(self):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0)).double()

    def gradients(self, network, loss):
        network.zero_grad()
        loss.backward()
        return [parameter.grad for parameter in network.parameters()]

    def test_a_compiled_critic_runs_uncompiled(self, network):
        real, fake = pair(6, 3)
        compiled = torch.compile(network, backend="aot_eager")
        compiled(real).sum().backward()
        expected = self.gradients(network, gradient_penalty(network, real, fake, key=KEY))
        found = self.gradients(network, gradient_penalty(compiled, real, fake, key=KEY))
        torch.testing.assert_close(found, expected)

    def test_a_compiled_step_leaves_its_graph(self, network):
        real, fake = pair(6, 3)

        def step(real, fake):
            return network(fake).mean() + gradient_penalty(network, real, fake, key=KEY)

        expected = self.gradients(network, step(real, fake))
        found = self.gradients(network, torch.compile(step, backend="aot_eager")(real, fake))
        torch.testing.assert_close(found, expected)

    def test_a_step_of_a_single_graph_is_refused(self, network):
        def step(x):
            return gradient_penalty(network, x, x + 1, key=KEY)

        with pytest.raises(Exception, match="compiled code cannot be differentiated twice"):
            torch.compile(step, backend="aot_eager", fullgraph=True)(next(pair(6, 3)))


def test_data_and_samples_get_no_gradient():
    real, fake = pair(4, 3)
    fake.requires_grad_()
    w = torch.ones(3, dtype=torch.float64, requires_grad=True)
    gradient_penalty(lambda x: x.square() @ w, real, fake).backward()
    assert fake.grad is None
    assert w.grad is not None


def test_it_works_without_gradients_around():
    real, fake = pair(4, 3)
    with torch.no_grad():
        assert gradient_penalty(lambda x: 2 * x[:, 0], real, fake).item() == pytest.approx(10)


def test_wrong_input_is_named():
    real, fake = pair(4, 3)
    with pytest.raises(ValueError, match=r"gradient_penalty: fake has shape \[3, 3\]; expected"):
        gradient_penalty(lambda x: x.sum(1), real, fake[1:])
    with pytest.raises(ValueError, match=r"the critic gives \[4, 3\]; expected \[4\]"):
        gradient_penalty(lambda x: x, real, fake)
