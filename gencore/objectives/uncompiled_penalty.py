"""The gradient penalty in a function that torch.compile compiles.

To be imported where it finds itself compiled and not before: the import of the compiler takes
longer than all others.
"""

from typing import Any

import torch
from torch import Tensor

from gencore.objectives.lipschitz import gradient_penalty

__all__ = ["uncompiled_gradient_penalty"]


@torch.compiler.disable(
    reason="gradient_penalty: compiled code cannot be differentiated twice. Without fullgraph=True "
    "the penalty runs uncompiled."
)
def uncompiled_gradient_penalty(*arguments: Any, **options: Any) -> Tensor:
    """`gradient_penalty`, outside every graph."""
    return gradient_penalty(*arguments, **options)
