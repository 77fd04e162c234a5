"""Models made on the meta device compute what others do once their weights have arrived."""

import copy
from collections.abc import Callable

import pytest
import torch
from testing.flow_testing import FLOWS, check_transform, randn, redraw
from torch import Tensor, nn

from gencore.models import ConvEnergy, LipschitzEnergy
from gencore.nn import (
    MADE,
    MLP,
    ActNorm,
    ConvConditioner,
    InvertibleConv1x1,
    LULinear,
    MaskedAutoregressive,
    MLPEnergy,
    Permutation,
    ResidualConditioner,
    ResidualMLP,
)

Make = Callable[[], nn.Module]

# Everything with weights or buffers that is no flow, and the shape of what it takes.
MODULES: dict[str, tuple[Make, tuple[int, ...]]] = {
    "MADE": (lambda: MADE(3, (8, 8), order=[2, 0, 1]), (3,)),
    "MaskedAutoregressive": (lambda: MaskedAutoregressive(3, (8,), order=[2, 0, 1]), (3,)),
    "MLP": (lambda: MLP(3, (8,), 2, zero_last=False), (3,)),
    "ResidualMLP": (lambda: ResidualMLP(3, 8, 2, batch_norm=True, zero_last=False), (3,)),
    "MLPEnergy": (lambda: MLPEnergy(3, (8,)), (3,)),
    "Permutation": (lambda: Permutation.random(8), (8,)),
    "ActNorm": (lambda: ActNorm(2), (2, 4, 4)),
    "InvertibleConv1x1": (lambda: InvertibleConv1x1(5), (5, 2, 2)),
    "LULinear": (lambda: LULinear(5, start="permutation"), (5,)),
    "ConvConditioner": (lambda: ConvConditioner(2, 8, 4), (2, 4, 4)),
    "ResidualConditioner": (lambda: ResidualConditioner(2, 8, 4), (2, 4, 4)),
    "LipschitzEnergy": (lambda: LipschitzEnergy(3, (8,), curvature=1.0), (3,)),
    "ConvEnergy": (
        lambda: ConvEnergy.preset("digits", image_size=4, spectral_norm=True),
        (1, 4, 4),
    ),
}


def ways(make: Make, weights: dict[str, Tensor]) -> dict[str, nn.Module]:
    """A module made on the meta device, with these weights, by every way that users have."""
    with torch.device("meta"):
        made = make()
    assert all(t.is_meta for t in [*made.parameters(), *made.buffers()])
    junk = [torch.full((64,), 7.7e3) for _ in range(50)]  # what memory that is freed may hold
    del junk
    loaded = copy.deepcopy(made).to_empty(device="cpu")
    loaded.load_state_dict(weights)
    assigned = copy.deepcopy(made)
    assigned.load_state_dict({k: v.clone() for k, v in weights.items()}, assign=True)
    moved = make().to("meta").to_empty(device="cpu")
    moved.load_state_dict(weights)
    return {"loaded": loaded, "assigned": assigned, "moved": moved}


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_made_on_the_meta_device_is_the_one_that_it_loads(name):
    torch.manual_seed(0)
    flow = FLOWS[name]().double()
    x = randn(6, *flow.event_shape)
    flow.log_prob(x)  # the first batch sets ActNorms
    flow.eval()
    expected = flow.log_prob(x), flow.sample(4, key=torch.tensor([1, 0]))

    for way, other in ways(lambda: FLOWS[name]().double(), flow.state_dict()).items():
        other.eval()
        found = other.log_prob(x), other.sample(4, key=torch.tensor([1, 0]))
        torch.testing.assert_close(found, expected, rtol=0, atol=0, msg=way)
        assert not any(t.is_meta for t in [*other.parameters(), *other.buffers()])


@pytest.mark.parametrize("name", MODULES)
def test_a_network_made_on_the_meta_device_is_the_one_that_it_loads(name):
    torch.manual_seed(0)
    make, shape = MODULES[name]
    module, x = make(), randn(6, *shape, dtype=torch.float32)
    module(x)
    expected = module.eval()(x)
    for way, other in ways(make, module.state_dict()).items():
        torch.testing.assert_close(other.eval()(x), expected, rtol=0, atol=0, msg=way)


@pytest.mark.parametrize("name", [name for name in FLOWS if name != "ResidualFlow"])
def test_parameters_set_by_hand_are_enough(name):
    """As after torch.nn.utils.skip_init, where masks, permutations and flags are not the user's."""
    options = {"batch_norm": False} if name == "RealNVP" else {}
    with torch.device("meta"):
        flow = FLOWS[name](**options).double()
    flow.to_empty(device="cpu")
    redraw(flow, 0.3, seed=0)
    x = randn(6, *flow.event_shape)
    flow.log_prob(x)
    for layer in flow.modules():
        if isinstance(layer, ActNorm):
            assert layer.is_initialized
    check_transform(flow.transform.eval(), x)


def test_a_state_dict_wins_over_what_was_remembered():
    with torch.device("meta"):
        layer = Permutation([2, 1, 0])
    layer.load_state_dict(Permutation([1, 2, 0]).state_dict(), assign=True)
    layer.to("meta").to_empty(device="cpu")
    assert layer.order.tolist() == [1, 2, 0]
    assert layer.double().order.dtype == torch.int64


def test_permutations_on_the_meta_device_are_drawn_by_the_generator():
    with torch.device("meta"):
        layer = Permutation.random(9, torch.Generator().manual_seed(3))
    expected = Permutation.random(9, torch.Generator().manual_seed(3))
    assert torch.equal(layer.to_empty(device="cpu").order, expected.order)
