"""The processes of a run, through Lightning Fabric: its own launcher, or torchrun's processes."""

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import distributed

from gencore.extras import training_extra

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Vote", "launch", "on_rank_zero", "under_torchrun"]


def under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return distributed.is_available() and distributed.is_torchelastic_launched()


def launch(devices: int = 1, accelerator: str = "auto") -> "Fabric":
    """A launched Fabric over `devices` processes.

    Under torchrun the processes exist already and `devices` may stay 1; otherwise Fabric runs the
    program's command line again for each further device.

    Args:
        devices: processes on this machine, one per device (or per share of the CPU).
        accelerator: "auto", "cpu", "cuda" or "mps".

    Raises:
        ValueError: a wrong number, or an accelerator that this machine does not have.

    Example:
        >>> launch(accelerator="cpu").world_size
        1
    """
    with training_extra():
        from lightning_fabric import Fabric

    # Fabric announces every process at the level INFO, which it shows by default.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if isinstance(devices, bool) or not isinstance(devices, int) or devices < 1:
        raise ValueError(f"devices must be a positive number of processes, got {devices!r}")
    nodes = 1
    if under_torchrun():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        if devices not in (1, local):
            raise ValueError(f"devices is {devices}, but torchrun started {local} processes here")
        devices, nodes = local, int(os.environ["WORLD_SIZE"]) // local
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes)
    except Exception as error:  # Fabric raises its own kinds, RuntimeErrors and ValueErrors
        raise ValueError(
            f"cannot use {devices} device(s) of the kind {accelerator!r} here: {error}"
        ) from error
    fabric.launch()
    return fabric


def on_rank_zero(fabric: "Fabric", function: Callable[[], None]) -> None:
    """Calls `function` on rank 0 alone; when it raises a ValueError or OSError, all ranks end.

    Rank 0 raises it. The others exit with status 0, because one failure is to be reported once and
    because Fabric's launcher kills rank 0 when it sees another rank fail first.
    """
    failure: Exception | None = None
    if fabric.is_global_zero:
        try:
            function()
        except (ValueError, OSError) as error:
            failure = error
    failure = fabric.broadcast(failure)
    if failure is None:
        return
    if fabric.is_global_zero:
        raise failure
    raise SystemExit(0)


class Vote:
    """Whether any rank says yes, decided on the CPU so that no accelerator has to wait for it.

    Example:
        >>> Vote(launch(accelerator="cpu")).any(True)
        True
    """

    def __init__(self, fabric: "Fabric") -> None:
        self._alone = fabric.world_size == 1
        self._group = None
        if not self._alone and distributed.get_backend() != "gloo":
            self._group = distributed.new_group(backend="gloo")

    def any(self, mine: bool) -> bool:
        if self._alone:
            return mine
        vote = torch.tensor(int(mine))
        distributed.all_reduce(vote, op=distributed.ReduceOp.MAX, group=self._group)
        return bool(vote)
