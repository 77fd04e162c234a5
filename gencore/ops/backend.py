"""Which implementation the public functions call: the compiled kernels or their twins in torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

__all__ = ["Backend", "backend", "state"]

Backend = Literal["native", "reference"]


class _State:
    """The choice in force, as an attribute: the price of a call would show in small operators."""

    reference = False


state = _State()


@contextmanager
def backend(name: Backend) -> Iterator[None]:
    """Choose the implementation of every operator inside a ``with`` block.

    ``"native"`` is the compiled kernel, ``"reference"`` the same function in pure PyTorch with
    autograd's own derivatives. The choice holds for the whole process, because backward passes run
    in threads of their own.

    Raises:
        ValueError: for any other name.

    Example:
        >>> import torch
        >>> from gencore.ops import backend, langevin_step
        >>> x, grad, noise = torch.zeros(3), torch.ones(3), torch.zeros(3)
        >>> with backend("reference"):
        ...     langevin_step(x, grad, 0.5, noise=noise)
        tensor([-0.5000, -0.5000, -0.5000])
    """
    if name not in ("native", "reference"):
        raise ValueError(f"backend: got {name!r}, expected 'native' or 'reference'")
    previous, state.reference = state.reference, name == "reference"
    try:
        yield
    finally:
        state.reference = previous
