"""Convolutions of few input channels as sums over taps, which a compiler fuses with others."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["DECOMPOSITIONS"]

_MOST_TAPS = 32
"""Input channels times the kernel's elements. A library's convolution repays itself beyond."""
_MOST_PRODUCTS = 2**21
"""Products in all. Larger images amortise what the library takes to set itself up."""


def _convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int],
    dilation: list[int], transposed: bool, output_padding: list[int], groups: int,
) -> Any:  # fmt: skip
    r"""`aten.convolution` of a few channels: y = b + Σ w[:, c, i, j] x[c, s·h + i, s·w + j]."""
    if transposed or not _is_small(x, weight, groups, dilation):
        return NotImplemented
    x = torch.nn.functional.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    kernel = weight.shape[2:]
    size = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    result: Any = None if bias is None else bias.view(1, -1, 1, 1)
    for c in range(weight.shape[1]):
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                rows = slice(i, i + (size[0] - 1) * stride[0] + 1, stride[0])
                columns = slice(j, j + (size[1] - 1) * stride[1] + 1, stride[1])
                term = x[:, c : c + 1, rows, columns] * weight[:, c, i, j].view(1, -1, 1, 1)
                result = term if result is None else result + term
    return result


def _convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias_sizes: list[int] | None, stride: list[int],
    padding: list[int], dilation: list[int], transposed: bool, output_padding: list[int],
    groups: int, output_mask: list[bool],
) -> Any:  # fmt: skip
    """The gradient in x of the same convolution, where it has stride 1: the flipped kernel's."""
    kernel = weight.shape[2:]
    if (
        transposed
        or list(output_mask) != [True, False, False]
        or list(stride) != [1, 1]
        or any(p > k - 1 for p, k in zip(padding, kernel, strict=True))
        or not _is_small(x, weight, groups, dilation)
    ):
        return NotImplemented
    height, width = x.shape[2:]
    rows, columns = (k - 1 - p for k, p in zip(kernel, padding, strict=True))
    grad = torch.nn.functional.pad(grad, (columns, columns, rows, rows))
    channels = []
    for c in range(weight.shape[1]):
        total: Any = None
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                tap = weight[:, c, kernel[0] - 1 - i, kernel[1] - 1 - j].view(1, -1, 1, 1)
                term = grad[:, :, i : i + height, j : j + width] * tap
                total = term if total is None else total + term
        channels.append(total.sum(1, keepdim=True))
    return torch.cat(channels, 1), None, None


def _is_small(x: Tensor, weight: Tensor, groups: int, dilation: list[int]) -> bool:
    return (
        x.dim() == 4
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and groups == 1
        and list(dilation) == [1, 1]
        and weight[0].numel() <= _MOST_TAPS
        and x.shape[0] * x.shape[2] * x.shape[3] * weight.numel() <= _MOST_PRODUCTS
    )


DECOMPOSITIONS: dict[torch._ops.OpOverload, Callable[..., Any]] = {
    torch.ops.aten.convolution.default: _convolution,
    torch.ops.aten.convolution_backward.default: _convolution_backward,
}
