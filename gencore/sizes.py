"""What layers and models ask of their sizes."""

from collections.abc import Sequence

__all__ = ["check_positive", "check_whole"]


def check_positive(owner: str, **sizes: int) -> None:
    """Raise a ValueError for the first of these sizes that is not positive, by its name, and a
    TypeError for one that is no whole number."""
    check_whole(owner, **sizes)
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{owner}: {name} is {size}; expected at least 1")


def check_whole(owner: str, **sizes: int | Sequence[int] | None) -> None:
    """Raise a TypeError for the first of these sizes, or lists of sizes, that is given and no whole
    number."""
    for name, size in sizes.items():
        for value in size if isinstance(size, Sequence) else (size,):
            if value is not None and not hasattr(value, "__index__"):
                raise TypeError(f"{owner}: {name} is {size}; expected whole numbers")
