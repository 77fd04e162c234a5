"""What samplers refuse, and that they name the function, what was given and what was expected."""

from functools import partial

import numpy as np
import pytest
import torch
from testing.chain_testing import key, normal, quadratic

from gencore.models import FlowEBM, ShortRunEBM
from gencore.nn import MLPEnergy
from gencore.samplers import (
    HMC,
    MALA,
    SGHMC,
    SGLD,
    SGRLD,
    AnnealedImportance,
    CompleteRecipe,
    GaussianBase,
    Langevin,
    MetropolisHastingsGAN,
    ParallelTempering,
    ReplayBuffer,
    annealing_schedule,
    warm_up,
)

ENERGY = quadratic()
SAMPLERS = [
    Langevin(ENERGY, 0.1),
    MALA(ENERGY, 0.1),
    HMC(ENERGY, 0.1, 2),
    SGLD(ENERGY, 0.1),
    SGHMC(ENERGY, 0.1, 1.0),
    SGRLD(ENERGY, 0.1, lambda x: (torch.ones_like(x), None)),
    ParallelTempering(ENERGY, (1.0, 0.5), 0.1),
    CompleteRecipe(ENERGY, 0.1, torch.eye(2)),
    MetropolisHastingsGAN(lambda num, *, key, first: torch.zeros(num, 2), ENERGY),
]


