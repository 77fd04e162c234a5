"""Unadjusted Langevin dynamics for energies, with its customary parametrisations."""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from gencore.ops import (
    langevin_step,
    langevin_step_,
    mlp_langevin_chain,
    random_key,
    split_key,
)
from gencore.ops._support.checks import finite, number
from gencore.samplers.chains import check_positions, elements_before
from gencore.samplers.energy import Energy, network_of
from gencore.samplers.unadjusted import LangevinInfo, UnadjustedSampler

__all__ = ["Langevin", "LangevinInfo", "LangevinState"]


class LangevinState(NamedTuple):
    """Where the chains are."""

    position: Tensor
    """[N, ...]: one chain a row."""


@dataclass(frozen=True)
class Langevin(UnadjustedSampler[LangevinState]):
    """Unadjusted Langevin dynamics on an energy E, or gradient descent where it has no noise.

    One step with the gradient g = clip(∇E(x)) and fresh ε ~ N(0, I) is

        x' = clamp(x − step_size·(g + prior_precision·x) + noise_scale·ε)

    and costs one gradient. With `noise_scale` = √(2·step_size), the default, the chains approach
    p(x) ∝ exp(−E(x) − prior_precision·‖x‖²/2) as the step size goes to 0. Papers write the two in
    other units: `from_time_step`, `from_noise_std` and `noise_free` take theirs.

    On a `gencore.nn.MLPEnergy`, `sample` runs all steps in one kernel with the same random numbers.

    Chains that meet NaN or infinity are never repaired: `step` flags them, `sample` returns them
    as they are and warns. The parameters of the energy get no gradients.

    Args:
        energy: maps [N, ...] to [N], each row by itself.
        step_size: the factor of the gradient, a number or one per chain.
        noise_scale: standard deviation of the noise, a number or one per chain.
        prior_precision: precision of a Gaussian prior, which need not be part of the energy.
        grad_clamp: bound on the absolute value of each element of the gradient.
        clamp: lowest and highest value of the positions.

    Example:
        >>> sampler = Langevin(lambda x: 0.5 * x.square().sum(1), step_size=0.1)
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = sampler.sample(torch.zeros(4000, 2), 100, generator=generator)
        >>> round(x.var().item(), 1)
        1.1

    References:
        Welling and Teh, "Bayesian learning via stochastic gradient Langevin dynamics", 2011; Yan,
        "Deep Generative Models: Design, Improvements and Applications", 2022, (2.15) and (2.20).
    """

    energy: Energy
    step_size: float | Tensor
    noise_scale: float | Tensor | None = None
    _: KW_ONLY
    prior_precision: float = 0.0
    grad_clamp: float | None = None
    clamp: tuple[float, float] | None = None

    _advice = "a smaller step_size, grad_clamp or clamp"
    _draws_key = True  # where it has noise

    @classmethod
    def from_time_step(cls, energy: Energy, time_step: float, **settings: Any) -> "Langevin":
        """Euler's method for dx = −½∇E dt + dw: x' = x − (η/2)∇E(x) + √η·ε, with η the time step.

        Yan 2022, eq. (2.15). Other texts call the time step b.
        """
        time_step = number("Langevin.from_time_step", "time_step", time_step)
        return cls(energy, time_step / 2, math.sqrt(time_step), **settings)

    @classmethod
    def from_noise_std(cls, energy: Energy, noise_std: float, **settings: Any) -> "Langevin":
        """The step x' = x − (δ²/2)∇E(x) + δ·ε, with δ the standard deviation of the noise."""
        noise_std = number("Langevin.from_noise_std", "noise_std", noise_std)
        return cls(energy, noise_std**2 / 2, noise_std, **settings)

    @classmethod
    def noise_free(cls, energy: Energy, step_size: float | Tensor, **settings: Any) -> "Langevin":
        """Gradient descent x' = x − step_size·∇E(x).

        From random starts it is a generator with the start as its latent variable, a residual flow
        (Yan 2022, eq. (2.20) and (2.21), with η/2 for the step size).
        """
        return cls(energy, step_size, 0.0, **settings)

    def init(self, x: Tensor) -> LangevinState:
        """The state of chains that start at `x` [N, ...].

        Example:
            >>> sampler = Langevin.noise_free(lambda x: 0.5 * x.square().sum(1), step_size=0.5)
            >>> state, info = sampler.step(sampler.init(torch.tensor([[4.0]])))
            >>> state.position, info.energy, info.is_finite
            (tensor([[2.]]), tensor([8.]), tensor([True]))
        """
        check_positions("Langevin.init", x)
        return LangevinState(x.detach().clone())

    def anneal(
        self,
        x: Tensor,
        num_steps: int,
        temperatures: Sequence[float],
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
        first_element: int | None = None,
    ) -> Tensor:
        """Run every chain for `num_steps` steps at each temperature T in turn.

        The noise is scaled by √T, so that the chains approach exp(−E/T): hot ones cross barriers,
        and a schedule that falls to 1 leaves them near exp(−E), one that falls to 0 near its modes.

        Args:
            x: starts [N, ...], one chain a row; left unchanged.
            num_steps: number of steps at each temperature.
            temperatures: T of each stage, 0 or more.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset]; the steps use it and the following ones of `split_key`.
            first: number of chains of the processes before this one.
            first_element: the same as the number of their elements.

        Returns:
            Final states [N, ...].

        Raises:
            ValueError: for a negative temperature, and as `sample`.

        Example:
            >>> energy = lambda x: 8 * (x.square() - 1).square().sum(1)  # wells at −1 and 1
            >>> generator = torch.Generator().manual_seed(0)
            >>> x = Langevin(energy, 0.01, clamp=(-2.0, 2.0)).anneal(
            ...     torch.ones(2000, 1), 100, (10.0, 3.0, 1.0), generator=generator)
            >>> round((x > 0).float().mean().item(), 1)
            0.5

        References:
            Kirkpatrick, Gelatt and Vecchi, "Optimization by simulated annealing", 1983.
        """
        check_positions("Langevin.anneal", x)
        temperatures = [finite("Langevin.anneal", "a temperature", t) for t in temperatures]
        if not all(temperature >= 0 for temperature in temperatures):
            raise ValueError(
                f"Langevin.anneal: temperatures are {temperatures}; expected none negative"
            )
        first_element = elements_before("Langevin.anneal", x, first, first_element)
        if key is None:
            key = random_key(generator, device=x.device)
        scale = (2.0 * self.step_size) ** 0.5 if self.noise_scale is None else self.noise_scale
        for stage, temperature in enumerate(temperatures):
            sampler = replace(self, noise_scale=math.sqrt(temperature) * scale)
            stage_key = key + torch.tensor([0, stage * num_steps], device=key.device)
            x = sampler.sample(x, num_steps, key=stage_key, first_element=first_element)
        return x

    def _start(
        self, x: Tensor, key: Tensor, num_steps: int, first_element: int
    ) -> tuple[LangevinState, tuple[Tensor, ...]]:
        if not torch.is_grad_enabled():
            return super()._start(x, key, num_steps, first_element)
        x = x if x.requires_grad else x.detach().requires_grad_()
        return LangevinState(x), split_key(key, num_steps)

    def _moved(
        self, state: LangevinState, grad: Tensor, key: Tensor, first_element: int, *, in_place: bool
    ) -> LangevinState:
        move = langevin_step_ if in_place else langevin_step
        return LangevinState(
            move(state.position, grad, **self._settings, key=key, first_element=first_element)
        )

    def _at_once(
        self, state: LangevinState, num_steps: int, thin: int, return_trajectory: bool, key: Tensor,
        first_element: int,
    ) -> Tensor | None:  # fmt: skip
        network = network_of(self.energy, state.position)
        if network is None or (network["prior_precision"] != 0.0 and self.grad_clamp is not None):
            return None  # the kernel clips the network's gradient before it adds the prior's
        prior_precision = network["prior_precision"] + self.prior_precision
        settings = {**network, **self._settings, "prior_precision": prior_precision}
        return mlp_langevin_chain(
            state.position, **settings, num_steps=num_steps, key=key, first_element=first_element,
            return_trajectory=return_trajectory, thin=thin,
        )  # fmt: skip

    def _needs_host(self) -> str | None:
        return None

    def _has_no_gradient(self) -> str | None:
        return None

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "step_size": self.step_size,
            "noise_scale": self.noise_scale,
            "prior_precision": self.prior_precision,
            "grad_clamp": self.grad_clamp,
            "clamp": self.clamp,
        }
