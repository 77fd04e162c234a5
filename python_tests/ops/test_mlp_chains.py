"""Whole chains on small networks: the Langevin and the Hamiltonian kernel."""

import math
import signal
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from testing.op_tester import DTYPES, TOLERANCE
from torch import Tensor

from gencore.ops import (
    backend,
    langevin_step_,
    mlp_chain,
    mlp_hmc,
    mlp_hmc_chain,
    mlp_langevin_chain,
    random_key,
    split_key,
)
from gencore.ops.mlp import mlp_energy

KEY = torch.tensor([3, 14])
ACTIVATIONS = ("silu", "softplus", "tanh", "leaky_relu", "relu")
NETWORKS = ([2], [3, 1], [2, 64, 64, 1], [5, 7, 1], [1, 33, 12, 9, 130, 1], [65, 10, 1])


def network(widths, dtype=torch.float64, device="cpu") -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(len(widths))
    weights, biases = [], []
    for inputs, outputs in pairwise(widths):
        weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
        weights.append((weight / inputs**0.5).to(device, dtype))
        bias = torch.randn(outputs, generator=generator, dtype=torch.float64)
        biases.append((0.3 * bias).to(device, dtype))
    return weights, biases


def starts(chains: int, dims: int, dtype=torch.float64, device="cpu") -> Tensor:
    generator = torch.Generator().manual_seed(chains)
    return torch.randn(chains, dims, generator=generator, dtype=torch.float64).to(device, dtype)


