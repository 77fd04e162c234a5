"""Conditioners of flows on vectors: masks, networks of one's own and where they start, dropout."""

import pytest
import torch
from testing.flow_testing import check_transform, grid_integral, randn, ready
from torch import Tensor, nn

from gencore.models import NICE, CouplingFlow, SplineFlow
from gencore.nn import MLP, AffineCoupling, Permutation, ResidualMLP
from gencore.ops import affine_coupling

FLOWS = {"CouplingFlow": CouplingFlow, "SplineFlow": SplineFlow}
SIZES = {"num_layers": 4, "hidden_widths": (8,)}
ALTERNATING = torch.arange(5) % 2 == 0
MASKS = torch.stack([ALTERNATING, ~ALTERNATING])


def residual(num_inputs: int, num_outputs: int, context_size: int) -> nn.Module:
    return ResidualMLP(num_inputs, 16, num_outputs, dropout=0.1, context_size=context_size)


@pytest.mark.parametrize("context_size", [0, 2])
@pytest.mark.parametrize("options", [{"conditioner": residual}, {"masks": MASKS}], ids=" ".join)
@pytest.mark.parametrize("name", FLOWS)
def test_flows_invert_with_exact_jacobians(name, options, context_size):
    torch.manual_seed(0)
    flow = ready(FLOWS[name](5, context_size=context_size, **SIZES, **options))
    context = randn(3, context_size, seed=1) if context_size else None
    check_transform(flow.transform, randn(3, 5), context)


@pytest.mark.parametrize("name", FLOWS)
def test_a_density_of_residual_conditioners_integrates_to_one(name):
    torch.manual_seed(0)
    flow = ready(FLOWS[name](2, num_layers=2, conditioner=residual), 0.2)
    assert grid_integral(flow, 12, 401) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", FLOWS)
def test_masks_say_what_each_coupling_moves(name):
    flow = ready(FLOWS[name](5, masks=MASKS, **SIZES))
    assert not any(isinstance(layer, Permutation) for layer in flow.transform)
    x = randn(1, 5)
    for i, layer in enumerate(flow.transform):
        z = layer(x)[0]
        assert torch.equal((z != x)[0], MASKS[i % 2])
        x = z
    lists = ready(FLOWS[name](5, masks=MASKS.tolist(), **SIZES))
    lists.load_state_dict(flow.state_dict())
    assert torch.equal(lists.log_prob(x), flow.log_prob(x))


@pytest.mark.parametrize("name", FLOWS)
def test_the_default_conditioner_is_the_mlp_that_its_options_say(name):
    """The factory sees the sizes of the halves, and a flow of the same MLPs is the same one."""
    calls = []

    def mlp(num_inputs, num_outputs, context_size):
        calls.append((num_inputs, num_outputs, context_size))
        return MLP(num_inputs, (8,), num_outputs, activation="tanh", context_size=context_size)

    ours = FLOWS[name](5, context_size=2, conditioner=mlp, **SIZES)
    plain = FLOWS[name](5, context_size=2, activation="tanh", **SIZES)
    each = 2 if name == "CouplingFlow" else 23
    assert calls == [(3, 2 * each, 2), (2, 3 * each, 2)] * 2
    plain.load_state_dict(ours.state_dict())
    x, context = torch.randn(4, 5), torch.randn(4, 2)
    assert torch.equal(plain.log_prob(x, context), ours.log_prob(x, context))
    other = FLOWS[name](5, context_size=2, **SIZES)
    other.load_state_dict(ready(ours).float().state_dict())
    assert not torch.allclose(other.log_prob(x, context), ours.float().log_prob(x, context))


