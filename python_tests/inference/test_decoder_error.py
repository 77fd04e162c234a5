"""Errors of decoders as functions of latents: by hand, ahead of the loop, and by autograd alike."""

import pytest
import torch
from torch import nn

from gencore.inference import DecoderError, infer_latents


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def decoder(kind):
    torch.manual_seed(0)
    layers = {
        "affine": [nn.Linear(6, 9), nn.Linear(9, 4, bias=False)],
        "perceptron": [nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 4)],
        "relu first": [nn.ReLU(), nn.Linear(6, 4)],
        "tanh": [nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4)],
        "convolutions": [
            nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(),
            nn.Linear(12, 4),
        ],
    }  # fmt: skip
    return nn.Sequential(*layers[kind]).double()


KINDS = pytest.mark.parametrize(
    "kind", ["affine", "perceptron", "relu first", "tanh", "convolutions"]
)


@KINDS
@pytest.mark.parametrize("num_calls", [1, 10])
def test_value_and_gradient_are_those_of_the_decoder(kind, num_calls):
    network, constant, slopes, target = decoder(kind), random(5, 6), random(5, 3, 6), random(5, 4)
    error = DecoderError(network, constant, slopes, target, num_calls=num_calls)
    delta = random(5, 3, seed=1).requires_grad_()
    code = constant + torch.einsum("nk,nkd->nd", delta, slopes)
    expected = (network(code) - target).square().sum(1)
    (gradient,) = torch.autograd.grad(expected.sum(), delta)
    for mode in (torch.enable_grad, torch.inference_mode):
        with mode():
            value, grad = error.energy_and_grad(delta.detach())
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(grad, gradient)
    torch.testing.assert_close(error(delta), expected)
    torch.testing.assert_close(torch.autograd.grad(error(delta).sum(), delta)[0], gradient)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_descent_takes_the_gradient_that_it_knows():
    network, calls = decoder("tanh"), []
    error = DecoderError(network, random(5, 6), random(5, 3, 6), random(5, 4))
    network[0].register_forward_hook(lambda *_: calls.append(1))
    delta = infer_latents(error, torch.zeros(5, 3).double(), num_steps=4, step_size=0.01)
    assert (error(delta) < error(torch.zeros(5, 3).double())).all()
    assert not calls  # the first layer was applied before


@KINDS
def test_a_decoder_with_hooks_is_called_as_it_is(kind):
    network, calls = decoder(kind), []
    network[0].register_forward_hook(lambda *_: calls.append(1))
    constant, slopes, target = random(5, 6), random(5, 3, 6), random(5, 4)
    error = DecoderError(network, constant, slopes, target)
    delta = random(5, 3, seed=1)
    value, grad = error.energy_and_grad(delta)
    assert len(calls) == 1
    same = DecoderError(decoder(kind), constant, slopes, target)
    torch.testing.assert_close((value, grad), same.energy_and_grad(delta))


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match=r"^DecoderError: constant has shape \[5, 6\] and slopes"):
        DecoderError(nn.Linear(6, 4), random(5, 6), random(5, 6, 3), random(5, 4))


def test_layers_that_work_in_place():
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Tanh(), nn.Linear(5, 4))
    network = network.double()
    constant, slopes, target = random(5, 6), random(5, 3, 6), random(5, 4)
    error, delta = DecoderError(network, constant, slopes, target), random(5, 3, seed=1)
    value, grad = error.energy_and_grad(delta)
    network[1].inplace = False
    torch.testing.assert_close((value, grad), error.energy_and_grad(delta))
