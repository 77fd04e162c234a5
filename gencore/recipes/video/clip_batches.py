"""The clips of each step's batch: patches that a step's number and the seed choose."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from gencore.data import VideoDataset
from gencore.data.video.motion_patches import draw_motion_patch
from gencore.train import Batch
from gencore.train.batches import BatchOrder

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["ClipBatches"]


class ClipBatches:
    """Patches of the clips of each step, on the run's device; a pure function of seed and step.

    Args:
        dataset: the clips.
        batch_size: over all ranks.
        patch_size: side of the patches; each is cut out anew every time its clip comes.
        min_motion: that they have to show, see `draw_motion_patch`.
        seed: of the order and of the places.
        fabric: the run's processes.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        batch_size: int,
        *,
        patch_size: int,
        min_motion: float,
        seed: int,
        fabric: "Fabric",
    ) -> None:
        self._dataset, self._seed, self._device = dataset, seed, fabric.device
        self._patch_size, self._min_motion = patch_size, min_motion
        self._order = BatchOrder(
            len(dataset),
            batch_size,
            seed=seed,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
        )

    def __getitem__(self, step: int) -> Batch:
        """This rank's clips, uint8 [B / ranks, T, C, S, S], of step `step`, counted from 0."""
        index = self._order.indices(step)
        start = step * self._order.batch_size + self._order.first
        patches = [
            draw_motion_patch(
                self._dataset[clip],
                self._patch_size,
                min_motion=self._min_motion,
                # The row's number in the run, so that ranks draw what one process would.
                random=np.random.default_rng([self._seed, start + row]),
            )
            for row, clip in enumerate(index.tolist())
        ]
        x = torch.stack(patches).to(self._device)
        return Batch(x, None, index.to(self._device), self._order.first)
