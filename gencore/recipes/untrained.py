"""A warning of runs that end before a part of the model has its turn."""

import warnings

__all__ = ["warn_if_untrained"]


def warn_if_untrained(
    what: str, *, steps: int, first_steps: int, option: str, first_are: str
) -> None:
    """Warn, at the first step of a run, where the steps before a part's own ones take all of it.

    Args:
        what: that a part is not trained, as a clause.
        steps: of the run.
        first_steps: those before the part's.
        option: that sets them.
        first_are: what they are.
    """
    if steps <= first_steps:
        warnings.warn(
            f"{what}: the run has {steps} steps, and the first {first_steps} "
            f"({option}) are {first_are}",
            stacklevel=3,
        )
