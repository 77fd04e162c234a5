"""Which implementation the public functions call: compiled kernels, or references in torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch.autograd import forward_ad

from gencore.choices import check_choice

__all__ = ["Backend", "backend", "refuse_transforms", "state", "transforming"]

Backend = Literal["native", "reference"]


_transform = torch._C._functorch.peek_interpreter_stack
_is_compiling = torch.compiler.is_compiling


def transforming() -> bool:
    """Whether this is inside a transform of torch.func (grad, vmap, jacrev, …) or a level of
    forward-mode differentiation."""
    return not _is_compiling() and (_transform() is not None or forward_ad._current_level >= 0)


def refuse_transforms(owner: str, instead: str) -> None:
    """Raise a RuntimeError inside a transform, which `owner` has no rules for."""
    if transforming():
        raise RuntimeError(f"{owner}: torch.func and forward mode cannot transform it; {instead}")


class _State:
    """The choice in force."""

    chosen = False
    """Whether the references were asked for. An attribute is cheaper to read than a property."""

    @property
    def reference(self) -> bool:
        """Whether to call the reference: where it was asked for, and inside a transform, which has
        no rules for compiled kernels but can see through code in torch."""
        return self.chosen or transforming()


state = _State()


@contextmanager
def backend(name: Backend) -> Iterator[None]:
    """Choose the implementation of every operator inside a ``with`` block.

    ``"native"`` is the compiled kernel, ``"reference"`` the same function in pure PyTorch with
    autograd's own derivatives. The choice holds for the whole process, because backward passes run
    in threads of their own.

    Inside ``torch.func.grad``, ``vmap`` and their like, and in forward-mode differentiation, the
    reference is taken in any case: those transforms cannot look into a kernel.

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
    check_choice("backend", "name", name, get_args(Backend))
    previous, state.chosen = state.chosen, name == "reference"
    try:
        yield
    finally:
        state.chosen = previous
