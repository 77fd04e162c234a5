"""Energies whose value and gradient torch.compile turns into one function."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from gencore.ops import backend
from gencore.samplers.energy import Energy

__all__ = ["CompiledEnergy"]


class CompiledEnergy:
    """An energy with torch.compile's value and gradient, which samplers call instead of autograd.

    It spares what autograd and Python take for each operation: most of a step where tensors are
    small. The first call compiles, for some seconds; a change of the energy's parameters is seen,
    a batch of another size compiles once more. A `gencore.nn.MLPEnergy` needs none of this: its
    chains run in one kernel.

    Gradients with a graph of their own (`differentiable=True`) and training still go through the
    energy itself.

    Args:
        energy: maps [N, ...] to [N], each row by itself, and is what torch.compile understands.
        **options: of torch.compile, such as `mode="max-autotune"`.

    Example:
        >>> from gencore.samplers import HMC
        >>> energy = CompiledEnergy(lambda x: 0.5 * x.square().sum(1))
        >>> HMC(energy, step_size=0.2, num_leapfrog=8).sample(torch.zeros(4, 2), 10).shape
        torch.Size([4, 2])
    """

    def __init__(self, energy: Energy, **options: Any) -> None:
        self.energy, self._options = energy, options

        def total(x: Tensor) -> tuple[Tensor, Tensor]:
            value = energy(x)
            return value.sum(), value

        self._gradient = torch.compile(torch.func.grad(total, has_aux=True), **options)

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy or a pickle compiles anew, for the energy that it has.
        return partial(CompiledEnergy, **self._options), (self.energy,)

    def __call__(self, x: Tensor) -> Tensor:
        return self.energy(x)

    def energy_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) [N] and ∇E(x) [N, ...]."""
        with backend("reference"):  # what the compiler can look into
            grad, value = self._gradient(x)
        return value, grad