# A network's widths and its activation meet in no branch of the kernel.
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("activation", "widths"),
    [*(("silu", widths) for widths in NETWORKS), *((name, [5, 7, 1]) for name in ACTIVATIONS[1:])],
    ids=str,
)
def test_langevin_chain_matches_the_reference(activation, widths, dtype, device):
    weights, biases = network(widths, dtype, device)
    for chains in (0, 1, 5, 77):
        x = starts(chains, widths[0], dtype, device)
        results = []
        for name in ("native", "reference"):
            with backend(name):
                results.append(
                    mlp_langevin_chain(
                        x, weights, biases, 6, 0.05, 0.2, activation=activation,
                        negative_slope=0.3, prior_precision=0.3, grad_clamp=0.8, clamp=(-2, 1.5),
                        return_trajectory=True, thin=3, key=KEY.to(device), first_element=7,
                    )
                )  # fmt: skip
        assert results[0].shape == (2, chains, widths[0])
        torch.testing.assert_close(*results, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_chain_is_k_langevin_steps_with_the_same_numbers(dtype, device):
    weights, biases = network([3, 16, 8, 1], dtype, device)
    key = KEY.to(device)
    x = starts(50, 3, dtype, device)
    steps = torch.linspace(0.01, 0.1, 50, dtype=dtype, device=device)
    chain = mlp_langevin_chain(x, weights, biases, 20, steps, prior_precision=0.5, key=key)
    state = x.clone()
    for step_key in split_key(key, 20):
        leaf = state.detach().requires_grad_()
        (grad,) = torch.autograd.grad(mlp_energy(leaf, weights, biases).sum(), leaf)
        state = langevin_step_(state, grad, steps, prior_precision=0.5, key=step_key)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(chain, state, rtol=tolerance, atol=tolerance)


def test_without_a_network_the_steps_are_equal_bit_for_bit(device):
    x, key = starts(300, 7, torch.float32, device), KEY.to(device)
    chain = mlp_langevin_chain(x, [], [], 5, 0.1, prior_precision=2.0, key=key, first_element=21)
    state, zero = x.clone(), torch.zeros_like(x)
    for step_key in split_key(key, 5):
        langevin_step_(state, zero, 0.1, prior_precision=2.0, key=step_key, first_element=21)
    assert torch.equal(chain, state)


def test_given_noise_is_used(device):
    weights, biases = network([2, 8, 1], device=device)
    x = starts(10, 2, device=device)
    noise = torch.randn(4, 10, 2, dtype=torch.float64, device=device)
    ours = mlp_langevin_chain(x, weights, biases, 4, 0.1, noise=noise)
    with backend("reference"):
        torch.testing.assert_close(
            ours, mlp_langevin_chain(x, weights, biases, 4, 0.1, noise=noise)
        )
    still = mlp_langevin_chain(x, [], [], 4, 0.0, 1.0, noise=noise)
    torch.testing.assert_close(still, x + noise.sum(0))


@pytest.mark.parametrize("run", ["langevin", "hmc"])
def test_results_do_not_depend_on_the_batch_or_the_threads(run, device):
    weights, biases = network([3, 20, 1], torch.float32, device)
    x, key = starts(200, 3, torch.float32, device), KEY.to(device)

    def chain(part: Tensor, first: int) -> Tensor:
        if run == "langevin":
            return mlp_langevin_chain(part, weights, biases, 8, 0.1, key=key, first_element=first)
        return mlp_hmc_chain(
            part, weights, biases, 8, 0.3, 3, prior_precision=1.0, key=key, first_element=first
        ).position

    whole = chain(x, 0)
    assert torch.equal(torch.cat([chain(x[:37], 0), chain(x[37:], 37 * 3)]), whole)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(chain(x, 0), whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("activation", ["silu", "softplus", "tanh"])
def test_gradients(activation, device):
    weights, biases = network([2, 4, 3, 1], device=device)
    x = starts(3, 2, device=device)
    noise = torch.randn(2, 3, 2, dtype=torch.float64, device=device)
    leaves = tuple(t.requires_grad_() for t in (x, noise, *weights, *biases))

    def function(x, noise, *parameters):
        return mlp_langevin_chain(
            x, parameters[:3], parameters[3:], 2, 0.2, 0.3, activation=activation,
            prior_precision=0.5, return_trajectory=True, noise=noise,
        )  # fmt: skip

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


def test_gradients_with_the_kernels_noise(device):
    weights, biases = network([2, 4, 1], device=device)
    leaves = tuple(t.requires_grad_() for t in (starts(3, 2, device=device), *weights, *biases))

    def function(x, *parameters):
        return mlp_langevin_chain(
            x, parameters[:2], parameters[2:], 3, 0.2, clamp=(-1.2, 1.2), key=KEY.to(device)
        )

    assert torch.autograd.gradcheck(function, leaves)


def test_opcheck(device):
    x = starts(5, 2, device=device).requires_grad_()
    weights, biases = network([2, 4, 1], device=device)
    parameters = torch.cat([weights[0].flatten(), biases[0], weights[1].flatten(), biases[1]])
    none = (None, None)
    torch.library.opcheck(
        torch.ops.gencore.mlp_langevin_chain.default,
        (x, parameters.requires_grad_(), [2, 4, 1], 0, 0.0, 4, 2, None, KEY.to(device), *none,
         0.1, 0.2, 0.0, math.inf, -math.inf, math.inf, 0),
    )  # fmt: skip
    torch.library.opcheck(
        torch.ops.gencore.mlp_hmc_chain.default,
        (x.detach(), parameters.detach(), [2, 4, 1], 0, 0.0, 4, 2, 3, KEY.to(device), *none,
         0.1, 1.0, 0.0, 1000.0, 0, 2**61),
    )  # fmt: skip


def test_compiles_without_graph_breaks(device):
    weights, biases = network([2, 8, 1], torch.float32, device)
    x = starts(5, 2, torch.float32, device).requires_grad_()

    def loss() -> Tensor:
        return mlp_langevin_chain(x, weights, biases, 3, 0.1, key=KEY.to(device)).square().sum()

    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (ours,), (eager,) = torch.autograd.grad(compiled(), x), torch.autograd.grad(loss(), x)
    torch.testing.assert_close(ours, eager)


def test_the_generator_governs_the_noise():
    def run(chain, **how):
        result = chain(torch.zeros(4, 2), [], [], 3, 0.5, *how.pop("more", ()), **how)
        return getattr(result, "position", result)

    for chain, more in ((mlp_langevin_chain, ()), (mlp_hmc_chain, (2,))):
        torch.manual_seed(1)
        first, second = run(chain, more=more), run(chain, more=more)
        generator = torch.Generator().manual_seed(1)
        assert torch.equal(run(chain, more=more, generator=generator), first)
        assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("widths", NETWORKS, ids=str)
def test_hmc_chain_matches_the_reference(widths, dtype, device):
    weights, biases = network(widths, dtype, device)
    masses = torch.linspace(0.5, 1.5, widths[0], dtype=dtype, device=device)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    tolerance = 1e-11 if dtype == torch.float64 else 5e-5
    for chains in (0, 1, 77):
        x = starts(chains, widths[0], dtype, device)
        results = []
        for name in ("native", "reference"):
            with backend(name):
                results.append(
                    mlp_hmc_chain(
                        x, weights, biases, 4, 0.6, 3, inverse_mass=masses, prior_precision=1.2,
                        max_energy_error=0.1, return_trajectory=True, thin=2, key=KEY.to(device),
                    )
                )  # fmt: skip
        ours, reference = results
        assert ours.position.dtype == dtype
        assert {t.dtype for t in ours[1:]} == {wide}
        torch.testing.assert_close(ours.position, reference.position, **TOLERANCE[dtype])
        torch.testing.assert_close(ours[1:], reference[1:], rtol=tolerance, atol=tolerance)


def test_hmc_energies_are_those_of_the_positions(device):
    weights, biases = network([2, 16, 1], device=device)
    chain = mlp_hmc_chain(
        starts(40, 2, device=device), weights, biases, 10, 0.4, 4, prior_precision=1.0
    )
    expected = mlp_energy(chain.position, weights, biases, prior_precision=1.0)
    torch.testing.assert_close(chain.energy, expected)


def test_hmc_leaves_a_gaussian_invariant(device):
    """Variance of chains that start in N(0, I/λ), within 4 standard errors of the estimate."""
    chains, dims, precision = 20000, 3, 4.0
    x = torch.randn(chains, dims, device=device, generator=_generator(device)) / precision**0.5
    chain = mlp_hmc_chain(
        x, [], [], 5, 0.6, 3, prior_precision=precision, key=KEY.to(device), inverse_mass=1.3
    )
    variance = chain.position.double().square().mean().item()
    standard_error = math.sqrt(2.0 / (chains * dims)) / precision
    assert abs(variance - 1.0 / precision) < 4 * standard_error
    assert 0.5 < chain.acceptance_rate.mean() < 0.999
    rejected = chain.num_accepted < 5
    assert rejected.any()
    assert not torch.equal(chain.position[~rejected], x[~rejected])


def _generator(device) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def test_hmc_rejects_and_counts_what_diverges(device):
    x = starts(30, 2, torch.float32, device)
    chain = mlp_hmc_chain(x, [], [], 7, 1e8, 5, prior_precision=1e4)
    assert torch.equal(chain.position, x)
    assert (chain.num_divergent == 7).all()
    assert (chain.num_accepted == 0).all()
    assert (chain.acceptance_rate == 0).all()


def test_step_size_zero_accepts_and_stays(device):
    weights, biases = network([2, 8, 1], torch.float32, device)
    x = starts(9, 2, torch.float32, device)
    chain = mlp_hmc_chain(x, weights, biases, 4, 0.0, 2)
    assert torch.equal(chain.position, x)
    assert (chain.num_accepted == 4).all()


WEIGHTS, BIASES = network([2, 4, 1], torch.float32)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"x": torch.zeros(3)}, ValueError, "expected \\[N, D\\]"),
        ({"x": torch.zeros(3, 2).int()}, TypeError, "int32"),
        ({"x": torch.zeros(3, 5)}, ValueError, "expected \\[H, 5\\]"),
        ({"x": torch.zeros(3, 2).double()}, ValueError, "float64"),
        ({"biases": BIASES[:1]}, ValueError, "2 weights and 1 biases"),
        ({"biases": [BIASES[0], torch.zeros(2)]}, ValueError, "shape \\[2\\]"),
        ({"weights": WEIGHTS[:1], "biases": BIASES[:1]}, ValueError, "4 outputs, expected 1"),
        ({"weights": [0.5, 1.0]}, TypeError, "weights must be tensors"),
        ({"activation": "sine"}, ValueError, "'sine'; expected one of silu"),
        ({"num_steps": 0}, ValueError, "at least 1"),
        ({"num_steps": 2.5}, TypeError, "num_steps must be an integer"),
        ({"thin": 2}, ValueError, "thin must divide"),
        ({"step_size": -0.1}, ValueError, "step_size"),
        ({"step_size": torch.ones(4)}, ValueError, "leading dimensions"),
        ({"key": torch.zeros(3)}, ValueError, "key must be"),
        ({"prior_precision": math.nan}, ValueError, "prior_precision"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_is_named(wrong, error, words):
    for chain in (mlp_langevin_chain, mlp_hmc_chain):
        arguments = {
            "x": torch.zeros(3, 2), "weights": WEIGHTS, "biases": BIASES, "num_steps": 3,
            "step_size": 0.1, **({"num_leapfrog": 2} if chain is mlp_hmc_chain else {}), **wrong,
        }  # fmt: skip
        with pytest.raises(error, match=f"^{chain.__name__}: .*{words}"):
            chain(**arguments)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"num_leapfrog": 0}, ValueError),
        ({"inverse_mass": 0.0}, ValueError),
        ({"inverse_mass": torch.zeros(2)}, ValueError),
        ({"inverse_mass": torch.ones(3)}, ValueError),
        ({"first_element": 3}, ValueError),
        ({"max_energy_error": -1.0}, ValueError),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_of_hmc_is_named(wrong, error):
    arguments = {"num_leapfrog": 2, **wrong}
    with pytest.raises(error, match=r"^mlp_hmc_chain: "):
        mlp_hmc_chain(torch.zeros(3, 2), WEIGHTS, BIASES, 3, 0.1, **arguments)


