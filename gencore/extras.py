"""One sentence for a missing package of an extra."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["samplers_extra", "training_extra"]

_PACKAGES = {
    "train": frozenset(
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
    ),
    "samplers": frozenset({"arviz", "torchdiffeq"}),
}


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
    with _extra("train", needed_for):
        yield


@contextmanager
def samplers_extra(needed_for: str) -> Iterator[None]:
    """The same for the packages of the samplers.

    Example:
        >>> with samplers_extra("GradientFlow"):
        ...     raise ModuleNotFoundError("No module named 'torchdiffeq'", name="torchdiffeq")
        Traceback (most recent call last):
            ...
        ModuleNotFoundError: GradientFlow needs the package torchdiffeq: pip install 'gencore[samplers]'
    """  # noqa: E501
    with _extra("samplers", needed_for):
        yield


@contextmanager
def _extra(name: str, needed_for: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES[name]:
            raise
        message = f"{needed_for} needs the package {package}: pip install 'gencore[{name}]'"
        raise ModuleNotFoundError(message, name=error.name) from None
