"""What every sampler does with a batch of chains [N, ...], one a row."""

import math
import warnings

from torch import Tensor

__all__ = [
    "NonFiniteWarning",
    "chain_size",
    "check_sample",
    "first_chain",
    "rows",
    "warn_if_not_finite",
]


class NonFiniteWarning(RuntimeWarning):
    """Some chains met a value that is not finite; they are returned as they are."""


def chain_size(x: Tensor) -> int:
    """Number of elements in one chain of [N, ...]."""
    return math.prod(x.shape[1:])


def rows(x: Tensor) -> Tensor:
    """`[N, ...] -> [N, D]`, also for one element a row and for no rows."""
    return x.reshape(x.shape[0], chain_size(x))


def first_chain(name: str, x: Tensor, first_element: int) -> int:
    """The number of chains before this part of a batch, given that of their elements.

    Raises:
        ValueError: if the elements before this part are no whole number of chains like its own.

    Example:
        >>> import torch
        >>> first_chain("HMC.step", torch.zeros(10, 3), first_element=12)
        4
    """
    if first_element == 0:
        return 0
    size = chain_size(x)
    if size == 0 or first_element % size:
        raise ValueError(
            f"{name}: first_element is {first_element}, which is no multiple of the {size} "
            "elements of a chain; expected the number of elements in all chains before this part"
        )
    return first_element // size


def check_sample(name: str, x: Tensor, num_steps: int, thin: int, return_trajectory: bool) -> None:
    """Raise for the arguments that no `sample` can work with; `name` is the sampler's."""
    if x.dim() == 0:
        raise ValueError(f"{name}.sample: x is a scalar; expected chains [N, ...], one a row")
    if num_steps < 0:
        raise ValueError(f"{name}.sample: num_steps is {num_steps}; expected 0 or more")
    if thin < 1 or num_steps % thin:
        raise ValueError(
            f"{name}.sample: thin is {thin} for {num_steps} steps; expected a positive divisor, "
            "so that the last kept state is the final one"
        )
    if thin != 1 and not return_trajectory:
        raise ValueError(
            f"{name}.sample: thin={thin} has no effect on the final states; "
            "pass return_trajectory=True as well"
        )


def warn_if_not_finite(name: str, is_finite: Tensor, num_steps: int, advice: str) -> None:
    """Warn on behalf of the sampler `name` where not all of the chains `is_finite` [N] are."""
    bad = int((~is_finite).sum())
    if bad:
        warnings.warn(
            f"{name}: {bad} of {len(is_finite)} chains met NaN or infinity within {num_steps} "
            f"steps and are returned as they are; {advice} may help",
            NonFiniteWarning,
            stacklevel=3,
        )
