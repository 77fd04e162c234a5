"""The rows of all processes as one tensor."""

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["gather_rows"]


def gather_rows(fabric: "Fabric", part: Tensor) -> Tensor:
    """The parts [N, ...] of all ranks as one tensor, in the order of the ranks."""
    gathered = fabric.all_gather(part)  # [ranks, N, ...], or [N, ...] from a single process
    assert isinstance(gathered, Tensor)
    return gathered.reshape(-1, *part.shape[1:])
