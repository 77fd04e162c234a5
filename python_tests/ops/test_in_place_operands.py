"""What an operator in place may write to: a refused call has written nothing."""

import pytest
import torch
from testing.torch_version import TORCH
from torch import Tensor

from gencore.ops import (
    NutsTree,
    backend,
    langevin_step_,
    leapfrog_step_,
    metropolis_accept_,
    nuts_leaf_,
    nuts_tree,
    replica_swap_,
    riemannian_langevin_step_,
    sghmc_step_,
)

KEY = torch.tensor([3, 0])
ZEROS = torch.zeros(6)


def draw(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(sum(size)))


def tree() -> NutsTree:
    x = draw(6, 4)
    grown = nuts_tree(x, ZEROS, x, 0.1, key=KEY, max_tree_depth=3)
    grown.checkpoints.zero_()
    return grown


# The call with the tensors that it writes to.
OPERATORS = {
    "langevin_step_": (lambda x: langevin_step_(x, draw(6, 4), 0.1, key=KEY), 1),
    "riemannian_langevin_step_": (
        lambda x: riemannian_langevin_step_(x, draw(6, 4), draw(6, 4).exp(), None, 0.1, key=KEY),
        1,
    ),
    "leapfrog_step_": (lambda x, momentum: leapfrog_step_(x, momentum, draw(6, 4), 0.1), 2),
    "sghmc_step_": (lambda x, p: sghmc_step_(x, p, draw(6, 4), 0.1, 0.5, key=KEY), 2),
    "metropolis_accept_": (
        lambda x, grad: metropolis_accept_(
            x, grad, ZEROS.clone(), draw(6, 4), draw(6, 4), ZEROS - 1, ZEROS, ZEROS, key=KEY
        ),
        2,
    ),
    "replica_swap_": (
        lambda x, grad: replica_swap_(
            x.unsqueeze(1),
            draw(6, 1),
            torch.linspace(1, 0.1, 6),
            0,
            grad=grad.unsqueeze(1),
            key=KEY,
        ),
        2,
    ),
    "nuts_leaf_": (
        lambda x, p: nuts_leaf_(
            tree()._replace(position=x, momentum=p), ZEROS, draw(6, 4), 0, 0.1, key=KEY
        ),
        2,
    ),
}
GRIDS = {
    "negated": (lambda: torch._neg_view(draw(6, 4)), "lazily negated"),
    "expanded": (lambda: draw(1, 4).expand(6, 4), "repeats elements|not contiguous"),
    "windows": (
        lambda: draw(24).as_strided((6, 4), (1, 1)),
        "repeats elements|not contiguous",
    ),
}
# Pairs of tensors, of which one may be written to and both may not.
PAIRS = {
    "the same": lambda s: (s[:24].view(6, 4), s[:24].view(6, 4)),
    "shifted": lambda s: (s[:24].view(6, 4), s[7:31].view(6, 4)),
    "the same view": lambda s: (s[:48].view(6, 8)[:, :4], s[:48].view(6, 8)[:, :4]),
    "crossing views": lambda s: (s[:48].view(6, 8)[:, :4], s[:48].view(6, 8)[:, 1:5]),
}


def refuse(call, names, storages, message):
    for name in names:
        before = [storage.clone() for storage in storages]
        for grad_enabled in (True, False):
            with (
                backend(name),
                torch.set_grad_enabled(grad_enabled),
                pytest.raises(ValueError, match=message),
            ):
                call()
        for storage, expected in zip(storages, before, strict=True):
            assert storage.equal(expected)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("op", OPERATORS)
def test_what_cannot_be_written_to_is_refused_before_anything_is_written(op, grid):
    if TORCH < (2, 13) and (op, grid) == ("langevin_step_", "negated"):
        pytest.skip("torch's fallback writes the negation back, rightly, and does not refuse")
    step, number = OPERATORS[op]
    make, message = GRIDS[grid]
    for wrong in range(number):
        tensors = [make() if k == wrong else draw(6, 4) for k in range(number)]
        call = lambda tensors=tensors: step(*tensors)  # noqa: E731
        refuse(call, ("native", "reference"), tensors, f"^{op}: .*({message})")


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("op", [op for op, (_, number) in OPERATORS.items() if number == 2])
def test_two_results_in_the_same_memory_are_refused(op, pair):
    storage = draw(50)
    call = lambda: OPERATORS[op][0](*PAIRS[pair](storage))  # noqa: E731
    refuse(call, ("native", "reference"), [storage], f"^{op}: .*(share memory|not contiguous)")


@pytest.mark.parametrize("op", [op for op in OPERATORS if op != "nuts_leaf_"])
def test_interleaved_views_are_written_to(op):
    step, number = OPERATORS[op]
    tensors = [draw(6, 4) + k for k in range(number)]
    step(*(copy := [t.clone() for t in tensors]))
    for name in ("native", "reference"):
        for dim in (0, 1, 2):
            storage = torch.stack(tensors, dim)
            views = storage.unbind(dim)
            with backend(name), torch.no_grad():
                step(*views)
            for view, expected in zip(views, copy, strict=True):
                torch.testing.assert_close(view, expected)


def test_temperatures_may_be_a_view_of_the_energies(device):
    """They are read before an energy is exchanged."""
    energies = torch.tensor([[4.0], [3.0], [2.0], [1.0]], dtype=torch.float64, device=device)
    results = []
    for name in ("native", "reference"):
        x, energy = torch.arange(4.0, device=device).view(4, 1, 1), energies.clone()
        with backend(name):
            replica_swap_(x, energy, energy.view(4), 0, key=KEY.to(device))
        results.append((x, energy))
    assert results[0][0].equal(results[1][0])
    assert results[0][1].equal(results[1][1])
