"""Models that draw data from standard normal noise of a fixed size."""

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor, nn

from gencore.models.starts import normal_starts
from gencore.nn.evaluating import evaluating
from gencore.ops._support.checks import check_count

__all__ = ["NoiseGenerator"]


class NoiseGenerator(nn.Module, ABC):
    """A model whose samples are a function of noise u ~ N(0, I) of `noise_size` numbers.

    Attributes:
        noise_size: U, the numbers of noise of one sample.
    """

    noise_size: int

    @abstractmethod
    def decode_noise(self, noise: Tensor) -> Tensor:
        """The data [N, ...] of noise [N, U], differentiable in both noise and weights."""

    def sample_noise(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Noise [num, U]; arguments as for `sample`."""
        return normal_starts(
            self, num, (self.noise_size,), generator=generator, key=key, first=first,
            stream="latents",
        )  # fmt: skip

    def sample(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Data [num, ...], differentiable in the weights, of the model in evaluation mode.

        Args:
            num: number of samples.
            generator: draws the key where none is given.
            key: int64 [seed, offset].
            first: number of samples before these, of other processes.
        """
        noise = self.sample_noise(num, generator=generator, key=key, first=first)
        with evaluating(self):
            return self.decode_noise(noise)

    def interpolate(self, start: Tensor, end: Tensor, steps: int) -> Tensor:
        """The data [N, steps, ...] of points evenly spaced on the lines between noise [N, U].

        Args:
            start: noise of the first points.
            end: noise of the last points.
            steps: points on each line, both ends among them; at least 2.

        Raises:
            ValueError: the noise is not [N, U] twice, or there are fewer than 2 steps.
        """
        name = type(self).__name__
        check_count(f"{name}.interpolate", "steps", steps, least=2)
        if start.shape != end.shape or start.shape[1:] != (self.noise_size,):
            raise ValueError(
                f"{name}.interpolate: start and end have shapes {list(start.shape)} and "
                f"{list(end.shape)}; expected [N, {self.noise_size}]"
            )
        t = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)[:, None]
        noise = torch.lerp(start[:, None], end[:, None], t)
        return self.decode_noise(noise.flatten(0, 1)).unflatten(0, (len(start), steps))
