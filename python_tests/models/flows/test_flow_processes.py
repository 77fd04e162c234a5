"""Flows in training on two processes."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from testing.ranks import call_on_ranks
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gencore.models import Flow, Glow


class NegativeLogLikelihood(nn.Module):
    """The mean over a batch, as the forward pass that DistributedDataParallel wraps."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor) -> Tensor:
        return -self.flow.log_prob(x).mean()


def images() -> Tensor:
    # The two processes' halves have different moments.
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(0.5, 3, 8).view(8, 1, 1, 1)
    return scale + scale * torch.randn(8, 1, 4, 4, generator=generator)


def train(model: nn.Module, x: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).backward()
        optimizer.step()


def glow() -> Glow:
    torch.manual_seed(1)
    return Glow((1, 4, 4), num_levels=2, num_steps=2, hidden_channels=8, reversible=True)


def worker(folder: Path) -> None:
    dist.init_process_group("gloo")
    rank, flow = dist.get_rank(), glow()
    train(DistributedDataParallel(NegativeLogLikelihood(flow)), images()[4 * rank : 4 * rank + 4])
    torch.save(flow.state_dict(), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path):
    call_on_ranks(worker, tmp_path)
    flow = glow()
    train(NegativeLogLikelihood(flow), images())
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, expected in flow.state_dict().items():
        assert torch.equal(first[name], second[name])
        # Sums are rounded in another order.
        torch.testing.assert_close(first[name], expected, rtol=1e-3, atol=1e-4)
    assert first["transform.levels.0.transforms.1.transforms.0.is_initialized"]
