"""What every autoregressive model of images promises, checked on any of them."""

import itertools
from copy import deepcopy

import torch
from torch import Tensor

from gencore.models import AutoregressiveImageModel
from gencore.nn import PixelInput


def all_images(model: AutoregressiveImageModel) -> Tensor:
    """Every image of the model's shape and levels, uint8 [L^D, C, H, W]."""
    channels, height, width = model.image_shape
    levels = range(model.likelihood.levels)
    images = itertools.product(levels, repeat=channels * height * width)
    return torch.tensor(list(images), dtype=torch.uint8).view(-1, *model.image_shape)


def seen_levels(
    model: AutoregressiveImageModel, x: Tensor, context: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Which levels the parameters of each pixel, or of each of its channels, depend on at x, and
    which levels come before: bool [D, D] with a row for each conditional distribution, where D
    counts the pixels' groups of channels in raster order.

    Of a block of parameters a random combination is differentiated, in float64, by what the network
    reads in the place of levels. Where channels see each other a group is a channel, else a pixel.
    """
    model = deepcopy(model).double().eval()
    read = []

    def real(module: PixelInput, _: object, y: Tensor) -> Tensor:
        read.append(y[:, : model.image_shape[0]].detach().requires_grad_())
        return torch.cat([read[-1], y[:, model.image_shape[0] :]], 1)

    for module in model.modules():
        if isinstance(module, PixelInput):
            assert module.embedding is None
            module.register_forward_hook(real)
    parameters = model(x, None if context is None else context.double())
    groups = model.channel_groups
    blocks = parameters.unflatten(1, (groups, -1)).permute(3, 4, 1, 0, 2).flatten(0, 2)
    rows = []
    for block in blocks:
        (gradient,) = torch.autograd.grad(
            (block * torch.randn_like(block)).sum(), read, retain_graph=True
        )
        pixels = (gradient != 0).any(0).unflatten(0, (groups, -1)).any(1)
        rows.append(pixels.permute(1, 2, 0).flatten())
    seen = torch.stack(rows)
    return seen, torch.ones_like(seen).tril(-1)
