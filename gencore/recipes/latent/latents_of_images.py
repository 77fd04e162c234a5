"""Latents that belong to the training images: their table, and its state in a checkpoint."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gencore.inference import DataLatents, LatentAdam
from gencore.train.gathering import gather_rows

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["LatentsState", "make_latents"]


def make_latents(
    fabric: "Fabric",
    start: Tensor,
    *,
    learning_rate: float,
    project: Callable[[Tensor], Tensor] | None = None,
) -> DataLatents:
    """The table of latents that start so, which all processes keep alike.

    Args:
        fabric: the run's processes.
        start: a row for each training image, [M, ...].
        learning_rate: of Adam on a row.
        project: puts latents back where they are to be after each step.
    """
    return DataLatents(
        start.to(fabric.device), optimizer=LatentAdam(learning_rate), project=project,
        gather=partial(gather_rows, fabric) if fabric.world_size > 1 else None,
    )  # fmt: skip


class LatentsState:
    """The table of latents in a checkpoint, with as many rows as there are: without the training
    images, to draw samples, their number is not known before."""

    def __init__(self, latents: DataLatents) -> None:
        self.latents = latents

    def state_dict(self) -> dict[str, Any]:
        return dict(self.latents.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, table in self.latents.named_buffers():
            table.resize_(len(state[name]), *table.shape[1:])
        self.latents.load_state_dict(state)
