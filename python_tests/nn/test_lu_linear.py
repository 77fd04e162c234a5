"""Linear layers in PLU form, and flows that mix their coordinates by them."""

import copy
from typing import get_args

import pytest
import torch
from testing.flow_testing import check_transform, gaussian_entropy, randn, randomize

from gencore.models import MAF, CouplingFlow, Flow, SplineFlow
from gencore.nn import Compose, LinearStart, LULinear, Reversible

MIXED = {
    "CouplingFlow": lambda **options: CouplingFlow(4, hidden_widths=(8,), num_layers=4, **options),
    "SplineFlow": lambda **options: SplineFlow(4, hidden_widths=(8,), **options),
    "MAF": lambda **options: MAF(4, num_layers=3, hidden_widths=(8,), **options),
}


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 2, 2)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("start", get_args(LinearStart))
def test_inverse_and_log_det_are_those_of_the_jacobian(start, bias, shape):
    layer = LULinear(shape[1], start=start, bias=bias).double()
    randomize(layer)
    check_transform(layer, randn(*shape))
    assert (layer.bias is not None) == bias


def test_starts():
    x = randn(7, 5).float()
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(5, generator=generator)
    expected = {"identity": x, "reverse": x.flip(1), "permutation": x[:, order]}
    for start, moved in expected.items():
        z, log_det = LULinear(5, start=start, generator=generator.manual_seed(3))(x)
        assert torch.equal(z, moved)
        assert not log_det.any()
    z, log_det = LULinear(5, start="rotation")(x)
    torch.testing.assert_close(z @ z.T, x @ x.T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(log_det, torch.zeros(7), rtol=0, atol=1e-5)
    assert (z - x).abs().max() > 0.1


def test_no_parameters_make_it_singular():
    layer = LULinear(6, start="permutation").double()
    randomize(layer, 1.5)
    weight = layer(torch.eye(6).double())[0] - layer(torch.zeros(1, 6).double())[0]
    log_abs_det = torch.linalg.slogdet(weight).logabsdet
    torch.testing.assert_close(layer(randn(1, 6))[1][0], log_abs_det, rtol=1e-9, atol=1e-9)
    x = randn(9, 6)
    torch.testing.assert_close(layer.inverse(layer(x)[0])[0], x, rtol=1e-6, atol=1e-6)


def test_the_most_likely_one_whitens():
    """Of Gaussian latents, maximum likelihood is the data's mean and covariance."""
    x = randn(50, 3) @ randn(3, 3, seed=1) + torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    flow = Flow(LULinear(3, start="reverse"), [3]).double()
    optimiser = torch.optim.LBFGS(flow.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = -flow.log_prob(x).mean()
        value.backward()
        return value

    optimiser.step(loss)
    z = flow.transform(x)[0].detach()
    torch.testing.assert_close(z.mean(0), torch.zeros(3).double(), rtol=0, atol=1e-4)
    covariance = torch.cov(z.T, correction=0)
    torch.testing.assert_close(covariance, torch.eye(3).double(), rtol=0, atol=1e-3)
    assert abs(loss().item() - gaussian_entropy(torch.cov(x.T, correction=0))) < 1e-6


@pytest.mark.parametrize("shape", [(6, 4), (2, 4, 3, 2)])
def test_its_own_backward_pass_has_the_gradients_of_autograd(shape):
    layers = [LULinear(4, start="rotation"), LULinear(4, bias=False)]
    plain, rewound = Compose(*layers).double(), Reversible(*layers).double()
    randomize(plain)
    found = []
    for stack in (plain, rewound):
        x = randn(*shape).requires_grad_()
        z, log_det = stack(x)
        weight = torch.linspace(-1, 2, z.numel(), dtype=z.dtype).view_as(z)
        loss = (weight * z.square()).sum() + (log_det * torch.arange(len(x))).sum()
        found.append(torch.autograd.grad(loss, [x, *stack.parameters()]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reversible", [False, True])
@pytest.mark.parametrize("name", MIXED)
def test_flows_that_mix_by_it_start_as_those_that_permute(name, reversible):
    flows = []
    fixed = "reverse" if name == "MAF" else "permutation"
    for options in ({"mixing": fixed}, {}):
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(5)
        flows.append(MIXED[name](generator=generator, reversible=reversible, **options).double())
    x = randn(6, 4)
    torch.testing.assert_close(flows[1].log_prob(x), flows[0].log_prob(x))
    assert sum(isinstance(layer, LULinear) for layer in flows[1].modules()) == (
        2 if name == "MAF" else 1
    )
    randomize(flows[1])
    check_transform(flows[1].transform, x)
    flows[1].log_prob(x).sum().backward()
    mixing = next(layer for layer in flows[1].modules() if isinstance(layer, LULinear))
    assert all(parameter.grad.any() for parameter in mixing.parameters())


def test_random_permutations_between_autoregressive_layers():
    orders = [
        [t.order.tolist() for t in MAF(
            9, mixing="permutation", generator=torch.Generator().manual_seed(seed)
        ).transform if hasattr(t, "order")]
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert orders[0] == orders[1] != orders[2]
    assert all(sorted(order) == list(range(9)) for order in orders[0])
    assert orders[0][0] != orders[0][1]


def test_it_is_copied_and_loaded_whole():
    layer = LULinear(5, start="permutation")
    randomize(layer)
    other = LULinear(5)
    other.load_state_dict(layer.state_dict())
    x = randn(3, 5).float()
    for same in (other, copy.deepcopy(layer)):
        torch.testing.assert_close(same(x), layer(x), rtol=0, atol=0)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"^LULinear: features is 0"):
        LULinear(0)
    with pytest.raises(ValueError, match=r"^LULinear: start is 'zero'"):
        LULinear(2, start="zero")
    with pytest.raises(ValueError, match=r"^LULinear: data have shape \[3, 4\]"):
        LULinear(2)(torch.zeros(3, 4))
    for flow in (CouplingFlow, SplineFlow):
        with pytest.raises(ValueError, match=f"^{flow.__name__}: got masks and mixing 'lu'"):
            flow(2, masks=[[True, False], [False, True]], mixing="lu")
    for name, make in MIXED.items():
        with pytest.raises(ValueError, match=f"^{name}: mixing is 'rotation'"):
            make(mixing="rotation")
