"""Distributions of vectors of levels: how they are sampled and completed."""

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor

from gencore.models.autoregressive.level_draws import choose
from gencore.models.autoregressive.uniforms import uniforms
from gencore.models.starts import like
from gencore.nn.fixed_buffers import FixedBuffers
from gencore.ops import random_key
from gencore.ops.random import stream_key
from gencore.sizes import check_positive

__all__ = ["VectorModel"]


class VectorModel(FixedBuffers, ABC):
    """A distribution of vectors whose D coordinates are integers 0, …, levels − 1.

    Args:
        features: D.
        levels: of a coordinate, at least 2; two levels have one logit, more have as many logits.

    Raises:
        ValueError: for sizes that are too small.
    """

    def __init__(self, features: int, levels: int = 2) -> None:
        super().__init__()
        check_positive(type(self).__name__, features=features, levels=levels)
        if levels < 2:
            raise ValueError(f"{type(self).__name__}: levels is {levels}; expected at least 2")
        self.features, self.levels = features, levels
        self.num_logits = 1 if levels == 2 else levels

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of integers [N, D], [N]."""

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        given: Tensor | None = None,
        known: Tensor | None = None,
        particles: int | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Vectors int64 [num, D], or completions of vectors of which a part is known.

        Completions follow p(x | known part) exactly where the known coordinates come before all
        others in the model's order. Elsewhere they are chosen among `particles` candidates that
        have the known part, each with a probability proportional to that of the known part given
        what comes before it (sampling-importance-resampling): exact as the particles grow in
        number.

        Args:
            num: number of vectors.
            given: integers [D] or [num, D] with the known part; the rest of it does not matter.
            known: bool [D] or [num, D], true where `given` is known.
            particles: candidates for one vector.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset].
            first: number of vectors before these, of other processes.

        Raises:
            ValueError: for shapes and levels that do not fit, and for a known part that needs
                particles where none are asked for.
            TypeError: for tensors of another type.
        """
        name, device = type(self).__name__, like(self).device
        if num < 0:
            raise ValueError(f"{name}: num is {num}; expected 0 or more")
        x, known = self._known_part(num, given, known)
        if particles is None:
            self._check_exact(known)
            particles = 1
        elif particles < 1:
            raise ValueError(f"{name}: particles is {particles}; expected at least 1")
        key = random_key(generator, device=device) if key is None else key
        # One number more a vector chooses among its particles.
        size = particles * self._num_draws + 1
        numbers = uniforms(num, size, stream_key(key, "samples"), first=first)
        draws = numbers[:, 1:].reshape(num * particles, self._num_draws)
        candidates, log_weight = self._draw(
            x.repeat_interleave(particles, 0), known.repeat_interleave(particles, 0), draws
        )
        chosen = choose(log_weight.view(num, particles), numbers[:, 0])
        rows = torch.arange(num, device=device)
        return candidates.view(num, particles, self.features)[rows, chosen]

    @property
    def _num_draws(self) -> int:
        """Uniform numbers that one vector takes."""
        return self.features

    @abstractmethod
    def _check_exact(self, known: Tensor) -> None:
        """Raise a ValueError where one draw does not have the law of completions exactly."""

    @abstractmethod
    def _draw(self, x: Tensor, known: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors that keep the known part of x [N, D], and the logarithms of their weights [N].

        Args:
            x: int64, where it is not known 0.
            known: bool [N, D].
            draws: uniform numbers [N, `_num_draws`].
        """

    def inputs(self, x: Tensor) -> Tensor:
        """The numbers x / (levels − 1) in [0, 1] that networks see of integers x."""
        return x.to(like(self).dtype) / (self.levels - 1)

    def _needs_particles(self, known: Tensor, reason: str) -> None:
        if known.any():
            raise ValueError(
                f"{type(self).__name__}: {reason}; ask for particles, candidates among which a "
                "completion is chosen by importance"
            )

    def _known_part(
        self, num: int, given: Tensor | None, known: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        name, device = type(self).__name__, like(self).device
        shape = (num, self.features)
        if (given is None) != (known is None):
            raise ValueError(
                f"{name}: {'known' if given is None else 'given'} needs "
                f"{'given' if given is None else 'known'} beside it"
            )
        if given is None or known is None:
            return (
                torch.zeros(shape, dtype=torch.int64, device=device),
                torch.zeros(shape, dtype=torch.bool, device=device),
            )
        if known.dtype != torch.bool:
            raise TypeError(f"{name}: known is {known.dtype}; expected torch.bool")
        for what, tensor in (("given", given), ("known", known)):
            if tuple(tensor.shape) not in (shape, shape[1:]):
                raise ValueError(
                    f"{name}: {what} has shape {list(tensor.shape)}; expected [{self.features}] "
                    f"or {list(shape)}"
                )
        known = known.to(device).expand(shape)
        x = torch.where(known, given.to(device).expand(shape), 0)
        self._check(x)
        return x.to(torch.int64), known

    def _check(self, x: Tensor) -> None:
        name = type(self).__name__
        if not isinstance(x, Tensor) or x.is_floating_point() or x.is_complex():
            given = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{name}: data are {given}; expected a tensor of integers")
        if x.dim() != 2 or x.shape[1] != self.features:
            raise ValueError(
                f"{name}: data have shape {list(x.shape)}; expected [N, {self.features}]"
            )
        if torch.compiler.is_compiling() or not x.numel():
            return
        low, high = int(x.min()), int(x.max())
        if low < 0 or high >= self.levels:
            raise ValueError(
                f"{name}: data are integers from {low} to {high}; expected from 0 to "
                f"{self.levels - 1}"
            )

    def extra_repr(self) -> str:
        return f"features={self.features}, levels={self.levels}"
