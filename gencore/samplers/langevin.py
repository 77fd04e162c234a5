"""Unadjusted Langevin dynamics for energies, with its customary parametrisations."""

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from gencore.nn.held_norms import held_norms
from gencore.ops import (
    langevin_step,
    langevin_step_,
    mlp_langevin_chain,
    random_key,
    split_key,
)
from gencore.ops._support.checks import accumulation_dtype, finite, number
from gencore.samplers.chains import check_positions, check_sample, rows, warn_if_not_finite
from gencore.samplers.cuda_graph import check_device, graphed
from gencore.samplers.energy import Energy, energy_and_grad, network_of

__all__ = ["Langevin", "LangevinInfo", "LangevinState"]

_ADVICE = "a smaller step_size, grad_clamp or clamp"


class LangevinState(NamedTuple):
    """Where the chains are."""

    position: Tensor
    """[N, ...]: one chain a row."""


class LangevinInfo(NamedTuple):
    """What one step saw. It has no acceptance: the dynamics are unadjusted."""

    energy: Tensor
    """[N]: the energy at the position that the step left."""
    grad_norm: Tensor
    """[N]: the Euclidean norm of the energy's gradient there, before it is clamped."""
    is_finite: Tensor
    """[N], bool: whether that energy and the new position are finite."""


