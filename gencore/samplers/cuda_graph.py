"""A sampler's step captured in a CUDA graph, so that small steps do not wait for the host."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["check_device", "graphed"]

_WARM_UP = 3


def check_device(name: str, device: torch.device) -> None:
    """Raise where there are no CUDA graphs; `name` is the function that the error is to name."""
    if device.type != "cuda":
        raise ValueError(f"{name}: cuda_graph=True needs chains on a CUDA device, got {device}")


def graphed(
    name: str, step: Callable[[], None], restore: Callable[[], None], device: torch.device
) -> Callable[[], None]:
    """A replay of `step`, which works in place on tensors of fixed shapes.

    A capture that fails takes torch's generator of the device with it, so the last call that warms
    `step` up already refuses what no capture allows: to wait for the device.

    Args:
        name: the function that errors are to name.
        step: captured after a few calls that warm it up.
        restore: called after these, to undo what they did.
        device: where the tensors are that `step` works on; `check_device` has accepted it.

    Raises:
        RuntimeError: if the step cannot be captured: it waits for the device (an `.item()`, a
            branch on a tensor, a copy to or from the host), or its shapes change.
    """
    current, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    stream.wait_stream(current)
    graph = torch.cuda.CUDAGraph()
    try:
        # One stream for all, since libraries keep handles and workspaces for each; and one that is
        # left again whatever happens, which torch.cuda.graph does not do where its capture fails.
        with torch.cuda.device(device), torch.cuda.stream(stream):
            for _ in range(_WARM_UP - 1):
                step()
            with _explaining(name), _refusing_to_wait():
                step()
            restore()
            # Other threads, such as one that pins a data loader's memory, may go on meanwhile.
            with (
                _explaining(name),
                torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
            ):
                step()
    finally:
        current.wait_stream(stream)  # before the memory that the warm-up used is given to others
    return graph.replay


@contextmanager
def _explaining(name: str) -> Iterator[None]:
    """Say on behalf of `name` what a step does that no graph can hold."""
    try:
        yield
    except RuntimeError as error:
        reason = error.__context__ or error  # the end of a capture hides what broke it
        raise RuntimeError(
            f"{name}: the energy's gradient cannot be captured in a CUDA graph ({reason}); it must "
            "not wait for the device nor change its shapes, or leave cuda_graph out"
        ) from error


@contextmanager
def _refusing_to_wait() -> Iterator[None]:
    """Within, an operator that makes the host wait for the device raises a RuntimeError."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