def test_noise_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"^mlp_langevin_chain: noise is .*\[3, 3, 2\]"):
        mlp_langevin_chain(torch.zeros(3, 2), [], [], 3, 0.1, noise=torch.zeros(3, 2))


def test_keys_of_a_chain_do_not_repeat():
    """Neighbouring draws of one seed give different chains."""
    key = random_key(torch.Generator().manual_seed(0))
    x = torch.zeros(5, 2)
    one = mlp_langevin_chain(x, [], [], 2, 0.5, key=key)
    assert not torch.equal(one, mlp_langevin_chain(x, [], [], 2, 0.5, key=key + 1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("return_trajectory", [False, True])
@pytest.mark.parametrize("thin", [1, 3, 10])
def test_a_chain_in_parts_is_the_same(thin, return_trajectory, dtype, monkeypatch, device):
    """Parts of 4 steps: shorter and longer than the distance between two states kept."""
    weights = [w.to(device, dtype) for w in (torch.randn(5, 3), torch.randn(1, 5))]
    biases = [b.to(device, dtype) for b in (torch.randn(5), torch.randn(1))]
    x, noise = torch.randn(7, 3).to(device, dtype), torch.randn(30, 7, 3).to(device, dtype)
    key = torch.tensor([5, 2**63 - 9], device=device)
    how = {"return_trajectory": return_trajectory, "thin": thin if return_trajectory else 1}
    how |= {"prior_precision": 0.5, "key": key}

    def chains():
        return [
            mlp_langevin_chain(x, weights, biases, 30, 0.1, **how),
            mlp_langevin_chain(x, weights, biases, 30, 0.1, noise=noise, **how),
            *mlp_hmc_chain(x, weights, biases, 30, 0.3, 2, **how),
        ]

    whole = chains()
    monkeypatch.setattr(mlp_chain, "longest_part", lambda *_: 4)
    monkeypatch.setattr(mlp_hmc, "longest_part", lambda *_: 4)
    monkeypatch.setattr(mlp_hmc, "most_chains", lambda *_: 3)
    for number, (ours, expected) in enumerate(zip(chains(), whole, strict=True)):
        accuracy = 1e-6 if number == 4 else 0.0  # the mean rate is a sum of sums
        torch.testing.assert_close(ours, expected, rtol=accuracy, atol=0.0)


@pytest.mark.parametrize("most", [32, 40])
def test_a_transition_by_parts_of_the_batch_is_the_same(most, monkeypatch):
    """Parts of whole blocks of lanes and of others, with a step size a chain."""
    weights, biases = [torch.randn(9, 3), torch.randn(1, 9)], [torch.randn(9), torch.randn(1)]
    how = {"key": torch.tensor([5, 2]), "first_element": 6, "num_leapfrog": 7}
    x, sizes = torch.randn(133, 3), torch.linspace(0.05, 0.4, 133)
    whole = mlp_hmc_chain(x, weights, biases, 3, sizes, **how)
    monkeypatch.setattr(mlp_hmc, "most_chains", lambda *_: most)
    assert all(map(torch.equal, mlp_hmc_chain(x, weights, biases, 3, sizes, **how), whole))


@contextmanager
def signalled():
    """A signal raises within, soon after it began."""

    def interrupt(*_):
        raise InterruptedError("enough")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("chain", "num_chains", "width", "numbers"),
    [
        (mlp_langevin_chain, 1, 8, (10**9, 0.1)),
        (mlp_hmc_chain, 1, 8, (10**9, 0.1, 4)),
        # A single transition, of many leapfrog steps of many chains.
        (mlp_hmc_chain, 20_000, 512, (1, 0.1, 10_000)),
    ],
)
def test_a_signal_ends_a_long_chain(chain, num_chains, width, numbers):
    weights = [torch.randn(width, 2), torch.randn(1, width)]
    biases = [torch.randn(width), torch.randn(1)]
    with signalled(), pytest.raises(InterruptedError, match="enough"):
        chain(torch.zeros(num_chains, 2), weights, biases, *numbers)


@pytest.mark.parametrize("name", ["native", "reference"])
def test_the_largest_states_stay_where_nothing_pulls(name):
    """Without a network and a prior E = 0, whatever the square of a state is."""
    x = torch.tensor([[3e38, -3e38], [1.0, 2.0]])
    with backend(name):
        moved = mlp_langevin_chain(x, [], [], 3, 0.1, noise_scale=0.0)
        chain = mlp_hmc_chain(x, [], [], 3, 1e-9, 2, key=KEY)
    assert moved.equal(x)
    assert chain.energy.eq(0).all()
    assert chain.num_divergent.eq(0).all()


@pytest.mark.parametrize("name", ["native", "reference"])
def test_a_constant_of_the_energy_does_not_hide_the_momenta(name):
    """Without a gradient only the kinetic energy decides, and it is kept."""
    weights, biases = [torch.zeros(1, 2)], [torch.tensor([1e30])]
    with backend(name):
        chain = mlp_hmc_chain(torch.zeros(5, 2), weights, biases, 3, 0.5, 2, key=KEY)
    assert chain.num_accepted.eq(3).all()
    assert chain.acceptance_rate.eq(1).all()


def test_a_complex_mass_is_refused():
    with pytest.raises(TypeError, match=r"^mlp_hmc_chain: inverse_mass is torch\.complex64"):
        mlp_hmc_chain(torch.zeros(5, 2), [], [], 3, 0.5, 2, inverse_mass=torch.ones(2) * 1j)
