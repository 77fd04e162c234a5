"""The code that latents correct (3.11): at no latents, its gradients, its affine form."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from gencore.nn import DeltaCode


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.fixture(params=["eq3.11", "velocity"])
def layer(request):
    torch.manual_seed(0)
    return DeltaCode(6, 2, form=request.param, init_std=1.0).double()


@pytest.mark.parametrize(("form", "weights"), [("eq3.11", (1, 0)), ("velocity", (2, -1))])
def test_no_latents_give_the_last_code_or_the_extrapolation(form, weights):
    z1, z2 = random(2, 5, 6)
    code = DeltaCode(6, 2, form=form).double()(z1, z2, torch.zeros(5, 2).double())
    torch.testing.assert_close(code, weights[0] * z2 + weights[1] * z1)


def test_the_printed_form_with_the_velocity_and_a_gate_of_one_is_the_extrapolation():
    layer = DeltaCode(6, 1, coefficients=(1, -1)).double()
    torch.nn.init.ones_(layer.weight)
    z1, z2 = random(2, 5, 6)
    torch.testing.assert_close(layer(z1, z2, torch.ones(5, 1).double()), 2 * z2 - z1)


def test_gradcheck(layer):
    z1, z2, delta = random(3, 2, 3), random(3, 2, 3, seed=1), random(3, 2, seed=2)
    inputs = [x.requires_grad_() for x in (z1, z2, delta)]

    def function(z1, z2, delta, weight):
        return torch.func.functional_call(layer, {"weight": weight}, (z1, z2, delta))

    assert gradcheck(function, (*inputs, layer.weight))
    assert gradgradcheck(function, (*inputs, layer.weight))


def test_gradients_of_the_printed_form():
    """∂δ = Wᵀ(g ⊙ u), ∂W = (g ⊙ u)ᵀδ, ∂z² = g + a₂(Wδ) ⊙ g, ∂z¹ = a₁(Wδ) ⊙ g."""
    layer = DeltaCode(6, 2, init_std=1.0).double()
    z1, z2, g = random(3, 4, 6)
    delta, weight = random(4, 2, seed=1), layer.weight.detach()
    u, gate = 2 * z2 - z1, delta @ weight.T
    inputs = [x.clone().requires_grad_() for x in (z1, z2, delta)]
    grads = torch.autograd.grad(layer(*inputs), [*inputs, layer.weight], g)
    expected = (-gate * g, g + 2 * gate * g, (g * u) @ weight, (g * u).T @ delta)
    torch.testing.assert_close(grads, expected, rtol=0, atol=1e-12)


def test_the_affine_form_is_the_code(layer):
    z1, z2, delta = random(3, 2, 3), random(3, 2, 3, seed=1), random(3, 2, seed=2)
    constant, slopes = layer.affine(z1, z2)
    assert slopes.shape == (3, 2, 2, 3)
    code = constant + torch.einsum("nk,nk...->n...", delta, slopes)
    torch.testing.assert_close(code, layer(z1, z2, delta))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DeltaCode(0, 1), "code_size is 0; expected at least 1"),
        (lambda: DeltaCode(4, 1, form="linear"), "form is 'linear'; expected one of eq3.11, vel"),
        (
            lambda: DeltaCode(4, 1, form="velocity", coefficients=(2.0, -1.0)),
            r"coefficients are \(2.0, -1.0\) with form 'velocity'",
        ),
        (
            lambda: DeltaCode(4, 1)(torch.ones(2, 4), torch.ones(2, 5), torch.ones(2, 1)),
            r"codes of shape \[2, 4\] and \[2, 5\]; expected two of shape \[N, ...\] with 4 elem",
        ),
        (
            lambda: DeltaCode(4, 2)(torch.ones(2, 4), torch.ones(2, 4), torch.ones(3, 2)),
            r"delta of shape \[3, 2\]; expected \[2, 2\]",
        ),
    ],
)
def test_what_does_not_fit_is_told(call, message):
    with pytest.raises(ValueError, match=f"^DeltaCode: .*{message}"):
        call()
