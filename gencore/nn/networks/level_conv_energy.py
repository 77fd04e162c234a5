"""A convolutional energy of images at the levels of a diffusion, beside a normal density."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from gencore.nn.networks.time_embedding import TimeEmbedding
from gencore.ops._support.checks import finite, index

__all__ = ["LevelConvEnergy"]


class LevelConvEnergy(nn.Module):
    r"""The energy E(y, t) of images y at level t: a tilted normal density with weights by place.

    .. math:: E(y, t) = \tfrac12 \lVert x \rVert^2 + \langle h_L(x, e),\; W e + w \rangle,
              \quad h_l = \mathrm{silu}\big((1 + G_l e) \cdot (K_l * h_{l-1}) + V_l e\big),
              \quad h_0 = x = y / s_t

    with e two layers on a :class:`TimeEmbedding` of t, gains and shifts for each channel, and a
    weight at the end for each channel and place. The first convolution is 3x3 with stride 1, each
    later one 4x4 with stride 2, which halves the image. As y_t = a_t x_t in a diffusion that keeps
    variances at 1, scales s_t = a_t give all levels inputs of one size, and exp(−E) begins near
    the normal density that the diffusion ends with; without it (`is_tilted=False`) the network has
    to learn the spread of each level first.

    Args:
        shape: [C, H, W] of the images; H and W can be halved L − 1 times.
        scales: s_t of the levels t = 0, …, T − 1, positive.
        widths: output channels of the L convolutions.
        num_features: of e, even and at least 4.
        is_tilted: whether E has the term ‖x‖²/2.

    Shape:
        [N, C, H, W], int64 [N] → [N].

    Raises:
        ValueError: for sizes or scales that are not positive or images that cannot be halved that
            often, and on a call with images or levels of another shape.
        IndexError: on a call, for a level that has no scale.

    Example:
        >>> energy = LevelConvEnergy((1, 8, 8), [0.9, 0.8, 1.0])
        >>> energy(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 2])).shape
        torch.Size([3])

    References:
        Gao, Song, Poole, Wu and Kingma, "Learning energy-based models by diffusion recovery
        likelihood", 2021, for energies of levels; Yan, *Deep Generative Models: Design,
        Improvements and Applications*, 2022, Table 2.4, for the convolutions; Xie, Lu, Zhu and Wu,
        "A theory of generative ConvNet", 2016, for a density tilted from a normal one.
    """

    scales: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        scales: Sequence[float],
        *,
        widths: Sequence[int] = (32, 64, 128),
        num_features: int = 64,
        is_tilted: bool = True,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        sizes = [index(name, "a size of shape", size) for size in shape]
        if len(sizes) != 3:
            raise ValueError(f"{name}: shape is {tuple(sizes)}; expected [C, H, W]")
        channels, height, width = sizes
        if not widths or min(widths) < 1:
            raise ValueError(
                f"{name}: widths are {tuple(widths)}; expected a positive one for each convolution"
            )
        factor = 2 ** (len(widths) - 1)
        if min(sizes) < 1 or height % factor or width % factor:
            raise ValueError(
                f"{name}: images of {height}x{width} cannot be halved {len(widths) - 1} times; "
                f"expected positive multiples of {factor}"
            )
        values = [finite(name, "a scale", scale) for scale in scales]
        if not values or min(values) <= 0:
            raise ValueError(f"{name}: scales are {values}; expected a positive one for each level")
        self.shape = (channels, height, width)
        self.is_tilted = is_tilted
        self.register_buffer("scales", torch.tensor(values, dtype=torch.float64), persistent=False)
        self.time = nn.Sequential(
            TimeEmbedding(num_features), nn.Linear(num_features, num_features), nn.SiLU(),
            nn.Linear(num_features, num_features), nn.SiLU(),
        )  # fmt: skip
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(channels, widths[0], 3, padding=1),
                *(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths)),
            ]
        )
        films = [nn.Linear(num_features, 2 * width) for width in widths]
        for film in films:  # gains start at 1 and shifts at 0, nearly alike at all levels
            nn.init.normal_(film.weight, std=0.02)
            nn.init.zeros_(film.bias)
        self.films = nn.ModuleList(films)
        places = widths[-1] * (height // factor) * (width // factor)
        self.weigh = nn.Linear(num_features, places)
        nn.init.zeros_(self.weigh.weight)
        nn.init.uniform_(self.weigh.bias, -(places**-0.5), places**-0.5)

    def forward(self, y: Tensor, t: Tensor) -> Tensor:
        if y.shape[1:] != torch.Size(self.shape) or t.shape != y.shape[:1]:
            raise ValueError(
                f"LevelConvEnergy: got images of shape {list(y.shape)} and levels of shape "
                f"{list(t.shape)}; expected [N, {', '.join(map(str, self.shape))}] and [N]"
            )
        embed, *layers = self.time
        level = embed(t).to(y.dtype)
        for layer in layers:
            level = layer(level)
        # An index in brackets may be negative, and mean another level.
        x = y / self.scales.to(y.dtype).index_select(0, t)[:, None, None, None]
        h = x
        for convolution, film in zip(self.convolutions, self.films, strict=True):
            gain, shift = film(level)[:, :, None, None].chunk(2, 1)
            h = silu(convolution(h) * (1 + gain) + shift)
        energy: Tensor = (h.flatten(1) * self.weigh(level)).sum(1)
        return energy + x.flatten(1).square().sum(1) / 2 if self.is_tilted else energy

    def extra_repr(self) -> str:
        count = sum(parameter.numel() for parameter in self.parameters())
        return f"shape={self.shape}, levels={len(self.scales)}, parameters={count:,}"
