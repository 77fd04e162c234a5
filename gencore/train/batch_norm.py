"""Batch normalisation over the rows of all processes."""

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["synchronise_batch_norm"]


def synchronise_batch_norm(owner: str, fabric: "Fabric", module: nn.Module) -> nn.Module:
    """The module with the batch statistics that one process would have: of all rows together.

    On one process, or without batch normalisation, it is the module as it was.

    Args:
        owner: in the error's text.
        fabric: the run's processes.
        module: before it is wrapped; its weights stay the same tensors.

    Raises:
        ValueError: for several processes that are not on CUDA, where torch cannot share statistics.
    """
    normalises = any(isinstance(part, _BatchNorm) for part in module.modules())
    if fabric.world_size == 1 or not normalises:
        return module
    if fabric.device.type != "cuda":
        raise ValueError(
            f"{owner}: there are {fabric.world_size} processes on the device "
            f"{fabric.device.type!r}, but the networks normalise over a batch, and torch shares "
            "its statistics on CUDA alone; expected one process, or CUDA"
        )
    synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return synchronised
