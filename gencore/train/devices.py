"""The processes of a run, for Lightning Fabric: our own, or those of torchrun or SLURM's srun."""

import atexit
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from gencore.extras import training_extra

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.precision import MixedPrecision

    from gencore.train.recipe import Precision

__all__ = ["Vote", "launch", "on_rank_zero", "under_srun", "under_torchrun"]

# In the environment of a run's processes: the one that started the others.
_LAUNCHER = "GENCORE_LAUNCHER"


def under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return distributed.is_available() and distributed.is_torchelastic_launched()


def under_srun() -> bool:
    """Whether SLURM's srun started this process as one of several. The script of a job is one
    process, whatever the number of its tasks."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def launch(
    devices: int = 1,
    accelerator: str = "auto",
    precision: "Precision" = "32-true",
    *,
    skips_parameters: bool = False,
) -> "Fabric":
    """A launched Fabric over `devices` processes.

    Under torchrun and srun the processes exist already and `devices` may stay 1; otherwise the
    program's command line runs again for each further device, and these processes end when this
    one does.

    Args:
        devices: processes on this machine, one per device (or per share of the CPU, and then four
            for each of its cores at most).
        accelerator: "auto", "cpu", "cuda" or "mps".
        precision: of the forward pass of modules that Fabric wraps.
        skips_parameters: whether steps may leave parameters without a gradient. Several processes
            then find out in each step which these are; without it they wait for all gradients.

    Raises:
        ValueError: a wrong number, or an accelerator that this machine does not have.

    Example:
        >>> launch(accelerator="cpu").world_size
        1
    """
    with training_extra():
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    # Fabric announces every process at the level INFO, which it shows by default.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if isinstance(devices, bool) or not isinstance(devices, int) or devices < 1:
        raise ValueError(f"devices must be a positive number of processes, got {devices!r}")
    nodes, started = 1, None
    if under_torchrun() or under_srun():
        started = "torchrun" if under_torchrun() else "srun"
        local, nodes = _torchrun_processes() if under_torchrun() else _srun_processes()
        if devices not in (1, local):
            raise ValueError(f"devices is {devices}, but {started} started {local} processes here")
        devices = local
    # Fabric's own choice would take every process of a SLURM job for one of srun's.
    environment = LightningEnvironment()
    plugins: list[Any] = [] if under_torchrun() else [environment]
    if precision == "bf16-mixed":
        plugins.append(_autocast(accelerator))
    alone = devices * nodes == 1
    strategy = "ddp_find_unused_parameters_true" if skips_parameters and not alone else "auto"
    try:
        fabric = Fabric(
            accelerator=accelerator, devices=devices, num_nodes=nodes, plugins=plugins,
            strategy=strategy,
        )  # fmt: skip
    except Exception as error:  # Fabric raises its own kinds, RuntimeErrors and ValueErrors
        raise ValueError(
            f"cannot use {devices} device(s) of the kind {accelerator!r} here: {error}"
        ) from error
    if started is None and devices > 1:
        launcher = int(os.environ.get(_LAUNCHER, "0"))
        if launcher and environment.local_rank() > 0:
            _end_with(launcher)
        elif launcher != os.getpid() and (launcher or not environment.creates_processes_externally):
            # None run since an earlier call, nor does somebody else start them (LOCAL_RANK is set).
            _start_others(devices, fabric.device, environment)
    fabric.launch()
    if fabric.world_size > 1:
        atexit.register(_leave)
    return fabric


def _autocast(accelerator: str) -> "MixedPrecision":
    """Fabric's plugin for autocast, without its rounding of all inputs: chains, flows and data are
    computed in their own precision, and autocast chooses the operations."""
    from lightning_fabric.plugins.precision import MixedPrecision

    class Autocast(MixedPrecision):
        def convert_input(self, data: Any) -> Any:
            return data

    if accelerator == "auto":
        is_there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        accelerator = next((kind for kind, there in is_there.items() if there), "cpu")
    return Autocast("bf16-mixed", accelerator)


def _leave() -> None:
    """Ends torch's threads before the interpreter does, which now and then aborts otherwise.

    Gloo's alone: NCCL would wait for processes that an error may have ended.
    """
    if distributed.is_initialized() and distributed.get_backend() == "gloo":
        distributed.destroy_process_group()


def _start_others(devices: int, device: torch.device, environment: "LightningEnvironment") -> None:
    """Runs this program again as the ranks from 1 on, and ends it should one of them fail."""
    if device.type == "cpu" and devices > (most := 4 * (cores := _num_cores())):
        raise ValueError(
            f"devices is {devices}; expected at most {most} processes on {cores} CPU cores"
        )
    if sys.argv[0] in ("", "-"):
        raise ValueError(
            f"devices is {devices}, but a program from standard input cannot be started again for "
            "the others: put it into a file"
        )
    os.environ.update({
        "MASTER_ADDR": environment.main_address, "MASTER_PORT": str(environment.main_port),
        "NODE_RANK": "0", "LOCAL_RANK": "0", _LAUNCHER: str(os.getpid()),
    })  # fmt: skip
    command = [sys.executable, *sys.orig_argv[1:]]
    others = [
        subprocess.Popen(command, env={**os.environ, "LOCAL_RANK": str(rank)})
        for rank in range(1, devices)
    ]

    def watch() -> None:
        while not (failed := [process for process in others if process.poll()]):
            time.sleep(0.2)
        time.sleep(5)  # This process, too, may have the error, and say more of it.
        rank, status = others.index(failed[0]) + 1, failed[0].returncode
        print(f"rank {rank} of the run ended with status {status}", file=sys.stderr, flush=True)
        os._exit(status if status > 0 else 128 - status)

    threading.Thread(target=watch, daemon=True, name="ranks-watch").start()


def _end_with(launcher: int) -> None:
    """Ends this process when the one that started it is gone, killed or not: it would wait for it
    in a collective operation."""

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="launcher-watch").start()


def _torchrun_processes() -> tuple[int, int]:
    """Processes on each machine, and machines."""
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return local, int(os.environ["WORLD_SIZE"]) // local


def _srun_processes() -> tuple[int, int]:
    """Processes on each machine, and machines; tells them to Fabric as torchrun would."""
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    environ = os.environ
    tasks, nodes = (int(environ[f"SLURM_STEP_NUM_{kind}"]) for kind in ("TASKS", "NODES"))
    if tasks % nodes:
        raise ValueError(
            f"srun started {tasks} processes on {nodes} machines; expected as many on each "
            "(--ntasks-per-node)"
        )
    local = tasks // nodes
    rank = local * int(environ["SLURM_NODEID"]) + int(environ["SLURM_LOCALID"])
    environ.update(
        RANK=str(rank), LOCAL_RANK=environ["SLURM_LOCALID"], NODE_RANK=environ["SLURM_NODEID"]
    )
    hosts = environ.get("SLURM_STEP_NODELIST", environ.get("SLURM_NODELIST", "127.0.0.1"))
    environ.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(hosts))
    job, step = (int(environ.get(f"SLURM_{kind}_ID", "0")) for kind in ("JOB", "STEP"))
    environ.setdefault("MASTER_PORT", str(15_000 + (10 * job + step) % 10_000))
    return local, nodes


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_rank_zero(fabric: "Fabric", function: Callable[[], None]) -> None:
    """Calls `function` on rank 0 alone; when it raises a ValueError or OSError, all ranks end.

    Rank 0 raises it. The others exit with status 0, because one failure is to be reported once and
    because rank 0 ends when another rank has failed.
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
    """The largest number of any rank, found on the CPU so that no accelerator has to wait for it.

    Example:
        >>> Vote(launch(accelerator="cpu")).largest(2)
        2
    """

    def __init__(self, fabric: "Fabric") -> None:
        self._alone = fabric.world_size == 1
        self._group = None
        if not self._alone and distributed.get_backend() != "gloo":
            self._group = distributed.new_group(backend="gloo")

    def largest(self, mine: int) -> int:
        if self._alone:
            return mine
        vote = torch.tensor(mine)
        distributed.all_reduce(vote, op=distributed.ReduceOp.MAX, group=self._group)
        return int(vote)
