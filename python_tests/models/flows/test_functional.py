"""Flows under torch.func and as objects: copies, pickles, ensembles, per-sample gradients."""

import copy
import io
import pickle
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from testing.flow_testing import FLOWS, randn, ready
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.utils import parametrize

from gencore.models import ConvEnergy, Flow
from gencore.ops._support.backend import state

# Their slow direction, the density, is an implicit function with a backward pass of its own, or
# differentiates a network itself.
IMPLICIT = tuple(name for name in ("IAF", "ResidualFlow", "ContinuousFlow") if name in FLOWS)
EXPLICIT = sorted(FLOWS.keys() - {*IMPLICIT})


class LogProb(nn.Module):
    """A flow's density as a forward pass, which functional_call calls."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x)


def make(name: str, scale: float = 0.3, **options) -> LogProb:
    # Spectral norms know the weights as they were drawn; a random shift would undo contractions.
    is_residual = name == "ResidualFlow"
    torch.manual_seed(round(10 * scale) if is_residual else 0)
    return LogProb(ready(FLOWS[name](**options), 0.0 if is_residual else scale))


def gradients_of(model: LogProb, x: Tensor) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    grads = torch.autograd.grad(model(x).sum(), list(parameters.values()), materialize_grads=True)
    return dict(zip(parameters, grads, strict=True))


def loss(model: LogProb, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    return functional_call(model, parameters, (x[None],))[0]


@pytest.mark.parametrize("name", FLOWS)
def test_copies_and_stored_states_are_the_same_density(name):
    model = make(name)
    x = randn(4, *model.flow.event_shape)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded = LogProb(FLOWS[name]()).double().eval()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(model), loaded):
        assert torch.equal(other(x), model(x))
        assert all(a is not b for a, b in zip(other.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("name", FLOWS)
def test_a_pickle_is_the_same_density(name):
    model = make(name)
    x = randn(4, *model.flow.event_shape)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (
        torch.load(file, weights_only=False),
        ForkingPickler.loads(ForkingPickler.dumps(model)),  # as torch.multiprocessing sends it
        pickle.loads(pickle.dumps(copy.deepcopy(pickle.loads(pickle.dumps(model))))),
    ):
        assert torch.equal(other(x), model(x))
        assert list(other.state_dict()) == list(model.state_dict())
        assert [n for n, _ in other.named_parameters()] == [n for n, _ in model.named_parameters()]


def test_a_pickled_energy_with_spectral_norms_trains_on_and_can_lose_them():
    torch.manual_seed(0)
    energy = ConvEnergy.preset("digits", image_size=4, spectral_norm=True).double()
    other = pickle.loads(pickle.dumps(energy))
    x = randn(3, 1, 4, 4)
    for _ in range(2):  # in train mode, a call moves the vectors of the power iteration
        assert torch.equal(other(x), energy(x))
    before = other.eval()(x)
    layers = [layer for layer in other if parametrize.is_parametrized(layer)]
    assert len(layers) == 4
    for layer in layers:
        parametrize.remove_parametrizations(layer, "weight")
    assert torch.equal(other(x), before)
    assert type(layers[0]) is nn.Conv2d


@pytest.mark.parametrize("name", FLOWS)
def test_functional_call_takes_other_weights(name):
    model, other = make(name), make(name, 0.1)
    x = randn(4, *model.flow.event_shape)
    torch.testing.assert_close(functional_call(model, other.state_dict(), (x,)), other(x))


@pytest.mark.parametrize("name", EXPLICIT)
def test_grad_is_that_of_autograd(name):
    model = make(name)
    x = randn(1, *model.flow.event_shape)
    parameters = {k: v.detach() for k, v in model.named_parameters()}
    got = grad(lambda p: loss(model, p, x[0]))(parameters)
    torch.testing.assert_close(got, gradients_of(model, x))


@pytest.mark.parametrize("name", EXPLICIT)
def test_gradients_of_each_sample(name):
    model = make(name)
    x = randn(4, *model.flow.event_shape)
    parameters = {k: v.detach() for k, v in model.named_parameters()}
    got = vmap(grad(lambda p, row: loss(model, p, row)), (None, 0))(parameters, x)
    for index in range(len(x)):
        expected = gradients_of(model, x[index : index + 1])
        torch.testing.assert_close({k: v[index] for k, v in got.items()}, expected)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch's weight_norm, in RealNVP
@pytest.mark.parametrize("name", EXPLICIT)
def test_an_ensemble_in_one_call(name):
    models = [make(name, scale) for scale in (0.1, 0.2, 0.3)]
    x = randn(4, *models[0].flow.event_shape)
    stacked = stack_module_state(models)
    got = vmap(lambda *state: functional_call(models[0], state, (x,)))(*stacked)
    torch.testing.assert_close(got, torch.stack([model(x) for model in models]))


def test_a_reversible_stack_is_a_plain_one_under_transforms():
    model, x = make("CouplingFlow", reversible=True), randn(1, 3)
    parameters = {k: v.detach() for k, v in model.named_parameters()}
    got = grad(lambda p: loss(model, p, x[0]))(parameters)
    torch.testing.assert_close(got, gradients_of(model, x))


@pytest.mark.parametrize("name", IMPLICIT)
def test_what_cannot_be_transformed_says_what_can_be_done(name):
    model, x = make(name), randn(3)
    parameters = {k: v.detach() for k, v in model.named_parameters()}
    with pytest.raises(RuntimeError, match=r"torch\.func and .* cannot transform it; .* torch\."):
        grad(lambda p: loss(model, p, x))(parameters)


def test_the_reference_is_taken_inside_a_transform_only():
    seen = []

    def function(x: Tensor) -> Tensor:
        seen.append(state.reference)
        return x.sin()

    function(torch.ones(()))
    grad(function)(torch.ones(()))
    vmap(function)(torch.ones(2))
    function(torch.ones(()))
    assert seen == [False, True, True, False]


@pytest.mark.parametrize("name", EXPLICIT)
def test_forward_mode_agrees_with_the_backward_pass(name):
    model = make(name)
    x, direction = randn(2, 3, *model.flow.event_shape).unbind()
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    with forward_ad.dual_level():
        log_prob = model(forward_ad.make_dual(x.detach(), direction))
        tangent = forward_ad.unpack_dual(log_prob).tangent
    torch.testing.assert_close(tangent.sum(), (gradient * direction).sum())


@pytest.mark.parametrize("name", IMPLICIT)
def test_forward_mode_of_an_implicit_density_says_that_there_is_none(name):
    model = make(name)
    x = randn(3, *model.flow.event_shape)
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward mode cannot"):
        model(forward_ad.make_dual(x, x))
