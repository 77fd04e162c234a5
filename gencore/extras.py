"""One sentence for a missing package of the training extra."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["training_extra"]

_PACKAGES = frozenset(
    {
        "PIL",
        "lightning_fabric",
        "matplotlib",
        "rich",
        "safetensors",
        "sklearn",
        "tensorboard",
        "tyro",
    }
)


@contextmanager
def training_extra(needed_for: str = "training") -> Iterator[None]:
    """Imports in this block that miss a package of the extra say how to install it.

    Example:
        >>> with training_extra():
        ...     raise ModuleNotFoundError("No module named 'rich'", name="rich")
        Traceback (most recent call last):
            ...
        ModuleNotFoundError: training needs the package rich: pip install 'gencore[train]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES:
            raise
        message = f"{needed_for} needs the package {package}: pip install 'gencore[train]'"
        raise ModuleNotFoundError(message, name=error.name) from None
