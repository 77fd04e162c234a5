"""The grids of settings in which Mathieu 2017, table 6.1, compares GANs with energy-based ones."""

from itertools import product
from typing import Any

from gencore.train.grid import Space

__all__ = ["EBGAN_SPACE", "GAN_SPACE", "MATHIEU_SETTINGS"]

MATHIEU_SETTINGS: dict[str, Any] = {"data": "mnist", "networks": "mlp", "latent_size": 100}
"""What all runs have in common. The table does not give the size of the noise."""

_RATES = ("learning_rate", "discriminator_learning_rate")
_NETWORKS: dict[str | tuple[str, ...], list[Any]] = {
    # A network of n layers has n − 1 hidden ones.
    "generator_widths": [
        (size,) * (layers - 1) for layers, size in product((2, 3, 4, 5), (400, 800, 1600, 3200))
    ],
    "discriminator_widths": [
        (size,) * (layers - 1) for layers, size in product((2, 3, 4, 5), (128, 256, 512, 1024))
    ],
    "dropout": [0.5, 0.0],  # The table says whether, not how much.
}

EBGAN_SPACE: Space = {**_NETWORKS, _RATES: [(1e-3, 1e-3)]}
"""512 settings of an energy-based GAN, with Adam."""

GAN_SPACE: Space = {
    **_NETWORKS,
    "optimizer": ["adam", "sgd"],
    "discriminator_optimizer": ["adam", "sgd"],
    # The table has 0.001 twice, and 0.0001 not at all.
    _RATES: [(rate, rate) for rate in (1e-2, 1e-3, 1e-4)],
}
"""512 networks of a GAN, each with four pairs of optimisers and three learning rates."""