@dataclass(frozen=True)
class Langevin:
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

    def step(
        self, state: LangevinState, *, key: Tensor | None = None, first_element: int = 0
    ) -> tuple[LangevinState, LangevinInfo]:
        """One step of every chain; `key` is one of `split_key`, or drawn where it is missing.

        Example:
            >>> sampler = Langevin.noise_free(lambda x: 0.5 * x.square().sum(1), step_size=0.5)
            >>> state, info = sampler.step(LangevinState(torch.tensor([[4.0]])))
            >>> state.position, info.energy, info.is_finite
            (tensor([[2.]]), tensor([8.]), tensor([True]))
        """
        check_positions("Langevin.step", state.position)
        with held_norms(self.energy):
            energy, grad = energy_and_grad(self.energy, state.position, owner="Langevin")
        position = langevin_step(
            state.position.detach(), grad, **self._settings, key=key, first_element=first_element
        )
        grad_norm = torch.linalg.vector_norm(rows(grad), dim=1)
        is_finite = energy.isfinite() & rows(position).isfinite().all(1)
        return LangevinState(position), LangevinInfo(energy, grad_norm, is_finite)

    def sample(
        self,
        x: Tensor,
        num_steps: int,
        *,
        return_trajectory: bool = False,
        thin: int = 1,
        differentiable: bool = False,
        cuda_graph: bool = False,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first_element: int = 0,
    ) -> Tensor:
        """Run every chain for `num_steps` steps.

        Args:
            x: starts [N, ...], one chain a row; left unchanged.
            num_steps: number of steps, each with one gradient of the energy.
            return_trajectory: return the states along the way instead of the final ones.
            thin: with `return_trajectory`, keep the states after steps `thin`,
                `2 * thin`, ..., `num_steps`.
            differentiable: build a graph through all steps, to `x` and to the parameters of the
                energy (memory grows with `num_steps`).
            cuda_graph: capture the gradient and the step in a CUDA graph and replay it, which pays
                in many steps of an energy that takes the device less time than the host needs to
                launch it. The energy is called four times in all and must not wait for the device;
                what it does on the host (a counter, a choice by Python's `random`) is not
                repeated. No effect where a whole chain is one kernel. Not with `differentiable`.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset]; the steps use `split_key(key, num_steps)`.
            first_element: number of elements in the chains of the processes before this one, which
                makes the noise that of a single process with all chains.

        Returns:
            Final states [N, ...], or the trajectory [num_steps / thin, N, ...].

        Raises:
            ValueError: if `num_steps` is negative or `thin` does not divide it, if `x` has no
                dimension for the chains, if the energies do not have shape [N], or for
                `cuda_graph` with chains that are not on a CUDA device.
            RuntimeError: if the step cannot be captured in a CUDA graph; it says why.

        Warns:
            NonFiniteWarning: if an energy along the way or a final state is not finite.
        """
        check_sample("Langevin", x, num_steps, thin, return_trajectory)
        if cuda_graph and differentiable:
            raise ValueError("Langevin.sample: a CUDA graph cannot be differentiable")
        if differentiable and torch.is_inference_mode_enabled():
            raise ValueError("Langevin.sample: nothing is differentiable in torch.inference_mode")
        if cuda_graph:
            check_device("Langevin.sample", x.device)
        if key is None:
            key = random_key(generator, device=x.device)
        if not differentiable and num_steps > 0 and (network := self._network(x)) is not None:
            with torch.no_grad():
                result = mlp_langevin_chain(
                    x, **network, num_steps=num_steps, key=key, first_element=first_element,
                    return_trajectory=return_trajectory, thin=thin,
                )  # fmt: skip
            final = result[-1] if return_trajectory else result
            warn_if_not_finite("Langevin", final.isfinite().all(1), num_steps, _ADVICE)
            return result
        if differentiable:
            x = x if x.requires_grad else x.detach().requires_grad_()
            update = langevin_step
        else:
            x = x.detach().clone()
            update = langevin_step_

        trajectory: list[Tensor] = []
        # A NaN or an infinity stays in a sum, so one check at the end covers all steps.
        energy_sum = torch.zeros(x.shape[0], device=x.device, dtype=accumulation_dtype(x))
        settings = self._settings

        def step(step_key: Tensor) -> Tensor:
            energy, grad = energy_and_grad(
                self.energy, x, create_graph=differentiable, owner="Langevin"
            )
            energy_sum.add_(energy.detach())
            return update(x, grad, **settings, key=step_key, first_element=first_element)

        with torch.set_grad_enabled(differentiable), held_norms(self.energy):
            keys = split_key(key, num_steps)
            graph = cuda_graph and num_steps > 0
            move = _captured(step, x, energy_sum, keys[0]) if graph else step
            for number, step_key in enumerate(keys, start=1):
                x = move(step_key)
                if return_trajectory and number % thin == 0:
                    trajectory.append(x if differentiable else x.clone())

        is_finite = energy_sum.isfinite() & rows(x).isfinite().all(1)
        warn_if_not_finite("Langevin", is_finite, num_steps, _ADVICE)
        if return_trajectory:
            return torch.stack(trajectory) if trajectory else x.new_empty((0, *x.shape))
        return x

    def anneal(
        self,
        x: Tensor,
        num_steps: int,
        temperatures: Sequence[float],
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first_element: int = 0,
    ) -> Tensor:
        """Run every chain for `num_steps` steps at each temperature T in turn.

        The noise is scaled by √T, so that the chains approach exp(−E/T): hot ones cross barriers,
        and a schedule that falls to 1 leaves them near exp(−E), one that falls to 0 near its modes.

        Args:
            x: starts [N, ...], one chain a row; left unchanged.
            num_steps: number of steps at each temperature.
            temperatures: the T, in their order; not negative.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset]; the steps use it and the following ones of `split_key`.
            first_element: number of elements in the chains of the processes before this one.

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
        if key is None:
            key = random_key(generator, device=x.device)
        scale = (2.0 * self.step_size) ** 0.5 if self.noise_scale is None else self.noise_scale
        for stage, temperature in enumerate(temperatures):
            sampler = replace(self, noise_scale=math.sqrt(temperature) * scale)
            stage_key = key + torch.tensor([0, stage * num_steps], device=key.device)
            x = sampler.sample(x, num_steps, key=stage_key, first_element=first_element)
        return x

    def _network(self, x: Tensor) -> dict[str, Any] | None:
        """The energy and the settings of a whole-chain kernel, where they have one."""
        network = network_of(self.energy, x)
        if network is None or (network["prior_precision"] != 0.0 and self.grad_clamp is not None):
            return None  # the kernel clips the network's gradient before it adds the prior's
        prior_precision = network["prior_precision"] + self.prior_precision
        return {**network, **self._settings, "prior_precision": prior_precision}

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "step_size": self.step_size,
            "noise_scale": self.noise_scale,
            "prior_precision": self.prior_precision,
            "grad_clamp": self.grad_clamp,
            "clamp": self.clamp,
        }


def _captured(
    step: Callable[[Tensor], Tensor], x: Tensor, energy_sum: Tensor, key: Tensor
) -> Callable[[Tensor], Tensor]:
    """`step`, which moves `x` and adds to `energy_sum` in place, as a CUDA graph."""
    start, static_key = x.clone(), key.clone()

    def run() -> None:
        step(static_key)

    def restore() -> None:
        x.copy_(start)
        energy_sum.zero_()

    replay = graphed("Langevin.sample", run, restore, x.device)

    def replayed(step_key: Tensor) -> Tensor:
        static_key.copy_(step_key)
        replay()
        return x

    return replayed
