"""Batch normalisation on several processes."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gencore.train.batch_norm import synchronise_batch_norm


def fabric(world_size, device):
    return SimpleNamespace(world_size=world_size, device=torch.device(device))


def network():
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_processes_on_gpus_share_statistics():
    module = network()
    weights = list(module.parameters())
    found = synchronise_batch_norm("X", fabric(2, "cuda"), module)
    assert isinstance(found[1], nn.SyncBatchNorm)
    assert all(one is other for one, other in zip(found.parameters(), weights, strict=True))


def test_processes_of_a_cpu_cannot():
    with pytest.raises(
        ValueError, match="X: there are 2 processes on the device 'cpu', but the ne"
    ):
        synchronise_batch_norm("X", fabric(2, "cpu"), network())


@pytest.mark.parametrize(
    ("world_size", "device", "module"), [(1, "cuda", network()), (2, "cpu", nn.Linear(3, 2))]
)
def test_else_the_module_stays_as_it_is(world_size, device, module):
    kinds = [type(part) for part in module.modules()]
    assert synchronise_batch_norm("X", fabric(world_size, device), module) is module
    assert [type(part) for part in module.modules()] == kinds
