"""Noise that would be the same on every rank or in every part, found in the first step of a run."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["SameNoiseError", "refuse_same_noise"]

_DRAWS = frozenset({
    torch.bernoulli, torch.multinomial, torch.normal, torch.poisson, torch.rand, torch.rand_like,
    torch.randint, torch.randint_like, torch.randn, torch.randn_like, Tensor.bernoulli_,
    Tensor.cauchy_, Tensor.exponential_, Tensor.geometric_, Tensor.log_normal_, Tensor.normal_,
    Tensor.random_, Tensor.uniform_,
})  # fmt: skip


class SameNoiseError(RuntimeError):
    """A step draws the noise of a batch's rows in a way that gives all ranks or parts the same."""


class refuse_same_noise(TorchFunctionMode):  # noqa: N801 - a context, as torch.no_grad is
    """In this block a tensor of random numbers with as many rows as a batch, or a part of it, is
    refused, since all of torch's generators are alike on all ranks and in all parts. Dropout is let
    pass: that its masks are the same leaves its gradients unbiased.

    Args:
        rows: of the batch or part.

    Raises:
        SameNoiseError: for such a tensor.
    """

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
                "gives all ranks and parts the same; expected noise by Batch.normal or "
                "Batch.uniform, or by an operator that is given a key and the batch's first row "
                "(Batch.first)"
            )
        return result
