"""Fully connected generators and discriminators of images."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from gencore.models import AutoencoderEnergy
from gencore.nn import EquivariantMLP
from gencore.recipes.adversarial.adversarial_training import Networks

__all__ = [
    "mlp_adversaries",
    "mlp_discriminator",
    "mlp_energy",
    "mlp_generator",
    "mlp_set_discriminator",
]


def mlp_generator(
    latent_size: int, widths: Sequence[int], image_shape: Sequence[int], *, batch_norm: bool
) -> nn.Module:
    """Noise [N, L] → images [N, C, H, W] in (−1, 1): ReLU, and a tanh at the end.

    Batch normalisation stands after each layer but the last.
    """
    hidden = _hidden_layers((latent_size, *widths), nn.ReLU(), norms=len(widths) * batch_norm)
    last = nn.Linear((latent_size, *widths)[-1], _size(image_shape))
    return nn.Sequential(*hidden, last, nn.Tanh(), nn.Unflatten(1, tuple(image_shape)))


def mlp_adversaries(
    image_shape: Sequence[int], widths: Sequence[int], *, batch_norm: bool, dropout: float
) -> Networks:
    """A discriminator of images, one of sets, without normalisation and dropout, and an
    auto-encoder."""
    return Networks(
        lambda: mlp_discriminator(image_shape, widths, batch_norm=batch_norm, dropout=dropout),
        lambda: mlp_set_discriminator(image_shape, widths),
        lambda: mlp_energy(image_shape, widths, batch_norm=batch_norm, dropout=dropout),
    )


def mlp_discriminator(
    image_shape: Sequence[int], widths: Sequence[int], *, batch_norm: bool, dropout: float
) -> nn.Module:
    """Images [N, C, H, W] → scores [N, 1]: leaky ReLU, and dropout of the hidden units.

    Batch normalisation stands after each layer but the first and the last.
    """
    sizes = (_size(image_shape), *widths)
    norms = max(len(widths) - 1, 0) * batch_norm
    hidden = _hidden_layers(sizes, nn.LeakyReLU(0.2), norms=norms, dropout=dropout)
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], 1))


def mlp_energy(
    image_shape: Sequence[int], widths: Sequence[int], *, batch_norm: bool, dropout: float
) -> AutoencoderEnergy:
    """The energy of images [N, C, H, W] → [N] by an auto-encoder with these hidden layers.

    The encoder has the first half of the layers, and the decoder the others: of L hidden layers the
    code is the one number ⌊L/2⌋ + 1. So one hidden layer is the code.
    """
    sizes = (_size(image_shape), *widths)
    norms = (len(widths) - 1) * batch_norm
    hidden = _hidden_layers(sizes, nn.LeakyReLU(0.2), norms=norms, dropout=dropout)
    code = len(widths) // 2 + 1
    return AutoencoderEnergy(
        nn.Sequential(nn.Flatten(), *hidden[:code]),
        nn.Sequential(
            *hidden[code:],
            nn.Linear(sizes[-1], sizes[0]),
            nn.Unflatten(1, tuple(image_shape)),
        ),
    )


def mlp_set_discriminator(image_shape: Sequence[int], widths: Sequence[int]) -> nn.Module:
    """Sets of images [G, B, C, H, W] → scores [G, B]."""
    return nn.Sequential(nn.Flatten(2), EquivariantMLP(_size(image_shape), widths))


def _hidden_layers(
    sizes: Sequence[int], activation: nn.Module, *, norms: int, dropout: float = 0.0
) -> list[nn.Module]:
    """The layers between these sizes; the last `norms` of them normalise over the batch."""
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        parts: list[nn.Module] = [nn.Linear(inputs, outputs)]
        if number >= len(sizes) - 1 - norms:
            parts.append(nn.BatchNorm1d(outputs))
        parts.append(activation)
        if dropout:
            parts.append(nn.Dropout(dropout))
        layers.append(nn.Sequential(*parts))
    return layers


def _size(image_shape: Sequence[int]) -> int:
    channels, height, width = image_shape
    return channels * height * width
