"""The gradient penalty: closed forms, and its second derivatives."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from gencore.nn import ConvDiscriminator
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


@pytest.mark.parametrize("blocks", ["plain", "residual"])
def test_gradients_in_the_weights_of_discriminators(blocks):
    torch.manual_seed(0)
    network = ConvDiscriminator((1, 4, 4), widths=(2, 3), blocks=blocks, stem=2).double()
    real, fake = pair(3, 1, 4, 4)
    names = [name for name, _ in network.named_parameters() if name.endswith("weight")]
    weights = [dict(network.named_parameters())[name].detach().clone() for name in names]

    def penalty(*values):
        def critic(x):
            return torch.func.functional_call(network, dict(zip(names, values, strict=True)), (x,))

        return gradient_penalty(critic, real, fake, key=KEY)

    assert gradcheck(penalty, [weight.requires_grad_() for weight in weights])


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
