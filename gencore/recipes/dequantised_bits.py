"""Bits per dimension of models of images whose levels are dequantised."""

import torch
from torch import Tensor

from gencore.models import VADE
from gencore.nn import UniformDequantization
from gencore.ops import random_key
from gencore.recipes.level_bits import level_bits
from gencore.train.chunks import chunks

__all__ = ["mean_dequantised_bits"]

# Decoded latents at once, which bounds the memory.
_CHUNK = 4096


@torch.no_grad()
def mean_dequantised_bits(model: VADE, images: Tensor, num_latents: int) -> float:
    """The mean bits per dimension of images, bounded from above by importance weights.

    Args:
        model: of images y − ½, where y in [0, 1) is dequantised uniformly.
        images: uint8 [N, C, H, W], on the model's device.
        num_latents: latents of each image.
    """
    dequantization, key, bits = UniformDequantization(), random_key(device=images.device), []
    for part in chunks(len(images), max(_CHUNK // num_latents, 1)):
        y, log_det = dequantization(images[part], key=key, first=part.start)
        log_prob = model.log_prob_bound(y - 0.5, num_latents, key=key, first=part.start)
        bits.append(level_bits(log_prob + log_det, images.shape[1:]).double())
    return torch.cat(bits).mean().item()
