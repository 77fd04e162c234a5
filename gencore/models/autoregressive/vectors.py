"""Distributions of vectors of levels: what their models share, and how an order is sampled."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional

from gencore.models.starts import like
from gencore.nn.fixed_buffers import FixedBuffers, with_values
from gencore.ops import philox_words, random_key
from gencore.ops.random import stream_key
from gencore.sizes import check_positive

__all__ = [
    "AutoregressiveVectorModel",
    "VectorModel",
    "ancestral",
    "check_order",
    "level_log_prob",
    "running_sums",
    "uniforms",
]

# Coordinates whose hidden units are computed at once; of 8 to 112 these were among the fastest.
_CHUNK = 28


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
        check_positive(type(self).__name__, features=features)
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
        chosen = _choose(log_weight.view(num, particles), numbers[:, 0])
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


class AutoregressiveVectorModel(VectorModel):
    r"""The distribution of vectors that is the product of its conditionals in an order σ.

    .. math:: p(x) = \prod_{t=1}^{D} p\big(x_{\sigma(t)} \mid x_{\sigma(1)}, \dots,
              x_{\sigma(t-1)}\big)

    A subclass gives :meth:`logits`, for all coordinates at once, and :meth:`steps`, which samples
    and which a coordinate should cost less than all.

    Args:
        features: D.
        levels: of a coordinate.
        order: σ, the coordinates from first to last; ``None``: as they come.

    Raises:
        ValueError: for sizes that are too small, or an order that is no permutation.
    """

    order: Tensor

    def __init__(
        self, features: int, levels: int = 2, order: Sequence[int] | Tensor | None = None
    ) -> None:
        super().__init__(features, levels)
        with with_values():
            order = check_order(type(self).__name__, order, features)
        self.register_fixed("order", order)

    @abstractmethod
    def logits(self, u: Tensor) -> Tensor:
        """The logits of all conditionals, [N, D, 1 or levels], of inputs u = x / (levels − 1).

        Those of coordinate σ(t) depend on u at σ(1), …, σ(t − 1) alone. Differentiable in u.
        """

    def conditionals(self, x: Tensor) -> Tensor:
        """The logits of p(x_i | what comes before i) for all i, [N, D, 1 or levels].

        Args:
            x: integers [N, D].

        Raises:
            ValueError, TypeError: for data that do not fit.
        """
        self._check(x)
        return self.logits(self.inputs(x))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), [N].

        Args:
            x: integers [N, D].

        Raises:
            ValueError, TypeError: for data that do not fit.
        """
        return level_log_prob(self.conditionals(x), x).sum(1)

    def forward(self, x: Tensor) -> Tensor:
        """−log p(x), [N]: what training minimises."""
        return -self.log_prob(x)

    @abstractmethod
    def steps(self, u: Tensor) -> Iterator[Tensor]:
        """The logits [N, 1 or levels] of one coordinate after another in the order.

        Args:
            u: inputs [N, D]. Whoever iterates writes coordinate σ(t) after the t-th logits came.
        """

    def _check_exact(self, known: Tensor) -> None:
        if _is_prefix(known[:, self.order]):
            return
        self._needs_particles(known, "the known coordinates do not come first in its order")

    def _draw(self, x: Tensor, known: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        return ancestral(x, known, draws, self.order, self.steps, self.inputs)


def ancestral(
    x: Tensor,
    known: Tensor,
    draws: Tensor,
    order: Tensor,
    steps: Callable[[Tensor], Iterator[Tensor]],
    inputs: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Draw coordinates one after another, and weigh those that are known.

    Args:
        x: int64 [N, D]; its known coordinates are kept.
        known: bool [N, D].
        draws: uniform numbers [N, D], in the order.
        order: the coordinates from first to last, [D] or [N, D].
        steps: the logits of one coordinate after another, of inputs that are filled in between.
        inputs: of a network, from integers.

    Returns:
        The vectors, and log Π p(x_i | what comes before i) over the known i, [N].
    """
    x, order = x.clone(), order.expand(x.shape)
    u = inputs(x)
    log_weight = u.new_zeros(len(x))
    # zip asks for the next logits only after this step's coordinate was written.
    for place, number, logits in zip(order.unbind(1), draws.unbind(1), steps(u), strict=True):
        column = place.unsqueeze(1)
        fixed, value = known.gather(1, column)[:, 0], x.gather(1, column)[:, 0]
        log_weight += torch.where(fixed, level_log_prob(logits, value), 0)
        value = torch.where(fixed, value, _choose_level(logits, number))
        x.scatter_(1, column, value.unsqueeze(1))
        u.scatter_(1, column, inputs(value).unsqueeze(1))
    return x, log_weight


def running_sums(
    start: Tensor, u: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Iterator[tuple[slice, Tensor]]:
    r"""The sums before each coordinate, a_t = start + Σ_{s<t} (u_s w_s + b_s), some t at a time.

    Sums within a part are a product with a triangular matrix, which is faster than a cumulative
    sum and than a loop over coordinates.

    Args:
        start: [H].
        u: inputs [N, D], in order.
        weight: rows w_s, [D, H].
        bias: rows b_s, [D, H].

    Returns:
        Slices of t, of length T, and their sums [N, T, H].
    """
    features = u.shape[1]
    before = u.new_ones(_CHUNK, _CHUNK).tril(-1)
    total = start.expand(len(u), -1)
    for first in range(0, features, _CHUNK):
        part = slice(first, min(first + _CHUNK, features))
        seen, rows = before[: part.stop - first, : part.stop - first], weight[part]
        sums = (seen * u[:, None, part]) @ rows + total.unsqueeze(1)
        total = total + u[:, part] @ rows
        if bias is not None:
            sums = sums + seen @ bias[part]
            total = total + bias[part].sum(0)
        yield part, sums


def level_log_prob(logits: Tensor, x: Tensor) -> Tensor:
    """log p of levels x [...] under logits [..., 1] of level 1, or [..., levels] of all."""
    if logits.shape[-1] == 1:
        logit = logits.squeeze(-1)
        return -functional.binary_cross_entropy_with_logits(
            logit, x.to(logit.dtype), reduction="none"
        )
    log_prob = logits.log_softmax(-1)
    return log_prob.gather(-1, x.to(torch.int64).unsqueeze(-1)).squeeze(-1)


def uniforms(num: int, size: int, key: Tensor, *, first: int = 0) -> Tensor:
    """Uniform numbers [num, size] in [0, 1), float32, of the rows from `first` on of a stream."""
    words = philox_words((num, size), key, first_element=first * size)
    return (words >> 8).to(torch.float32) * 2.0**-24


def check_order(name: str, order: Sequence[int] | Tensor | None, features: int) -> Tensor:
    """An order as int64 [D]; that of the coordinates where none is given.

    Raises:
        ValueError: it is no permutation of 0, …, D − 1.
    """
    if order is None:
        return torch.arange(features)
    order = torch.as_tensor(order, dtype=torch.int64)
    if order.dim() != 1 or sorted(order.tolist()) != list(range(features)):
        raise ValueError(
            f"{name}: order is {order.tolist()}; expected a permutation of 0, …, {features - 1}"
        )
    return order


def _is_prefix(known: Tensor) -> bool:
    """Whether in every row [D] of bool nothing true comes after something false."""
    return not bool((known[:, 1:] & ~known[:, :-1]).any())


def _choose_level(logits: Tensor, number: Tensor) -> Tensor:
    """The levels [N] that uniform numbers [N] choose under logits [N, 1 or levels]."""
    if logits.shape[1] == 1:
        return (number < torch.sigmoid(logits[:, 0])).to(torch.int64)
    return _choose(logits, number)


def _choose(logits: Tensor, number: Tensor) -> Tensor:
    """The one of K with probabilities softmax(logits [N, K]) that uniform numbers [N] choose."""
    cumulative = logits.softmax(-1).cumsum(-1)[:, :-1]
    return (number.unsqueeze(1) >= cumulative).sum(1)
