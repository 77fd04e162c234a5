"""What a sampler asks of an energy's values, and says where they are no energies."""

import pytest
import torch
from testing.chain_testing import key, quadratic

from gencore.samplers import (
    HMC,
    MALA,
    NUTS,
    SGHMC,
    SGLD,
    SGRLD,
    AnnealedImportance,
    GaussianBase,
    Langevin,
    ParallelTempering,
    annealing_schedule,
    warm_up,
)

SAMPLERS = {
    "Langevin": lambda energy: Langevin(energy, 0.1),
    "MALA": lambda energy: MALA(energy, 0.1),
    "HMC": lambda energy: HMC(energy, 0.1, 2),
    "NUTS": lambda energy: NUTS(energy, 0.1),
    "SGLD": lambda energy: SGLD(energy, 0.1),
    "SGHMC": lambda energy: SGHMC(energy, 0.1, 1.0),
    "SGRLD": lambda energy: SGRLD(energy, 0.1, lambda x: (torch.ones_like(x), None)),
    "ParallelTempering": lambda energy: ParallelTempering(energy, (1.0, 0.5), 0.1),
}
samplers = pytest.mark.parametrize("name", SAMPLERS)


class Known:
    """A quadratic that knows its gradient, of a given kind."""

    def __init__(self, change_value, change_grad=lambda grad: grad):
        self.change_value, self.change_grad = change_value, change_grad

    def __call__(self, x):
        return quadratic()(x)

    def energy_and_grad(self, x):
        return self.change_value(self(x)), self.change_grad(1.0 * x)


VALUES = [
    (lambda e: e.sum().item(), TypeError, "is a float; expected a tensor with one number for each"),
    (lambda e: e.detach().numpy(), TypeError, "is a ndarray; expected a tensor with one number"),
    (lambda e: None, TypeError, "is a NoneType; expected a tensor"),
    (lambda e: e.long(), TypeError, r"is torch\.int64; expected real floating-point numbers"),
    (lambda e: e > 1, TypeError, r"is torch\.bool; expected real floating-point numbers"),
    (lambda e: e + 0j, TypeError, r"is torch\.complex64; expected real floating-point numbers"),
    (lambda e: e[:, None], ValueError, r"has shape \[\d+, 1\] for x of shape \[\d+, 2\]; expected"),
    (lambda e: e.sum(), ValueError, r"has shape \[\] for x of shape"),
    (lambda e: e.to("meta"), ValueError, "is on meta; expected cpu, where x is"),
]


@samplers
@pytest.mark.parametrize("known", [False, True])
def test_values_that_are_no_energies_are_explained(name, known):
    where = "energy.energy_and_grad" if known else "energy"
    for change, error, message in VALUES:
        energy = Known(change) if known else (lambda x, change=change: change(quadratic()(x)))
        with pytest.raises(error, match=rf"^{name}: {where}\(x\) {message}"):
            SAMPLERS[name](energy).sample(torch.ones(3, 2), 2)


@samplers
def test_a_detached_energy_is_explained(name):
    with pytest.raises(ValueError, match=rf"^{name}: energy\(x\) is not differentiable in x"):
        SAMPLERS[name](lambda x: quadratic()(x).detach()).sample(torch.ones(3, 2), 2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda grad: grad.numpy(), TypeError, "is a ndarray; expected a tensor"),
        (lambda grad: grad[:1], ValueError, r"of torch\.float32 and shape \[1, 2\]"),
        (lambda grad: grad.double(), ValueError, r"of torch\.float64 and shape"),
        (lambda grad: grad.to("meta"), ValueError, r"of torch\.float32 and shape .* on meta"),
    ],
)
def test_gradients_that_are_none_are_explained(change, error, message):
    for name in SAMPLERS:
        energy = Known(lambda value: value, change)
        prefix = rf"^{name}: energy\.energy_and_grad\(x\) has a gradient (that )?"
        with pytest.raises(error, match=prefix + message):
            SAMPLERS[name](energy).sample(torch.ones(3, 2), 2)


def beta(validate_args=True):  # which is torch's default, and zuko switches off
    return lambda x: -torch.distributions.Beta(2.0, 3.0, validate_args).log_prob(x).sum(1)


@samplers
def test_a_distribution_that_refuses_a_state_is_explained_in_short(name):
    sampler, x = SAMPLERS[name](beta()), torch.full((50, 2), 0.02)
    with pytest.raises(
        ValueError, match=f"^{name}: .* validate_args=False, or return inf"
    ) as raised:
        sampler.sample(x, 50, key=key(0))
    text = str(raised.value)
    assert "Beta" in text
    assert "tensor(" not in text
    assert len(text) < 400
    assert raised.value.__suppress_context__


def test_the_remedy_of_the_message_works():
    sampler, x, _ = warm_up(NUTS(beta(False), 0.3), torch.full((500, 1), 0.5), 100, key=key(1))
    x = sampler.sample(x, 30, key=key(1))
    assert x.min() > 0
    assert x.max() < 1
    assert abs(x.mean().item() - 0.4) < 5 * 0.2 / 500**0.5


def test_annealed_importance_explains_it_too():
    make = lambda energy: MALA(energy, 0.1)  # noqa: E731
    sampler = AnnealedImportance(beta(), GaussianBase((1,)), annealing_schedule("linear", 3), make)
    with pytest.raises(ValueError, match=r"^AnnealedImportance: .* validate_args=False"):
        sampler.run(50, key=key(0))


def test_other_errors_of_an_energy_pass_as_they_are():
    def energy(x):
        raise ValueError("images are 8x8")

    with pytest.raises(ValueError, match=r"^images are 8x8$"):
        HMC(energy, 0.1, 2).sample(torch.zeros(3, 2), 1)


@samplers
def test_energies_of_another_precision_are_energies(name):
    """float64 energies of float32 states; bfloat16 states of float32 energies."""
    x = torch.ones(3, 2)
    wide = SAMPLERS[name](lambda x: quadratic()(x.double())).sample(x, 3, key=key(0))
    same = SAMPLERS[name](quadratic()).sample(x, 3, key=key(0))
    torch.testing.assert_close(wide, same)
    half = SAMPLERS[name](lambda x: quadratic()(x.float())).sample(x.bfloat16(), 3, key=key(0))
    assert half.dtype == torch.bfloat16
    assert half.isfinite().all()


@samplers
def test_chains_of_any_layout_and_none(name):
    """A transposed, a strided and an expanded start are their copies; no chains stay none."""
    sampler = SAMPLERS[name](quadratic())
    whole = torch.arange(24.0).reshape(4, 6) / 10
    for x in (whole.t(), whole[:, ::2], whole[:1].expand(3, 6)):
        assert torch.equal(
            sampler.sample(x, 3, key=key(0)), sampler.sample(x.clone(), 3, key=key(0))
        )
    for shape in ((0, 3), (3, 0)):
        assert sampler.sample(torch.zeros(shape), 3, key=key(0)).shape == shape


@pytest.mark.parametrize("name", ["SGLD", "SGHMC", "SGRLD", "HMC", "NUTS", "ParallelTempering"])
def test_init_refuses_what_is_no_position(name):
    with pytest.raises(TypeError, match=rf"^{name}\.init: x is torch\.int64, expected float64"):
        SAMPLERS[name](quadratic()).init(torch.ones(3, 2, dtype=torch.int64))
