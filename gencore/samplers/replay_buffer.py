"""The replay buffer of persistent chains (Du and Mordatch 2019)."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from gencore.ops import philox_normal, random_key, split_key
from gencore.ops._support.checks import check_count, check_state, finite
from gencore.ops._support.checks import shape as checked_shape
from gencore.ops.random import stream_key
from gencore.samplers.chains import rows

__all__ = ["ChainStart", "ReplayBuffer"]


class ChainStart(Protocol):
    """Draws fresh chain starts; `philox_normal` is one."""

    def __call__(self, size: Sequence[int], key: Tensor, *, first_element: int = 0) -> Tensor: ...


class ReplayBuffer(nn.Module):
    """A fixed number of chains that go on where the last training step left them.

    A step draws some of them, restarts a fraction from fresh noise, moves them with a sampler and
    puts them back in their slots:

        x, slots = buffer.draw(64)
        x = sampler.sample(x, 60)
        buffer.put(x, slots)

    In P processes each holds the whole buffer. With equal keys their draws are the parts of
    the one that a single process would have made: rank r asks for
    `draw(n, key=key, first=r * n, total=P * n)` and puts back what all ranks gathered.
    Chains are copied in and out, so no later change to a batch reaches the buffer.

    Args:
        size: number of chains, at least the number drawn at once.
        shape: shape of one chain's state.
        reinit_fraction: probability that a drawn chain restarts.
        start: draws fresh starts, standard normal by default.
        key: int64 [seed, offset] of the first starts; drawn where it is missing.

    Example:
        >>> buffer = ReplayBuffer(100, (1, 8, 8))
        >>> x, slots = buffer.draw(16)
        >>> buffer.put(x + 1, slots)
        >>> x.shape, buffer
        (torch.Size([16, 1, 8, 8]), ReplayBuffer(size=100, shape=(1, 8, 8), reinit_fraction=0.05))

    References:
        Du and Mordatch, "Implicit generation and modeling with energy-based models", 2019, §3.2.
    """

    chains: Tensor

    def __init__(
        self,
        size: int,
        shape: Sequence[int],
        *,
        reinit_fraction: float = 0.05,
        start: ChainStart = philox_normal,
        key: Tensor | None = None,
    ) -> None:
        super().__init__()
        check_count("ReplayBuffer", "size", size, least=1)
        dimensions = checked_shape("ReplayBuffer", shape)
        if not 0 <= finite("ReplayBuffer", "reinit_fraction", reinit_fraction) <= 1:
            raise ValueError(f"ReplayBuffer: reinit_fraction is {reinit_fraction}; expected 0 to 1")
        self.reinit_fraction = reinit_fraction
        self.start = start
        key = stream_key(random_key() if key is None else key, "buffer")
        self.register_buffer("chains", self._starts((size, *dimensions), key))

    def draw(
        self,
        num: int,
        *,
        generator: torch.Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
        total: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Copies of `num` chains of different slots, some of them restarted.

        Args:
            num: number of chains for this process.
            generator: draws the key where none is given.
            key: int64 [seed, offset]; it fixes the slots and the restarts.
            first: number of chains that the processes before this one draw.
            total: number of chains that all processes draw; `num` where it is missing.

        Returns:
            States [num, *shape] and their slots, int64 [num].

        Raises:
            ValueError: if `total` is more than the buffer holds or less than `first + num`.
        """
        total = num if total is None else total
        for name, value in (("num", num), ("first", first), ("total", total)):
            check_count("ReplayBuffer.draw", name, value)
        if not 0 <= first <= first + num <= total <= len(self.chains):
            raise ValueError(
                f"ReplayBuffer.draw: {num} chains from number {first} on, of {total} drawn from "
                f"{len(self.chains)}; expected first + num <= total <= size"
            )
        if key is None:
            key = random_key(generator, device=self.chains.device)
        # All randomness is a function of the key and of the place in the whole draw, so that
        # every process sees the same permutation and its own part of the restarts.
        slot_key, restart_key, start_key = split_key(stream_key(key, "buffer draw"), 3)
        permutation = philox_normal((len(self.chains),), slot_key).argsort()
        slots = permutation[first : first + num]
        uniform = torch.special.ndtr(
            philox_normal((num,), restart_key, first_element=first, dtype=torch.float64)
        )
        shape = self.chains.shape[1:]
        fresh = self._starts((num, *shape), start_key, first_element=first * shape.numel())
        is_fresh = (uniform < self.reinit_fraction).reshape(num, *[1] * len(shape))
        chains = self.chains[slots]  # of the dtype of the module, which need not be that of starts
        return torch.where(is_fresh, fresh.to(chains.dtype), chains), slots

    def _starts(self, size: Sequence[int], key: Tensor, *, first_element: int = 0) -> Tensor:
        starts = self.start(size, key, first_element=first_element)
        check_state("ReplayBuffer", starts, "a result of start")
        if starts.shape != torch.Size(size):
            raise ValueError(
                f"ReplayBuffer: start returned states of shape {list(starts.shape)}; expected "
                f"{list(size)}, the size that it was given"
            )
        return starts

    def put(self, x: Tensor, slots: Tensor) -> None:
        """Copy states [M, *shape] into their slots [M].

        A state with an element that is not finite is left out, and its slot keeps the chain that it
        had: in the buffer it would come back until it is drawn for a restart.

        Raises:
            TypeError, ValueError: for states of another dtype or shape than the buffer's.
        """
        check_state("ReplayBuffer.put", x, "x")
        if x.dtype != self.chains.dtype:
            raise TypeError(
                f"ReplayBuffer.put: states are {x.dtype}; expected {self.chains.dtype}, as the "
                "buffer's"
            )
        expected = (len(slots), *self.chains.shape[1:])
        if x.shape != expected:
            raise ValueError(
                f"ReplayBuffer.put: states of shape {list(x.shape)} for {len(slots)} slots; "
                f"expected {list(expected)}"
            )
        is_finite = rows(x).isfinite().all(1).reshape(-1, *(1,) * (x.dim() - 1))
        self.chains[slots] = torch.where(is_finite, x.detach(), self.chains[slots])

    def extra_repr(self) -> str:
        size, *shape = self.chains.shape
        return f"size={size}, shape={tuple(shape)}, reinit_fraction={self.reinit_fraction}"