class TestStarts:
    def test_splines_start_as_the_identity(self):
        def started(num_inputs, num_outputs, context_size):
            return ResidualMLP(num_inputs, 16, num_outputs, zero_last=False)

        x = torch.randn(20, 5)
        for conditioner in (residual, started):
            flow = SplineFlow(5, num_layers=2, conditioner=conditioner)
            torch.testing.assert_close(flow.transform(x)[0], x, rtol=0, atol=1e-5)

    def test_affine_ones_start_with_shifts_and_without_scales(self):
        """From either start of the network itself, as flows of MLPs do."""
        torch.manual_seed(0)
        x = torch.randn(500, 8)
        moves = []
        for conditioner in (residual, None):
            z, log_det = CouplingFlow(8, num_layers=2, conditioner=conditioner).transform(x)
            assert not log_det.any()
            moves.append((z - x).square().mean(0)[4:].mean().item())
        assert 0.2 < moves[0] / moves[1] < 20
        assert min(moves) > 1e-3

    def test_networks_whose_last_layer_is_not_known_start_as_made(self):
        class Constant(nn.Module):
            def __init__(self, outputs: int) -> None:
                super().__init__()
                self.outputs = outputs
                self.last = nn.Linear(1, outputs + 1)  # of another size: not what makes outputs
                nn.init.ones_(self.last.weight)

            def forward(self, x: Tensor) -> Tensor:
                return x.new_full((len(x), self.outputs), 0.5)

        x = torch.randn(4, 2)
        flow = CouplingFlow(2, num_layers=1, conditioner=lambda _, n, c: Constant(n))
        assert (flow.transform.transforms[0].network.last.weight == 1).all()
        half = torch.full((4, 1), 0.5)
        expected = affine_coupling(x, half, half, mask="channel")
        for got, value in zip(flow.transform(x), expected, strict=True):
            torch.testing.assert_close(got, value)


class TestDropout:
    @pytest.mark.parametrize("name", FLOWS)
    @pytest.mark.parametrize("options", [{"dropout": 0.3}, {"conditioner": residual}], ids=" ".join)
    def test_densities_vary_in_training_alone(self, name, options):
        torch.manual_seed(0)
        flow, x = ready(FLOWS[name](5, **SIZES, **options)), randn(50, 5)
        assert torch.equal(flow.log_prob(x), flow.log_prob(x))
        flow.train()
        assert not torch.allclose(flow.log_prob(x), flow.log_prob(x))

    @pytest.mark.parametrize("name", FLOWS)
    @pytest.mark.parametrize("options", [{"dropout": 0.3}, {"conditioner": residual}], ids=" ".join)
    def test_reversible_flows_refuse_it(self, name, options):
        with pytest.raises(ValueError, match=r"Reversible: .* is Dropout"):
            FLOWS[name](5, reversible=True, **SIZES, **options)


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": []}, "masks is empty"),
        ({"masks": [[True, False]]}, "a mask has 2 entries, of which 1 move; expected 5"),
        ({"masks": [[False] * 5]}, "a mask has 5 entries, of which 0 move"),
        (
            {"masks": [[0, 1, 0, 1, 1]]},
            r"mask is \[0, 1, 0, 1, 1\]; expected one of .* or booleans",
        ),
        ({"dropout": 1.0}, "MLP: dropout is 1.0"),
        ({"activation": "sine"}, "MLP: activation is 'sine'"),
    ],
    ids=str,
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        FLOWS[name](5, **options)


def test_a_conditioner_of_other_sizes_is_named_on_the_first_call():
    flow = CouplingFlow(4, conditioner=lambda i, o, c: nn.Linear(i, o - 1))
    with pytest.raises(ValueError, match=r"the network gives \[3, 3\]; expected \[3, 4\]"):
        flow.log_prob(torch.zeros(3, 4))


def test_nice_has_additive_couplings_of_its_halves():
    flow = NICE(5, hidden_widths=(8,))
    couplings = [layer for layer in flow.transform if isinstance(layer, AffineCoupling)]
    assert [layer.swap for layer in couplings] == [False, True] * 2
    assert all(layer.additive for layer in couplings)
