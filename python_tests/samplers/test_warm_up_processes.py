"""A warm-up of chains in two processes is, bit for bit, that of one process with all of them."""

import pytest
import torch
from testing.chain_testing import key, normal, quadratic
from testing.ranks import call_on_ranks
from torch import distributed as dist

from gencore.samplers import HMC, warm_up


def warm_up_a_part(folder):
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    part = slice(0, 9) if rank == 0 else slice(9, 16)
    sampler, x, info = warm_up(
        HMC(quadratic(), 0.1, 3), normal(16, 3)[part], 150, key=key(12),
        first_element=3 * part.start, process_group=dist.group.WORLD,
    )  # fmt: skip
    torch.save((sampler.step_size, sampler.inverse_mass, x, info.step_size), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_rounding_does_not_tell_the_processes_apart(tmp_path):
    """The adaptation magnifies a last bit to another step size within fifty transitions."""
    sampler, x, info = warm_up(HMC(quadratic(), 0.1, 3), normal(16, 3), 150, key=key(12))
    call_on_ranks(warm_up_a_part, tmp_path)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for step_size, inverse_mass, _, step_sizes in parts:
        assert step_size == sampler.step_size
        assert torch.equal(inverse_mass, sampler.inverse_mass)
        assert torch.equal(step_sizes, info.step_size)
    assert torch.equal(torch.cat([part[2] for part in parts]), x)
