"""The weight of a loss that changes in the course of training."""

import math
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["WeightSchedule"]


@dataclass(frozen=True)
class WeightSchedule:
    """A weight λ(t) that changes at stated steps: from step `steps[i]` on it is `values[i]`.

    Smaller λ_p and λ_gdl late in training make predictions sharper; large ones at first keep the
    game stable (§4.2.4).

    Args:
        initial: before the first of the steps.
        steps: where it changes, ascending, counted from 0.
        values: what it changes to.

    Raises:
        ValueError: for values that are negative or not finite, steps that do not ascend from 1 on,
            or not one value a step.

    Example:
        >>> weight = WeightSchedule(1.0, (100, 200), (0.5, 0.0))
        >>> weight(0), weight(99), weight(100), weight(5000)
        (1.0, 1.0, 0.5, 0.0)
    """

    initial: float
    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.values) or any(
            later <= earlier for earlier, later in pairwise((0, *self.steps))
        ):
            raise ValueError(
                f"WeightSchedule: steps are {self.steps} and values {self.values}; expected "
                "ascending steps from 1 on, and a value for each"
            )
        for value in (self.initial, *self.values):
            if not 0 <= value < math.inf:
                raise ValueError(
                    f"WeightSchedule: a weight is {value}; expected finite and not negative"
                )

    def __call__(self, step: int) -> float:
        """λ of a step, counted from 0."""
        current = self.initial
        for start, value in zip(self.steps, self.values, strict=True):
            if step >= start:
                current = value
        return current
