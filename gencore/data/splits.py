"""The train and test parts of data that come undivided."""

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from gencore.choices import check_choice

__all__ = ["Split", "split_block", "split_indices"]

Split = Literal["train", "test"]

_SEED = 0


def split_indices(num: int, split: Split, labels: Tensor | None = None) -> Tensor:
    """Choose the images of one part: a fifth of every class is the test part, the rest trains.

    The choice depends on `num`, on `labels` and on nothing else: it is the same in every process,
    on every machine, in every version of torch. Without labels all images are one class.

    Args:
        num: Number of images N in the undivided set.
        split: The part to return.
        labels: Class of each image, [N], or None.

    Returns:
        Indices of the part in ascending order, int64.

    Raises:
        ValueError: the part would be empty, or is neither "train" nor "test".

    Example:
        >>> train, test = (split_indices(10, part) for part in ("train", "test"))
        >>> len(train), len(test)
        (8, 2)
        >>> sorted(torch.cat([train, test]).tolist()) == list(range(10))
        True
    """
    check_choice("split_indices", "split", split, get_args(Split))
    classes = np.zeros(num, dtype=np.int64) if labels is None else labels.numpy()
    # The stream of RandomState is frozen by NumPy's compatibility policy; torch's is not.
    random = np.random.RandomState(_SEED)
    is_test = np.zeros(num, dtype=bool)
    for label in np.unique(classes):
        members = random.permutation(np.flatnonzero(classes == label))
        is_test[members[: (len(members) + 2) // 5]] = True
    chosen = np.flatnonzero(is_test if split == "test" else ~is_test)
    if len(chosen) == 0:
        raise ValueError(
            f"{num} images are too few for a {split} part: it takes the nearest whole number to "
            "a fifth of each class for testing and the rest for training"
        )
    return torch.from_numpy(chosen)


def split_block(num: int, split: Split) -> range:
    """The positions of one part of what lies in a row, as frames in time or columns in a picture:
    the last fifth, from ⌊4·num/5⌋ on, is the test part.

    Neighbours are alike, so that a random choice would put almost the same into both parts.

    Example:
        >>> split_block(10, "train"), split_block(10, "test")
        (range(0, 8), range(8, 10))
    """
    check_choice("split_block", "split", split, get_args(Split))
    border = 4 * num // 5
    return range(border) if split == "train" else range(border, num)
