"""What `EulerFlow` and `GradientFlow` share."""

import pytest
import torch
from testing.chain_testing import key, normal
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from gencore.samplers import EulerFlow, GradientFlow

pytest.importorskip("torchdiffeq")

FLOWS = {
    "euler": lambda energy, **more: EulerFlow(energy, 0.1, 3, log_det="series", **more),
    "gradient": lambda energy, **more: GradientFlow(energy, 0.3, trace="hutchinson", **more),
}


@pytest.fixture(params=FLOWS.values(), ids=FLOWS)
def make(request):
    return request.param


def network():
    torch.manual_seed(0)
    layers = (spectral_norm(nn.Linear(3, 8)), nn.SiLU(), nn.Linear(8, 1), nn.Flatten(0))
    return nn.Sequential(*layers)


def test_log_determinants_are_the_densities(make):
    """Both ways, and of opposite sign."""
    flow, x0 = make(network().eval()), normal(5, 3)
    x, log_prob = flow.sample_with_log_prob(x0, key=key(1))
    same, log_det = flow.sample_with_log_det(x0, key=key(1))
    assert torch.equal(x, same)
    normal_log_prob = torch.distributions.Normal(0.0, 1.0).log_prob(x0).sum(1)
    torch.testing.assert_close(log_prob, normal_log_prob - log_det)
    back, back_log_det = flow.inverse_with_log_det(x, key=key(1))
    torch.testing.assert_close(back, x0, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(back_log_det, -log_det, rtol=1e-3, atol=1e-3)


def test_rows_and_their_elements_count_the_same_place(make):
    flow, x = make(network().eval()), normal(6, 3)
    whole = flow.log_prob(x, key=key(2))
    tail = flow.log_prob(x[4:], key=key(2), first=4)
    torch.testing.assert_close(tail, whole[4:], rtol=1e-4, atol=1e-4)
    assert torch.equal(tail, flow.log_prob(x[4:], key=key(2), first_element=12))
    with pytest.raises(ValueError, match=r"Flow: first is 1 and first_element is 3"):
        flow.log_prob(x, first=1, first_element=3)


def test_spectral_norms_stand_still_unless_they_are_let_go(make):
    """In training a power iteration a call would make another energy of every step."""
    energy, x = network(), normal(4, 3)
    flow = make(energy)
    before = {name: value.clone() for name, value in energy.state_dict().items()}
    x1, log_prob = flow.sample_with_log_prob(x, key=key(3))
    torch.testing.assert_close(flow.log_prob(x1, key=key(3)), log_prob, rtol=1e-3, atol=1e-3)
    assert torch.equal(flow.sample(x), flow.sample(x))
    flow.inverse(x)
    flow.inverse_with_log_det(x)
    after = energy.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert energy[0].parametrizations.weight[0].training
    make(energy, hold_norms=False).sample(x)
    after = energy.state_dict()
    assert not all(torch.equal(value, after[name]) for name, value in before.items())


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r"^EulerFlow: tolerance is 0.0; expected a positive"):
        EulerFlow(lambda x: x, 0.1, 3, tolerance=0.0)
    with pytest.raises(ValueError, match=r"^GradientFlow: rtol is 0.0; expected a positive"):
        GradientFlow(lambda x: x, 0.1, rtol=0.0)


def test_positions_are_checked(make):
    flow = make(network())
    name = type(flow).__name__
    for call in (flow.sample, flow.inverse, flow.log_prob, flow.sample_with_log_prob):
        with pytest.raises(TypeError, match=f"^{name}: expected a tensor of positions, got list"):
            call([[0.0]])
        with pytest.raises(ValueError, match=rf"^{name}: positions have shape \[3\]"):
            call(torch.zeros(3))
