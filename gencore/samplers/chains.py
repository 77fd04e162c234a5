"""What every sampler does with a batch of chains [N, ...], one a row."""

import math
import warnings

from torch import Tensor

from gencore.ops._support.checks import check_count, check_state, index

__all__ = [
    "NonFiniteWarning",
    "chain_size",
    "check_positions",
    "check_sample",
    "elements_before",
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


def elements_before(name: str, x: Tensor, first: int, first_element: int | None) -> int:
    """The number of elements before this part of a batch, from the number of chains or its own.

    Raises:
        ValueError: if both are given.

    Example:
        >>> import torch
        >>> elements_before("HMC.step", torch.zeros(10, 3), 4, None)
        12
    """
    if first_element is None:
        return index(name, "first", first) * chain_size(x)
    if first != 0:
        raise ValueError(
            f"{name}: first is {first} and first_element is {first_element}; expected one of them"
        )
    return index(name, "first_element", first_element)


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


def check_positions(op: str, x: Tensor) -> None:
    """Raise unless x [N, ...] can be the positions of chains on which an energy has a gradient."""
    check_state(op, x)
    if x.dim() == 0:
        raise ValueError(f"{op}: x is a scalar; expected chains [N, ...], one a row")


def check_sample(name: str, x: Tensor, num_steps: int, thin: int, return_trajectory: bool) -> None:
    """Raise for the arguments that no `sample` can work with; `name` is the sampler's."""
    check_positions(f"{name}.sample", x)
    check_count(f"{name}.sample", "num_steps", num_steps)
    check_count(f"{name}.sample", "thin", thin, least=1)
    if num_steps % thin:
        raise ValueError(
            f"{name}.sample: thin is {thin} for {num_steps} steps; expected a divisor, "
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
            stacklevel=4,  # the caller of `sample`
        )
