"""Functions and commands of gencore on several ranks, which torchrun would have started."""

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gencore import cli
from gencore.train import RunFolder

__all__ = ["call_on_ranks", "run_on_one_and_two", "run_on_ranks"]

# They are forks of one process that has imported these, which takes seconds, and done nothing yet.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["gencore.cli", "lightning_fabric", "sklearn.datasets", "torch.distributed"]
)


def _rank(
    rank: int, size: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), LOCAL_WORLD_SIZE=str(size),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_RUN_ID="test",
    )  # fmt: skip
    torch.set_num_threads(1)
    function(*arguments)


def call_on_ranks(
    function: Callable[..., Any], *arguments: Any, size: int = 2, timeout: float = 600
) -> None:
    """Calls a function of a module on all ranks to its end; they show what went wrong with one."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    ranks = [
        _CONTEXT.Process(target=_rank, args=(rank, size, port, function, arguments))
        for rank in range(size)
    ]
    deadline = time.monotonic() + timeout
    try:
        for process in ranks:
            process.start()
        while any(process.is_alive() for process in ranks) and time.monotonic() < deadline:
            if any(process.exitcode for process in ranks):
                break  # the others would wait for it
            time.sleep(0.02)
    finally:
        for process in ranks:
            process.kill()
            process.join()
    assert [process.exitcode for process in ranks] == [0] * size


def _command(words: list[str]) -> None:
    sys.exit(cli.main(words))


def run_on_ranks(words: list[str], size: int = 2, timeout: float = 600) -> None:
    """Runs a command on all ranks to its end."""
    call_on_ranks(_command, words, size=size, timeout=timeout)


def run_on_one_and_two(words: list[str], folder: Path) -> tuple[RunFolder, RunFolder]:
    """What a command writes that runs in this process, and on two ranks."""
    one, two = RunFolder(folder / "one"), RunFolder(folder / "two")
    assert cli.main([*words, f"--out={folder}/one"]) == 0
    run_on_ranks([*words, f"--out={folder}/two"])
    return one, two
