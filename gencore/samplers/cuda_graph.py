"""A sampler's step captured in a CUDA graph, so that small steps do not wait for the host."""

from collections.abc import Callable

import torch

__all__ = ["graphed"]

_WARM_UP = 3


def graphed(
    name: str, step: Callable[[], None], restore: Callable[[], None], device: torch.device
) -> Callable[[], None]:
    """A replay of `step`, which works in place on tensors of fixed shapes.

    Args:
        name: the function that errors are to name.
        step: captured after a few calls that warm it up.
        restore: called after these, to undo what they did.
        device: of the tensors that `step` works on.

    Raises:
        ValueError: where `device` is no CUDA device.
        RuntimeError: if the step cannot be captured: it waits for the device (an `.item()`, a
            branch on a tensor, a copy to the host), or its shapes change.
    """
    if device.type != "cuda":
        raise ValueError(f"{name}: cuda_graph=True needs chains on a CUDA device, got {device}")
    current, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            step()
    current.wait_stream(stream)
    restore()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step()
    except RuntimeError as error:
        raise RuntimeError(
            f"{name}: the energy's gradient cannot be captured in a CUDA graph ({error}); it must "
            "not wait for the device nor change its shapes, or leave cuda_graph out"
        ) from error
    return graph.replay
