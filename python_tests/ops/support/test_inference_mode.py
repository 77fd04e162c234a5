"""What has to work under torch.inference_mode, with the kernels and with their references."""

import pytest
import torch
from testing.flow_testing import FLOWS, randn, ready

from gencore import ops
from gencore.models import FlowEBM, ShortRunEBM
from gencore.nn import MLPEnergy
from gencore.ops import backend
from gencore.ops.actnorm import actnorm_backward_from_output

KEY = torch.tensor([1, 2])
X, PER_ROW = randn(6, 4), randn(6, seed=1)
LAYERS = [randn(5, 4, seed=2), randn(1, 5, seed=3)], [randn(5, seed=4), randn(1, seed=5)]
rewind = ops.affine_coupling_backward_from_output

# Those whose references take gradients themselves.
OPERATORS = {
    "mlp_langevin_chain": lambda x: [ops.mlp_langevin_chain(x, *LAYERS, 3, 0.1, key=KEY)],
    "mlp_hmc_chain": lambda x: ops.mlp_hmc_chain(x, *LAYERS, 3, 0.1, 2, key=KEY),
    "affine": lambda x: rewind(x, x, x, x, PER_ROW),
    "additive": lambda x: rewind(x, None, x, x, PER_ROW),
    "joint": lambda x: rewind(x, x, None, x, PER_ROW, mask="channel"),
    "actnorm": lambda x: actnorm_backward_from_output(x, x[0], x[1], x, PER_ROW),
}


@pytest.fixture(params=["native", "reference"])
def implementation(request):
    with backend(request.param):
        yield


def same_in_inference_mode(function, x):
    """The results on a tensor of ours, and on one made inside, are those of no_grad."""
    with torch.no_grad():
        expected = function(x)
    with torch.inference_mode():
        results = function(x), function(x.clone())
    for result in results:
        for ours, value in zip(result, expected, strict=True):
            if value is None:
                assert ours is None
            else:
                torch.testing.assert_close(ours, value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name, implementation):
    same_in_inference_mode(OPERATORS[name], X)


@pytest.mark.parametrize("name", FLOWS)
def test_flows(name, implementation):
    flow = ready(FLOWS[name](), 0.0 if name == "ResidualFlow" else 0.3)
    x = randn(4, *flow.event_shape)
    same_in_inference_mode(lambda x: (flow.log_prob(x), flow.sample(4, key=KEY)), x)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_short_run_loss(weight, implementation):
    ebm = ShortRunEBM(
        MLPEnergy(4, hidden_widths=(8,)).double(), (4,), num_steps=3, generator_weight=weight
    )
    same_in_inference_mode(lambda x: ebm(x, x + 1, key=KEY), X)


@pytest.mark.parametrize("num_steps", [None, 2])
@pytest.mark.parametrize("objective", ["ml", "ml+gen", "flow_mle"])
def test_loss_of_an_energy_with_a_flow(objective, num_steps):
    energy = MLPEnergy(4, hidden_widths=(8,)).double()
    ebm = FlowEBM(energy, (4,), num_steps=num_steps, objective=objective)
    same_in_inference_mode(lambda x: ebm(x, x + 1, key=KEY), X)
