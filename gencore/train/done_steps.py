"""How many steps are done, for experiments whose steps depend on it."""

__all__ = ["DoneSteps"]


class DoneSteps:
    """A count of steps that checkpoints keep.

    Example:
        >>> from gencore.train.done_steps import DoneSteps
        >>> source, target = DoneSteps(), DoneSteps()
        >>> source.number += 1
        >>> target.load_state_dict(source.state_dict())
        >>> target.number
        1
    """

    def __init__(self) -> None:
        self.number = 0

    def state_dict(self) -> dict[str, int]:
        return {"number": self.number}

    def load_state_dict(self, state_dict: dict[str, int], /) -> None:
        self.number = state_dict["number"]
