"""The likelihood of a generator that has none: an encoder and a noise level trained around it."""

import math
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from gencore.models.hybrids.v_ade import VADE
from gencore.nn import Compose, UniformDequantization
from gencore.ops import random_key

__all__ = ["fit_likelihood_around"]


def fit_likelihood_around(
    decoder: nn.Module,
    encoder: nn.Module,
    images: Tensor,
    latent_size: int,
    *,
    steps: int,
    batch_size: int = 64,
    learning_rate: float = 0.002,
) -> VADE:
    r"""A VAE around a frozen generator: encoder and σ maximise the bound on log p(x).

    .. math:: p(x) = \int N(z; 0, I)\, N(x; G(z), \sigma^2 I)\, dz

    So bits per dimension of a GAN are bounded from above. σ starts at the deviation of the images
    from the generator's samples, and learns ten times as fast as the encoder. The generator is not
    touched: the model has a frozen copy of it, in evaluation mode.

    Args:
        decoder: G, latents [N, L] → images [N, C, H, W] around 0.
        encoder: images → [N, 2L], trained in place.
        images: uint8 [M, C, H, W].
        latent_size: L.
        steps: of Adamax.
        batch_size: images a step.
        learning_rate: of the encoder.

    Returns:
        The model of images y − ½, with y in [0, 1) dequantised uniformly.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §5.5.1.

    Example:
        >>> import torch
        >>> from gencore.models import fit_likelihood_around
        >>> generator = torch.nn.Linear(2, 3)
        >>> images = torch.randint(256, (20, 3), dtype=torch.uint8)
        >>> model = fit_likelihood_around(generator, torch.nn.Linear(3, 4), images, 2, steps=5)
        >>> model.elbo(images / 256 - 0.5).shape
        torch.Size([20])
    """
    frozen = deepcopy(decoder).requires_grad_(False).eval()
    model = VADE(encoder, frozen, Compose(), latent_size).to(images.device)
    dequantization = UniformDequantization()
    groups: list[dict[str, Any]] = [
        {"params": list(encoder.parameters())},
        {"params": [model.log_std], "lr": 10 * learning_rate},
    ]
    optimizer = torch.optim.Adamax(groups, learning_rate)
    for step in range(steps):
        chosen = torch.randint(len(images), (batch_size,), device="cpu").to(images.device)
        key = random_key(device=images.device)
        y, _ = dequantization(images[chosen], key=key)
        if not step:
            with torch.no_grad():
                samples = model.sample(batch_size, noise=False, key=key)
                spread = (y - 0.5 - samples).square().mean().sqrt()
                model.log_std.fill_(math.log(max(spread.item(), 1e-3)))
        optimizer.zero_grad()
        model(y - 0.5, key=key).backward()
        optimizer.step()
    return model.eval()
