"""What the likelihoods of discrete pixels ask of the pixels."""

from typing import Any

import torch
from torch import Tensor

from gencore.ops._support.backend import transforming

__all__ = ["check_levels", "check_pixels"]


def check_pixels(op: str, parameters: Tensor, x: Any, name: str) -> int:
    """Raise unless ``x`` are integers that fit the network's output; their number of channels."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: x must be a tensor, got {type(x).__name__}")
    if x.dtype not in (torch.uint8, torch.int64):
        raise TypeError(f"{op}: x is {x.dtype}, expected levels as uint8 or int64")
    if parameters.dim() != 4:
        raise ValueError(f"{op}: {name} has shape {list(parameters.shape)}, expected [N, P, H, W]")
    n, _, height, width = parameters.shape
    if x.dim() != 4 or (x.shape[0], *x.shape[2:]) != (n, height, width):
        raise ValueError(
            f"{op}: x has shape {list(x.shape)}, expected [{n}, C, {height}, {width}] for {name} "
            f"of shape {list(parameters.shape)}"
        )
    if x.device != parameters.device:
        raise ValueError(f"{op}: x is on {x.device}, {name} on {parameters.device}")
    return x.shape[1]


def check_levels(op: str, x: Tensor, levels: int) -> None:
    """Raise for a pixel outside of 0 … levels − 1, where a look at them does not stop the host."""
    if x.device.type != "cpu" or x.numel() == 0 or (x.dtype == torch.uint8 and levels >= 256):
        return
    if torch.compiler.is_compiling() or transforming():
        return
    low, high = (int(value) for value in x.aminmax())
    if low < 0 or high >= levels:
        raise ValueError(
            f"{op}: x has the level {high if high >= levels else low}; expected 0 to {levels - 1}"
        )
