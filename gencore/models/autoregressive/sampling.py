"""Drawing the pixels of images one after another."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

    from gencore.models.autoregressive.image_model import AutoregressiveImageModel

__all__ = ["Known", "draw_naively", "draw_with_plan"]

Progress = Callable[[int, int], None]


@dataclass
class Known:
    """Images in the making, and which of their levels are given.

    Attributes:
        x: int64 [N, C, H, W]; 0 where nothing is known yet.
        mask: bool [N, C, H, W], or None where nothing is given.
    """

    x: Tensor
    mask: Tensor | None

    @classmethod
    def of(
        cls,
        owner: str,
        model: "AutoregressiveImageModel",
        num: int,
        given: Tensor | None,
        known: Tensor | None,
        out: Tensor | None,
        device: torch.device,
    ) -> "Self":
        """Checks what `sample` was given."""
        shape = (num, *model.image_shape)
        if out is None:
            out = torch.empty(shape, dtype=torch.int64, device=device)
        elif out.shape != shape or out.dtype != torch.int64:
            raise ValueError(
                f"{owner}: out is {out.dtype} {list(out.shape)}; expected int64 {list(shape)}"
            )
        if (given is None) != (known is None):
            raise ValueError(f"{owner}: given and known belong together; one of them is missing")
        if given is None or known is None:
            out.zero_()
            return cls(out, None)
        if given.shape != shape:
            raise ValueError(
                f"{owner}: given has shape {list(given.shape)}; expected {list(shape)}"
            )
        model.check_levels("sample", given)
        if known.dtype != torch.bool:
            raise TypeError(f"{owner}: known is {known.dtype}; expected bool")
        if known.dim() not in (2, 3, 4) or known.shape != shape[4 - known.dim() :]:
            raise ValueError(
                f"{owner}: known has shape {list(known.shape)}; expected [H, W], [C, H, W] or "
                f"[N, C, H, W] of {list(shape)}"
            )
        mask = known.to(device).expand(shape)
        out.copy_(torch.where(mask, given.to(device, torch.int64), 0))
        return cls(out, mask)


def draw_naively(
    model: "AutoregressiveImageModel",
    images: Known,
    context: Tensor | None,
    uniforms: Tensor,
    progress: Progress | None = None,
) -> None:
    """The whole network for each pixel, or for each channel where it sees the pixel's others."""
    x, mask = images.x, images.mask
    channels, height, width = model.image_shape
    for row in range(height):
        for column in range(width):
            pixel = (slice(None), slice(None), slice(row, row + 1), slice(column, column + 1))
            parameters = None
            for channel in range(channels):
                at = (slice(None), channel, *pixel[2:])
                if mask is not None and mask[at].all():
                    continue
                if parameters is None or model.channel_groups > 1:
                    parameters = model(x, context)[pixel]
                level = model.likelihood.draw(parameters, uniforms[pixel], channel, x[pixel])
                x[at] = level if mask is None else torch.where(mask[at], x[at], level)
        if progress is not None:
            progress(row + 1, height)


def draw_with_plan(
    model: "AutoregressiveImageModel",
    images: Known,
    context: Tensor | None,
    uniforms: Tensor,
    progress: Progress | None = None,
) -> None:
    """The features of each new pixel alone, a row of pixels a call."""
    channels, height, width = model.image_shape
    plan = model.plan(len(images.x), context)
    if model.likelihood.spec is None:
        raise ValueError(
            f"{type(model).__name__}.sample: pixels of {type(model.likelihood).__name__} are not "
            "drawn by the incremental method; use method='naive'"
        )
    mask = None if images.mask is None else images.mask.contiguous()
    x, row = images.x.contiguous(), channels * width
    uniforms = uniforms.contiguous()
    for done in range(height):
        plan.run(x, done * row, (done + 1) * row, uniforms=uniforms, known=mask)
        if x is not images.x:
            images.x[:, :, done] = x[:, :, done]
        if progress is not None:
            progress(done + 1, height)