@pytest.mark.parametrize(
    ("x", "num_steps", "error", "message"),
    [
        ([[0.0, 0.0]], 3, TypeError, "x must be a tensor, got list"),
        (torch.zeros(3, 2, dtype=torch.int64), 3, TypeError, "x is torch.int64, expected float64"),
        (torch.zeros(3, 2, dtype=torch.complex64), 3, TypeError, "x is torch.complex64, expected"),
        (torch.tensor(0.0), 3, ValueError, "x is a scalar; expected chains"),
        (torch.zeros(3, 2), 2.5, TypeError, "num_steps must be an integer, got float"),
        (torch.zeros(3, 2), "3", TypeError, "num_steps must be an integer, got str"),
    ],
)
def test_positions_and_steps_are_checked(x, num_steps, error, message):
    for sampler in SAMPLERS:
        with pytest.raises(error, match=f"^{type(sampler).__name__}.sample: {message}"):
            sampler.sample(x, num_steps)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MALA(ENERGY, -0.1), ValueError, "MALA: step_size must be finite and not negative"),
        (lambda: MALA(ENERGY, "a"), TypeError, "MALA: step_size must be a number or a tensor"),
        (
            lambda: Langevin.from_time_step(ENERGY, -0.1),
            ValueError,
            "Langevin.from_time_step: time_step must be finite and not negative, got -0.1",
        ),
        (
            lambda: Langevin.from_noise_std(ENERGY, None),
            TypeError,
            "Langevin.from_noise_std: noise_std must be a number or a tensor, got NoneType",
        ),
        (
            lambda: Langevin(ENERGY, 0.1).anneal(torch.zeros(2, 2), 3, ["hot"]),
            TypeError,
            "Langevin.anneal: a temperature must be a number, got str",
        ),
        (
            lambda: SGRLD(ENERGY, 0.1, torch.ones_like).sample(torch.zeros(2, 2), 1),
            TypeError,
            "SGRLD: metric returned a Tensor; expected the pair",
        ),
        (
            lambda: ParallelTempering(ENERGY, "ab", 0.1),
            TypeError,
            "ParallelTempering: inverse_temperatures must be numbers, got str",
        ),
        (
            lambda: ParallelTempering(ENERGY, (1.0, 0.5), None),
            TypeError,
            "ParallelTempering: step_size must be numbers, got NoneType",
        ),
        (
            lambda: warm_up(Langevin(ENERGY, 0.1), torch.zeros(2, 2), 3),
            TypeError,
            "warm_up: the sampler is a Langevin; expected HMC or MALA",
        ),
        (
            lambda: warm_up(HMC(ENERGY, 0.1, 2), torch.zeros(2, 2), 2.5),
            TypeError,
            "warm_up: num_steps must be an integer, got float",
        ),
        (
            lambda: ReplayBuffer(2.5, (2,)),
            TypeError,
            "ReplayBuffer: size must be an integer, got float",
        ),
        (
            lambda: ReplayBuffer(2, (2,), reinit_fraction="all"),
            TypeError,
            "ReplayBuffer: reinit_fraction must be a number, got str",
        ),
        (
            lambda: ReplayBuffer(2, (2,), start=lambda size, key, first_element: torch.zeros(3)),
            ValueError,
            r"ReplayBuffer: start returned states of shape \[3\]; expected \[2, 2\]",
        ),
        (
            lambda: ReplayBuffer(2, (2,)).draw(1.5),
            TypeError,
            "ReplayBuffer.draw: num must be an integer, got float",
        ),
        (
            lambda: ReplayBuffer(2, (2,)).put([[0.0, 0.0]], torch.tensor([0])),
            TypeError,
            "ReplayBuffer.put: x must be a tensor, got list",
        ),
        (
            lambda: Langevin(ENERGY, 0.1).anneal([[0.0]], 3, [1.0]),
            TypeError,
            "Langevin.anneal: x must be a tensor, got list",
        ),
        (
            lambda: ShortRunEBM(MLPEnergy(2), (2,), num_steps=2.5),
            TypeError,
            "ShortRunEBM: num_steps must be an integer, got float",
        ),
        (
            lambda: ShortRunEBM(MLPEnergy(2), (2,), start_scale=-1.0),
            ValueError,
            "ShortRunEBM: start_scale must be finite and not negative, got -1.0",
        ),
        (
            lambda: ShortRunEBM(MLPEnergy(2), (2,), generator_weight=float("nan")),
            ValueError,
            "ShortRunEBM: generator_weight must be finite, got nan",
        ),
        (
            lambda: FlowEBM(MLPEnergy(2), (2,), num_steps=0),
            ValueError,
            "FlowEBM: num_steps is 0; expected 1 or more",
        ),
        (
            lambda: ReplayBuffer(2, 2),
            TypeError,
            "ReplayBuffer: size must be a sequence of integers, got int",
        ),
        (
            lambda: ReplayBuffer(2, (2,)).put(torch.zeros(1, 2).double(), torch.tensor([0])),
            TypeError,
            "ReplayBuffer.put: states are torch.float64; expected torch.float32",
        ),
    ],
)
def test_settings_are_checked(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()


def test_a_differentiable_chain_needs_autograd():
    with torch.inference_mode(), pytest.raises(ValueError, match=r"^Langevin.sample: nothing is"):
        Langevin(ENERGY, 0.1).sample(torch.zeros(2, 2), 3, differentiable=True)


@pytest.mark.parametrize("kind", [np.array, torch.tensor, list])
def test_replicas_take_any_kind_of_numbers(kind):
    plain = ParallelTempering(ENERGY, (1.0, 0.5), (0.1, 0.2))
    given = ParallelTempering(ENERGY, kind([1.0, 0.5]), kind([0.1, 0.2]))
    assert given.inverse_temperatures == plain.inverse_temperatures
    assert given.step_size == pytest.approx(plain.step_size)


def annealed(energy=ENERGY, betas=None, kernel=None, base=None):
    betas = annealing_schedule("linear", 3) if betas is None else betas
    kernel = partial(MALA, step_size=0.1) if kernel is None else kernel
    return AnnealedImportance(energy, base or GaussianBase((2,)), betas, kernel)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        # A sum over the chains would be added to every chain's energy, and log Z be wrong.
        (
            lambda: annealed(lambda x: ENERGY(x).sum()).run(5, key=key(0)),
            ValueError,
            r"AnnealedImportance: energy\(x\) has shape \[\] for x of shape \[5, 2\]; .* \[5\]",
        ),
        (
            lambda: annealed(lambda x: ENERGY(x)[:, None]).run(5, key=key(0)),
            ValueError,
            r"AnnealedImportance: energy\(x\) has shape \[5, 1\]",
        ),
        # A Gaussian of two dimensions would be evaluated on three.
        (
            lambda: annealed().reverse(torch.zeros(5, 3), key=key(0)),
            ValueError,
            r"GaussianBase.log_prob: x has shape \[5, 3\]; expected rows of shape \[2\]",
        ),
        (
            lambda: annealed().run(0, key=key(0)),
            ValueError,
            "AnnealedImportance.run: num is 0; expected 1 or more",
        ),
        (
            lambda: annealed().reverse(torch.zeros(0, 2), key=key(0)),
            ValueError,
            "AnnealedImportance.reverse: x has no rows",
        ),
        (
            lambda: annealed(betas=[0, 0.5, 1]),
            ValueError,
            r"AnnealedImportance: betas are \[0, 0.5, 1\]; expected a tensor",
        ),
        (
            lambda: annealed(kernel=partial(Langevin, step_size=0.1)).run(5, key=key(0)),
            TypeError,
            "AnnealedImportance: kernel made a Langevin, .* expected a transition",
        ),
        (
            lambda: annealed(kernel=partial(SGLD, step_size=0.1)).run(5, key=key(0)),
            TypeError,
            "AnnealedImportance: kernel made a SGLD, .* expected a transition that leaves",
        ),
        (
            lambda: annealed(kernel=partial(SGHMC, step_size=0.1, friction=1.0)).reverse(
                torch.zeros(5, 2), key=key(0)
            ),
            TypeError,
            "AnnealedImportance: kernel made a SGHMC, .* expected a transition that leaves",
        ),
        (
            lambda: annealed(lambda x: ENERGY(x)[:, None]).reverse(torch.zeros(5, 2), key=key(0)),
            ValueError,
            r"AnnealedImportance: energy\(x\) has shape \[5, 1\]",
        ),
        (
            lambda: annealed(kernel=MALA(ENERGY, 0.1)),
            TypeError,
            "AnnealedImportance: kernel is a MALA; expected a function",
        ),
        (
            lambda: annealed(base=torch.distributions.Normal(0.0, 1.0)),
            TypeError,
            "AnnealedImportance: base is a Normal; expected a GaussianBase, a flow",
        ),
        (lambda: GaussianBase((2,), std="wide"), TypeError, "GaussianBase: std must be a number"),
        (lambda: GaussianBase((2,), std=-1.0), ValueError, "GaussianBase: std is -1.0"),
        (
            lambda: GaussianBase((2,), mean=torch.zeros(3)),
            ValueError,
            r"GaussianBase: mean has shape \[3\]; expected a number or the shape of a row, \[2\]",
        ),
    ],
)
def test_annealed_importance_refuses_what_would_be_a_wrong_estimate(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()


def test_one_annealed_chain_has_no_standard_error():
    result = annealed().run(1, key=key(0))
    assert result.standard_error != result.standard_error
    assert result.log_z == pytest.approx(result.log_weights.item())


def test_a_lost_chain_stays_out_of_the_replay_buffer():
    buffer = ReplayBuffer(4, (2, 3), key=key(1))
    before, slots = buffer.chains.clone(), torch.tensor([3, 0, 2])
    x = normal(3, 2, 3, seed=2)
    x[1, 0, 2] = torch.nan
    x[2, 1, 1] = torch.inf
    buffer.put(x, slots)
    assert torch.equal(buffer.chains[3], x[0])
    assert torch.equal(buffer.chains[:3], before[:3])
