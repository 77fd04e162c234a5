"""The residual conditioner, and dropout of both conditioners on vectors."""

import math

import pytest
import torch
from testing.flow_testing import randn, redraw
from torch import nn

from gencore.nn import MLP, AffineCoupling, Compose, ResidualMLP, Reversible


def fresh(**options) -> ResidualMLP:
    torch.manual_seed(0)
    return ResidualMLP(3, 16, 2, zero_last=False, **options).double()


def test_it_starts_at_zero_or_close_to_a_linear_map():
    x = torch.randn(5, 3)
    assert not ResidualMLP(3, 16, 2)(x).any()
    network, x = fresh(num_blocks=3), randn(5, 3)
    linear = network.last(network.first(x))
    # Three blocks of sixteen units each change a hidden unit by ±1e-3 times those before, about.
    assert 0 < (network(x) - linear).abs().max() < 3e-2


def test_a_block_adds_what_its_layers_give_times_the_gate():
    network = ResidualMLP(1, 1, 1, num_blocks=2, context_size=1, zero_last=False).double()
    weights = {
        "first.weight": [[1.0, 0.5]], "first.bias": [0.0],
        "last.weight": [[2.0]], "last.bias": [1.0],
    }  # fmt: skip
    for block in range(2):
        weights |= {
            f"blocks.{block}.layers.1.weight": [[1.0]], f"blocks.{block}.layers.1.bias": [-1.0],
            f"blocks.{block}.layers.4.weight": [[3.0]], f"blocks.{block}.layers.4.bias": [0.5],
            f"blocks.{block}.gate.weight": [[1.0]], f"blocks.{block}.gate.bias": [0.0],
        }  # fmt: skip
    network.load_state_dict({k: torch.tensor(v).double() for k, v in weights.items()})
    x, c = 2.0, math.log(3)  # the gate is 3/4
    h = x + 0.5 * c
    for _ in range(2):
        h += (3 * max(max(h, 0) - 1, 0) + 0.5) * 0.75
    got = network(torch.tensor([[x]]).double(), torch.tensor([[c]]).double())
    torch.testing.assert_close(got, torch.tensor([[2 * h + 1]]).double())


def test_outputs_depend_on_their_own_row_and_context():
    network = fresh(context_size=2)
    redraw(network, 0.5, seed=0)
    x, context = randn(4, 3).requires_grad_(), randn(4, 2, seed=1).requires_grad_()
    for grad in torch.autograd.grad(network(x, context)[1].sum(), (x, context)):
        assert grad[1].all()
        assert not grad[[0, 2, 3]].any()
    plain = fresh()
    assert torch.equal(plain(x, randn(4, 7)), plain(x))  # a context that is not wanted


def test_the_context_gates_every_block():
    """With a gate that is shut, a block does nothing, and the others go on."""
    network = fresh(context_size=2, num_blocks=2)
    redraw(network, 0.5, seed=0)
    x, context = randn(4, 3), randn(4, 2, seed=1)
    whole = network(x, context)
    for block in network.blocks:
        bias = block.gate.bias.data.clone()
        block.gate.bias.data.fill_(-1e3)
        shut = network(x, context)
        assert not torch.allclose(shut, whole)
        redraw(block.layers)
        assert torch.equal(network(x, context), shut)
        block.gate.bias.data.copy_(bias)


def test_batch_norm_normalises_in_training_and_not_in_evaluation():
    network = fresh(batch_norm=True)
    redraw(network, 0.5, seed=0)
    x = randn(64, 3)
    assert not torch.allclose(network(x)[:2], network(x[:2]))
    network.eval()
    torch.testing.assert_close(network(x)[:2], network(x[:2]))


@pytest.mark.parametrize(
    "make",
    [
        lambda p: MLP(3, [64, 64], 2, dropout=p, zero_last=False),
        lambda p: ResidualMLP(3, 64, 2, dropout=p, zero_last=False),
    ],
)
class TestDropout:
    def test_it_is_off_in_evaluation(self, make):
        torch.manual_seed(0)
        plain, dropping = make(0.0), make(0.5).eval()
        dropping.load_state_dict(plain.state_dict())
        x = torch.randn(1500, 3)
        torch.testing.assert_close(dropping(x), plain(x))
        assert torch.equal(dropping(x), dropping(x))

    def test_it_drops_units_in_training(self, make):
        torch.manual_seed(0)
        network = make(0.5)
        redraw(network, 0.3, seed=0)
        x = torch.randn(1500, 3)
        a, b = network(x), network(x)
        assert ((a - b).abs() > 1e-6).float().mean() > 0.99
        still = make(0.0)
        assert torch.equal(still(x), still(x))

    @pytest.mark.parametrize("dropout", [1.0, -0.1, math.nan])
    def test_what_is_no_probability_below_one(self, make, dropout):
        with pytest.raises(ValueError, match="dropout"):
            make(dropout)

    def test_reversible_stacks_refuse_it(self, make):
        network = make(0.2)
        with pytest.raises(ValueError, match=r"Reversible: .* is Dropout\(p=0\.2"):
            Reversible(AffineCoupling(nn.Sequential(network)))
        assert len(Compose(AffineCoupling(network))) == 1
        assert len(Reversible(AffineCoupling(make(0.0)))) == 1


def test_an_mlp_drops_hidden_units_with_the_probability_that_it_says():
    """Of ones: one hidden unit in ten thousand is w·1, and the output their sum times 1/(1 − p)."""
    torch.manual_seed(0)
    mlp = MLP(1, [10_000], 1, activation="relu", dropout=0.25)
    with torch.no_grad():
        for weight in mlp.parameters():
            weight.fill_(1.0 if weight.dim() > 1 else 0.0)
        sums = mlp(torch.ones(200, 1)).flatten() * 0.75
    # Binomial: each sum has the variance n·p·(1 − p).
    error = math.sqrt(10_000 * 0.25 * 0.75)
    assert abs(sums.mean() - 7500) < 4 * error / math.sqrt(200)
    assert 0.8 * error < sums.std() < 1.2 * error


def test_an_mlp_of_linear_layers_alone_drops_nothing():
    torch.manual_seed(0)
    mlp, x = MLP(3, [], 2, dropout=0.5, zero_last=False), torch.randn(5, 3)
    assert torch.equal(mlp(x), mlp(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_width": 0}, "ResidualMLP: hidden_width is 0"),
        ({"num_outputs": 0}, "ResidualMLP: num_outputs is 0"),
        ({"num_blocks": 0}, "ResidualMLP: num_blocks is 0"),
        ({"num_inputs": 0}, "num_inputs is 0 and context_size 0; expected an input or a context"),
        ({"context_size": -1}, "context_size -1; expected an input or a context"),
        ({"activation": "swish"}, "ResidualMLP: activation is 'swish'"),
    ],
)
def test_bad_arguments_are_named(options, message):
    sizes = {"num_inputs": 3, "hidden_width": 8, "num_outputs": 2}
    with pytest.raises(ValueError, match=message):
        ResidualMLP(**{**sizes, **options})


@pytest.mark.parametrize("context", [None, torch.zeros(4, 3), torch.zeros(1, 2)])
def test_a_missing_or_wrong_context_is_named(context):
    with pytest.raises(ValueError, match=r"ResidualMLP: expected a context \[4, 2\]"):
        ResidualMLP(3, 8, 2, context_size=2)(torch.zeros(4, 3), context)
