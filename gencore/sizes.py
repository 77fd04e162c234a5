"""What layers and models ask of their sizes."""

__all__ = ["check_positive"]


def check_positive(owner: str, **sizes: int) -> None:
    """Raise a ValueError for the first of these sizes that is not positive, by its name."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{owner}: {name} is {size}; expected at least 1")
