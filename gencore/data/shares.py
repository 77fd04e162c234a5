"""Which process reads which part of a stream, and in which order."""

import numpy as np
import torch.distributed as dist

__all__ = ["check_place", "epoch_order"]


def check_place(owner: str, rank: int | None, world_size: int | None) -> tuple[int, int]:
    """This process's rank and the number of processes; None stands for those of torch.distributed,
    or for the only process if it has not been set up.

    Raises:
        ValueError: not 0 ≤ rank < world_size.

    Example:
        >>> check_place("clips", None, None), check_place("clips", 2, 4)
        ((0, 1), (2, 4))
    """
    is_set_up = dist.is_available() and dist.is_initialized()
    if rank is None:
        rank = dist.get_rank() if is_set_up else 0
    if world_size is None:
        world_size = dist.get_world_size() if is_set_up else 1
    if not 0 <= rank < world_size:
        raise ValueError(
            f"{owner}: rank = {rank} and world_size = {world_size}, expected 0 <= rank < world_size"
        )
    return rank, world_size


def epoch_order(num: int, seed: int | None, epoch: int) -> np.ndarray:
    """The order of `num` things in an epoch: a shuffle that seed and epoch fix; without a seed as
    they come.

    Example:
        >>> epoch_order(4, None, 3).tolist(), sorted(epoch_order(4, 0, 3).tolist())
        ([0, 1, 2, 3], [0, 1, 2, 3])
    """
    if seed is None:
        return np.arange(num)
    # The pair as entropy: with seed + epoch, neighbouring seeds would share their epochs.
    return np.random.default_rng([seed, epoch]).permutation(num)
