"""How an operator without a derivative is called."""

from collections.abc import Callable
from typing import Any

import torch
from torch._ops import OpOverload

from gencore.ops._support.extension import with_type
from gencore.ops._support.symbolic import takes_symbolic_numbers

__all__ = ["kernel"]

_is_compiling = torch.compiler.is_compiling


def kernel(op: OpOverload) -> Callable[..., Any]:
    """What calls the operator, with torch's types of errors, and inside torch.compile with numbers
    that may be symbolic."""
    traced = takes_symbolic_numbers(op)

    def call(*arguments: Any) -> Any:
        if _is_compiling():
            return traced(*arguments)
        try:
            return op(*arguments)
        except RuntimeError as error:
            raise with_type(error) from None

    return call
