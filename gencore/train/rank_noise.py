"""Noise that would be the same on every rank, found in the first step of a run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gencore.train.batches import Batch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["SameNoiseError", "check_noise"]

_DRAWS = frozenset({
    torch.bernoulli, torch.multinomial, torch.normal, torch.poisson, torch.rand, torch.rand_like,
    torch.randint, torch.randint_like, torch.randn, torch.randn_like, Tensor.bernoulli_,
    Tensor.cauchy_, Tensor.exponential_, Tensor.geometric_, Tensor.log_normal_, Tensor.normal_,
    Tensor.random_, Tensor.uniform_,
})  # fmt: skip


class SameNoiseError(RuntimeError):
    """A step draws the noise of a batch's rows in a way that gives all ranks the same."""


@contextmanager
def check_noise(fabric: "Fabric", batch: Batch) -> Iterator[None]:
    """In this block, if there are several ranks, a tensor of random numbers with as many rows as
    the batch is refused, since all of torch's generators are alike on all ranks. Dropout is let
    pass: that its masks are the same on all ranks leaves its gradients unbiased.

    Raises:
        SameNoiseError: for such a tensor.
    """
    if fabric.world_size == 1:
        yield
        return
    with _Watch(len(batch)):
        yield


class _Watch(TorchFunctionMode):
    def __init__(self, rows: int) -> None:
        super().__init__()
        self._rows = rows

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # Not keys, which are two numbers.
        if func in _DRAWS and result.dim() and len(result) == self._rows and result.numel() > 2:
            raise SameNoiseError(
                f"step draws random numbers {tuple(result.shape)} by torch.{func.__name__}, which "
                "gives all ranks the same; expected noise by Batch.normal or Batch.uniform, or by "
                "an operator that is given a key and the batch's first row (Batch.first)"
            )
        return result
