"""The multi-scale architecture: half of the channels leave after every level."""

from collections.abc import Sequence

import torch
from torch import Size, Tensor, nn

from gencore.nn.transforms.base import Transform

__all__ = ["MultiScale"]


class MultiScale(Transform):
    """Levels of transforms, after each of which the last ⌊C/2⌋ of the C channels become latents.

    The first C − ⌊C/2⌋ go on to the next level; the last level's output is latent altogether. The
    latents are joined as vectors [N, D], those of the first level first. A learned distribution of
    the leaving half given the staying one is a coupling at the end of the level, which parts the
    channels in the same way: it maps that half to standard latents. Of a context no part leaves: a
    level is given all of it, at the level's size.

    Args:
        levels: one transform a level.
        shapes: the shape of one data point after each level, [C, ...], with C of 2 or more but for
            the last.

    Raises:
        ValueError: for shapes that do not fit the levels, and on a call for data or latents of
            another shape.

    References:
        Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", 2017, §3.6, (13)–(16).

    Example:
        >>> import torch
        >>> from gencore.nn import MultiScale, Squeeze
        >>> flow = MultiScale([Squeeze(), Squeeze()], [(4, 4, 4), (8, 2, 2)])
        >>> flow(torch.zeros(5, 1, 8, 8))[0].shape
        torch.Size([5, 64])
    """

    def __init__(self, levels: Sequence[Transform], shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.shapes = [Size(shape) for shape in shapes]
        if len(self.levels) != len(self.shapes) or not levels:
            raise ValueError(
                f"MultiScale: got {len(levels)} levels and {len(shapes)} shapes; expected one "
                "shape a level, and a level"
            )
        for shape in self.shapes[:-1]:
            if shape[0] < 2:
                raise ValueError(
                    f"MultiScale: {shape[0]} channels after a level; expected 2 or more, of which "
                    "half leave"
                )

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        latents, log_dets = [], []
        for level, shape in zip(self.levels, self.shapes, strict=True):
            assert isinstance(level, Transform)
            x, log_det = level(x, context)
            log_dets.append(log_det)
            if x.shape[1:] != shape:
                raise ValueError(
                    f"MultiScale: a level gives data of shape {list(x.shape)}; expected "
                    f"[N, {', '.join(map(str, shape))}]"
                )
            if level is not self.levels[-1]:
                x, latent = x.split([shape[0] - shape[0] // 2, shape[0] // 2], 1)
                latents.append(latent.flatten(1))
                context = level.carry(context)
        return torch.cat([*latents, x.flatten(1)], 1), torch.stack(log_dets).sum(0)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        halves = [Size((shape[0] // 2, *shape[1:])) for shape in self.shapes[:-1]]
        parts = [*halves, self.shapes[-1]]
        if z.dim() != 2 or z.shape[1] != sum(part.numel() for part in parts):
            raise ValueError(
                f"MultiScale: latents have shape {list(z.shape)}; expected "
                f"[N, {sum(part.numel() for part in parts)}]"
            )
        pieces = z.split([part.numel() for part in parts], 1)
        latents = [piece.view(-1, *part) for piece, part in zip(pieces, parts, strict=True)]
        x, log_dets = latents.pop(), []
        contexts = [context]
        for level in list(self.levels)[:-1]:
            assert isinstance(level, Transform)
            contexts.append(level.carry(contexts[-1]))
        for level in reversed(self.levels):
            if level is not self.levels[-1]:
                x = torch.cat([x, latents.pop()], 1)
            assert isinstance(level, Transform)
            x, log_det = level.inverse(x, contexts.pop())
            log_dets.append(log_det)
        return x, torch.stack(log_dets).sum(0)
