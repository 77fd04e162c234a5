"""What the models share whose energy corrects a base model that stays as it is (Yan 2022, §3.3)."""

from abc import ABC, abstractmethod
from functools import partial
from typing import TypeVar

import torch
from torch import Generator, Tensor, nn

from gencore.models.flows.flow import Flow
from gencore.models.starts import like
from gencore.nn.held_norms import held_norms
from gencore.objectives.contrastive import ChainKernel, ShortRunLoss, contrastive_loss
from gencore.ops import random_key, split_key
from gencore.ops._support.checks import check_count, finite
from gencore.ops.random import stream_key
from gencore.samplers import Langevin
from gencore.samplers.energy import Energy

__all__ = ["BALANCED_LANGEVIN", "ExponentialTilting"]


T = TypeVar("T", bound="ExponentialTilting")


BALANCED_LANGEVIN: ChainKernel = partial(Langevin.from_time_step, time_step=0.01)
"""(3.8) with the thesis' ε."""


class ExponentialTilting(nn.Module, ABC):
    """A base density times exp(−E_θ), normalised; only the energy E_θ is trained.

    A call is the training objective: it runs chains from the base's samples, evaluates the loss and
    returns a `ShortRunLoss`, so the module as a whole is what Fabric or DistributedDataParallel
    wraps. The base is frozen: its parameters no longer require gradients, and it stays in
    evaluation whatever `train` is told.

    Args:
        base: the base model.
        energy: a network of data [N, ...] → [N].
        kernel: makes the sampler of an energy.
        num_steps: its steps in training and, if no other number is given, in use.
        energy_penalty: weight α of the mean of E(x⁺)² + E(x⁻)².
    """

    def __init__(
        self,
        base: nn.Module,
        energy: nn.Module,
        *,
        kernel: ChainKernel,
        num_steps: int,
        energy_penalty: float,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_count(name, "num_steps", num_steps)
        finite(name, "energy_penalty", energy_penalty)
        if isinstance(base, Flow) and base.context_size:
            raise ValueError(
                f"{name}: the flow has a context of size {base.context_size}; expected none"
            )
        self.base = base.requires_grad_(False).eval()
        self.energy = energy
        self.kernel = kernel
        self.num_steps = num_steps
        self.energy_penalty = energy_penalty

    def train(self: T, mode: bool = True) -> T:
        """Set the energy to training or evaluation; the base stays in evaluation."""
        super().train(mode)
        self.base.eval()
        return self

    @property
    @abstractmethod
    def chain_energy(self) -> Energy:
        """−log of the density of the chains' states, but for log Z."""

    @abstractmethod
    def start(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """States of `num` chains from the base, after `first` chains of other processes."""

    @abstractmethod
    def _data(self, state: Tensor) -> Tensor:
        """The data of the chains' states."""

    def forward(
        self,
        x: Tensor,
        start: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> ShortRunLoss:
        """The loss E_θ(x⁺) − E_θ(x⁻) + α·(E_θ(x⁺)² + E_θ(x⁻)²), whose gradient is (3.5) for α = 0.

        Args:
            x: data x⁺, [N, ...].
            start: where the chains start, from `start`.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the chains.
            first: number of chains that the processes before this one run.
        """
        if key is None:
            key = random_key(generator, device=start.device)
        with held_norms(self.energy, advance=True):  # one energy in chains and loss
            samples = self._run(start, self.num_steps, key, first)
            return contrastive_loss(self.energy, x, samples, energy_penalty=self.energy_penalty)

    def sample(
        self,
        num: int,
        *,
        num_steps: int | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """`num` samples.

        Args:
            num: number of samples.
            num_steps: of the chains; without it those of training. More of them come closer to the
                density (the thesis trains with 60 and samples with 100).
            generator: draws the key where none is given.
            key: int64 [seed, offset]; it fixes the starts and the noise of the chains.
            first: number of samples before these. With one key, `sample(a)` and
                `sample(b, first=a)` are the two parts of `sample(a + b)`.
        """
        if key is None:
            key = random_key(generator, device=like(self).device)
        start_key, chain_key = split_key(stream_key(key, "samples"), 2)
        start = self.start(num, key=start_key, first=first)
        return self._run(
            start, self.num_steps if num_steps is None else num_steps, chain_key, first
        )

    def _run(self, start: Tensor, num_steps: int, key: Tensor, first: int) -> Tensor:
        chains = self.kernel(self.chain_energy)
        first_element = first * start[:1].numel()
        state = chains.sample(start, num_steps, key=key, first_element=first_element)
        with torch.no_grad():
            return self._data(state)

    def extra_repr(self) -> str:
        return f"num_steps={self.num_steps}, energy_penalty={self.energy_penalty}"
