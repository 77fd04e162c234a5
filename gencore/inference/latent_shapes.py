"""Latents of several kinds, and all of a data point's as one row."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor

from gencore.ops import philox_normal, random_key
from gencore.ops.random import stream_key

__all__ = ["LatentShapes", "Latents"]

Latents = dict[str, Tensor]
"""Latents of N data points by name, each [N, ...]: noise [N, T, Z] and a start [N, S], say."""


class LatentShapes:
    """The shapes of the latents of one data point, by name, in an order that is theirs in a row.

    Samplers move rows: a Metropolis step then accepts or refuses all latents of a data point
    together, and a table of rows (`DataLatents`) keeps them.

    Args:
        shapes: name → shape, without the dimension of data points.

    Raises:
        ValueError: for no latents, sizes that are negative, and in use for other names or shapes.

    Example:
        >>> import torch
        >>> from gencore.inference import LatentShapes
        >>> shapes = LatentShapes({"noise": (5, 2), "start": (3,)})
        >>> rows = shapes.pack({"noise": torch.zeros(4, 5, 2), "start": torch.ones(4, 3)})
        >>> rows.shape, shapes.unpack(rows)["start"].shape
        (torch.Size([4, 13]), torch.Size([4, 3]))
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        self._shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self._sizes = [math.prod(shape) for shape in self._shapes.values()]
        if not self._shapes or min(map(min, filter(None, self._shapes.values())), default=1) < 0:
            raise ValueError(f"LatentShapes: got {self._shapes}; expected shapes by name")

    @classmethod
    def of(cls, latents: Mapping[str, Tensor]) -> "LatentShapes":
        """The shapes that latents [N, ...] have."""
        return cls({name: tuple(latent.shape[1:]) for name, latent in latents.items()})

    @property
    def size(self) -> int:
        """D, the numbers of one row."""
        return sum(self._sizes)

    def items(self) -> Sequence[tuple[str, tuple[int, ...]]]:
        """Names and shapes in the order of a row."""
        return list(self._shapes.items())

    def pack(self, latents: Mapping[str, Tensor]) -> Tensor:
        """Rows [N, D] of latents."""
        found = {name: tuple(latent.shape[1:]) for name, latent in latents.items()}
        if found != self._shapes or len({len(latent) for latent in latents.values()}) != 1:
            shapes = {name: list(latent.shape) for name, latent in latents.items()}
            expected = {name: ["N", *shape] for name, shape in self._shapes.items()}
            raise ValueError(f"LatentShapes.pack: latents are {shapes}; expected {expected}")
        num = len(next(iter(latents.values())))
        return torch.cat([latents[name].reshape(num, -1) for name in self._shapes], 1)

    def unpack(self, rows: Tensor) -> Latents:
        """Latents of rows [N, D], which are views of them."""
        if rows.dim() != 2 or rows.shape[1] != self.size:
            raise ValueError(
                f"LatentShapes.unpack: rows have shape {list(rows.shape)}; expected "
                f"[N, {self.size}]"
            )
        parts = rows.split(self._sizes, 1)
        return {
            name: part.unflatten(1, shape) if shape else part.squeeze(1)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def normal(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Latents:
        """Latents of N data points from their prior N(0, I).

        Args:
            num: N.
            generator: draws the key where none is given.
            key: int64 [seed, offset].
            first: number of data points before these, of other processes.
            dtype, device: of the latents; the device is the key's where one is given.
        """
        key = random_key(generator, device=device) if key is None else key
        rows = philox_normal(
            (num, self.size), stream_key(key, "latents"),
            first_element=first * self.size, dtype=dtype,
        )  # fmt: skip
        return self.unpack(rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LatentShapes) and self.items() == other.items()

    def __hash__(self) -> int:
        return hash(tuple(self._shapes.items()))

    def __repr__(self) -> str:
        return f"LatentShapes({self._shapes})"
