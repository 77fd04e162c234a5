"""Buffers that are fixed when a module is made, such as masks and permutations."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FixedBuffers", "with_values"]


class FixedBuffers(nn.Module):
    """A module some of whose buffers keep their values where weights lose theirs.

    Weights made on the meta device have no values until they are loaded or initialised. A mask or
    a permutation would never get one so: it is made under :func:`with_values`, remembered while its
    buffer is on the meta device, and set again when the module leaves it, by ``to_empty`` or by
    ``load_state_dict(..., assign=True)``.

    Example:
        >>> import torch
        >>> from gencore.nn import Permutation
        >>> with torch.device("meta"):
        ...     layer = Permutation.reverse(3)
        >>> layer.to_empty(device="cpu").order
        tensor([2, 1, 0])
    """

    def __init__(self) -> None:
        super().__init__()
        # By the buffers' names: the value of one that is on the meta device, or None.
        self._kept: dict[str, Tensor | None] = {}
        self.register_load_state_dict_post_hook(_leave_meta_device)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({"_kept": {}, **state})  # an older pickle remembers nothing

    def register_fixed(self, name: str, value: Tensor, *, persistent: bool = True) -> None:
        """Register a buffer that keeps its value; on the meta device where that is the default."""
        self.register_buffer(name, value, persistent=persistent)
        self._kept[name] = None
        if torch.get_default_device().type == "meta":
            self._kept[name] = value
            self._buffers[name] = value.to("meta")

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "FixedBuffers":
        values = {name: self._value(name) for name in self._kept}
        super()._apply(fn, recurse)
        for name, value in values.items():
            self._set(name, self.get_buffer(name), value)
        return self

    def _value(self, name: str) -> Tensor:
        kept, buffer = self._kept[name], self.get_buffer(name)
        return kept if kept is not None and buffer.is_meta else buffer

    @torch.no_grad()
    def _set(self, name: str, buffer: Tensor, value: Tensor) -> None:
        """Put a buffer in its place, with that value unless it is on the meta device."""
        # A tensor of another type, such as a fake one, takes no values from this one.
        same_type = type(buffer) is type(value)
        if same_type and buffer is not value and not (buffer.is_meta or value.is_meta):
            buffer.copy_(value)
        self._buffers[name] = buffer
        self._kept[name] = value if buffer.is_meta and not value.is_meta else None


def with_values() -> AbstractContextManager[object]:
    """A context that makes tensors on the CPU where torch's default device is the meta device."""
    is_meta = torch.get_default_device().type == "meta"
    return torch.device("cpu") if is_meta else nullcontext()


def _leave_meta_device(module: FixedBuffers, _: object) -> None:
    """After weights took the places of those on the meta device, follow them."""
    tensors = chain(module.parameters(), module.buffers())
    device = next((tensor.device for tensor in tensors if not tensor.is_meta), None)
    if device is None:
        return
    for name, value in module._kept.items():
        if value is not None and module.get_buffer(name).is_meta:
            module._set(name, torch.empty_like(value, device=device), value)
