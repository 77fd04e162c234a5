"""Pictures of captions: under their images, and word by word with the attention to the image."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gencore.atomic import replacing
from gencore.extras import training_extra

__all__ = ["attention_map", "save_attention", "save_captioned_images"]


def attention_map(weights: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Attention [N, T, R] to regions with boxes [N, R, 4] as densities on pixels, [N, T, size,
    size]: what of it each pixel has if it is spread evenly over its region."""
    edges = torch.arange(size + 1) / size
    across, down = (
        (
            torch.minimum(boxes[..., axis + 2, None], edges[1:])
            - torch.maximum(boxes[..., axis, None], edges[:-1])
        ).clamp(min=0)
        for axis in (0, 1)
    )
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    return torch.einsum("ntr,nry,nrx->ntyx", weights / area[:, None], down, across)


def save_attention(
    images: Tensor, captions: Sequence[Sequence[str]], maps: Tensor, path: Path
) -> None:
    """Draws a row for each image: the image, then each word of its caption above the attention,
    which is bright where it is high.

    Args:
        images: uint8 [N, 3, S, S].
        captions: the words of each.
        maps: [N, T, S, S].
        path: the PNG.
    """
    with training_extra():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    across = 1 + max(1, *map(len, captions))
    figure = Figure(figsize=(1.15 * across, 1.4 * len(images)), layout="constrained")
    FigureCanvasAgg(figure)
    for row, (image, words) in enumerate(zip(images, captions, strict=True)):
        pixels = image.permute(1, 2, 0).float() / 255
        shown = [("", pixels)]
        for word, weights in zip(words, maps[row], strict=False):
            light = (weights / weights.max().clamp(min=1e-12))[..., None]
            shown.append((word, pixels * (0.15 + 0.85 * light)))
        for column, (title, picture) in enumerate(shown):
            axes = figure.add_subplot(len(images), across, row * across + column + 1)
            axes.set_title(title, fontsize=10)
            axes.axis("off")
            axes.imshow(picture.numpy(), interpolation="nearest")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)


def save_captioned_images(images: Tensor, captions: Sequence[str], path: Path) -> None:
    """Draws images uint8 [N, 3, S, S], each below its caption."""
    with training_extra():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    across = min(4, len(images))
    down = math.ceil(len(images) / across)
    figure = Figure(figsize=(3 * across, 2.4 * down), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True), start=1):
        axes = figure.add_subplot(down, across, number)
        axes.set_title(caption, fontsize=8, wrap=True)
        axes.axis("off")
        axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)
