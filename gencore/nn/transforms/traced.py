"""What torch.compile takes into its graph without looking into it, or leaves out.

It cannot follow a layer that takes gradients itself, or has a backward pass of its own, but records
what such a layer does. To be imported where a layer finds itself compiled and not before: the
import of the compiler takes longer than all others.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["traced", "uncompiled", "uncompiled_inverse", "uncompiled_solve"]


@torch._dynamo.nonstrict_trace
def traced(layer: nn.Module, *tensors: Tensor) -> tuple[Tensor, ...]:
    """``layer.traced(*tensors)``, with the weights of the graph in the place of the layer's own."""
    results: tuple[Tensor, ...] = layer.traced(*tensors)  # type: ignore[operator]
    return results


@torch.compiler.disable(
    reason="EulerSteps: how many iterations its inverse takes depends on the data, so that the "
    "density of a residual flow is no single graph. Without fullgraph=True it runs uncompiled; "
    "samples are a single graph, and so are the densities of CouplingFlow, MAF and PlanarFlow."
)
def uncompiled(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """``layer(x)``, outside every graph."""
    z, log_det = layer(x)
    return z, log_det


@torch.compiler.disable(
    reason="ContinuousTransform: how many steps its solver takes depends on the data, so that a "
    "continuous flow is no single graph. Without fullgraph=True it runs uncompiled; the densities "
    "and samples of CouplingFlow, MAF and PlanarFlow are single graphs."
)
def uncompiled_solve(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``method(*args, **kwargs)``, outside every graph."""
    return method(*args, **kwargs)


@torch.compiler.disable(
    reason="MonotonicNetwork: how many steps its inverse takes depends on the data, so that the "
    "samples of a monotonic flow are no single graph. Without fullgraph=True they run uncompiled; "
    "its density is a single graph, and so are the samples of CouplingFlow, MAF and PlanarFlow."
)
def uncompiled_inverse(network: nn.Module, y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """``network.inverse(y, h)``, outside every graph."""
    x, log_slope = network.inverse(y, h)  # type: ignore[operator]
    return x, log_slope
