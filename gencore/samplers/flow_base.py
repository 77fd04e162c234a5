"""What the flows from noise share: the noise's density, their calls and their failure."""

import math
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Generator, Tensor

from gencore.nn.held_norms import held_norms
from gencore.ops import random_key
from gencore.ops.random import rademacher
from gencore.samplers.chains import elements_before
from gencore.samplers.energy import Energy

__all__ = ["EnergyFlow", "FlowError", "enter", "normal_log_prob"]


class FlowError(RuntimeError):
    """The energy's flow cannot be followed: it is not finite, or too stiff for the solver."""


@dataclass(frozen=True)
class EnergyFlow(ABC):
    """A map from noise x₀ ~ N(0, I) to samples x that leads down an energy, with its density.

        log p(x) = log N(x₀; 0, I) − log|det ∂x/∂x₀|

    Args:
        energy: maps [N, ...] to [N], each row by itself.
        hold_norms: whether a spectral norm in training stands still within a call, so that all
            steps follow one energy.
    """

    energy: Energy
    _: KW_ONLY
    hold_norms: bool = True

    @property
    @abstractmethod
    def _has_noise(self) -> bool:
        """Whether log-determinants are estimates, which take random signs."""

    @abstractmethod
    def _sample(self, x0: Tensor, differentiable: bool) -> Tensor:
        """x of the starts x₀."""

    @abstractmethod
    def _sample_with_log_det(
        self, x0: Tensor, noise: Tensor | None, differentiable: bool
    ) -> tuple[Tensor, Tensor]:
        """x of the starts x₀, and log|det ∂x/∂x₀|."""

    @abstractmethod
    def _inverse_with_log_det(
        self, x: Tensor, noise: Tensor | None, differentiable: bool
    ) -> tuple[Tensor, Tensor]:
        """The starts x₀ of x, and log|det ∂x₀/∂x|."""

    @abstractmethod
    def _log_prob(self, x: Tensor, noise: Tensor | None, differentiable: bool) -> Tensor:
        """log p(x)."""

    def _check_positive(self, *names: str) -> None:
        """Raise unless the settings with these names are positive."""
        for name in names:
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{type(self).__name__}: {name} is {getattr(self, name)}; "
                    "expected a positive number"
                )

    def sample(self, x0: Tensor, *, differentiable: bool = False) -> Tensor:
        """The samples x, [N, ...], of the starts x₀.

        Args:
            x0: starts [N, ...], x₀ ~ N(0, I); left unchanged.
            differentiable: build a graph through the flow, to `x0` and to the energy's parameters.

        Raises:
            FlowError: a `GradientFlow` leaves the finite numbers or is too stiff.
        """
        self._check_input(x0)
        with self._held():
            return self._sample(x0, differentiable)

    def sample_with_log_prob(
        self, x0: Tensor, *, differentiable: bool = False, generator: Generator | None = None,
        key: Tensor | None = None, first: int = 0, first_element: int | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The samples x, [N, ...], of the starts x₀, and log p(x), [N].

        Args:
            x0: starts [N, ...], x₀ ~ N(0, I); left unchanged.
            differentiable: build a graph through the flow, to `x0` and to the energy's parameters.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the signs of a log-determinant that is estimated.
            first: number of rows of the processes before this one.
            first_element: the same as the number of their elements.
        """
        x, log_det = self.sample_with_log_det(
            x0, differentiable=differentiable, generator=generator, key=key, first=first,
            first_element=first_element,
        )  # fmt: skip
        return x, normal_log_prob(enter(x0, differentiable)) - log_det

    def sample_with_log_det(
        self, x0: Tensor, *, differentiable: bool = False, generator: Generator | None = None,
        key: Tensor | None = None, first: int = 0, first_element: int | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The samples x, [N, ...], of the starts x₀, and log|det ∂x/∂x₀|, [N]; arguments as those
        of `sample_with_log_prob`."""
        noise = self._noise(x0, generator, key, first, first_element)
        with self._held():
            return self._sample_with_log_det(x0, noise, differentiable)

    def log_prob(
        self, x: Tensor, *, differentiable: bool = False, generator: Generator | None = None,
        key: Tensor | None = None, first: int = 0, first_element: int | None = None,
    ) -> Tensor:  # fmt: skip
        """log p(x), [N], from the starts that the flow leads to x.

        Args:
            x: data [N, ...].
            differentiable: build a graph to `x` and to the energy's parameters: maximum likelihood
                of the flow minimises the mean of −log p. An `EulerFlow` differentiates its inverse
                as an implicit function, up to its third derivatives.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the signs of a log-determinant that is estimated.
            first: number of rows of the processes before this one.
            first_element: the same as the number of their elements.

        Returns:
            [N]. A `GradientFlow` gives −∞ for a row that comes from infinity, and NaN for one that
            is not finite. An `EulerFlow` reports rows whose inverse did not converge as `inverse`
            does, and `log_prob_and_convergence` says which.

        Raises:
            FlowError: of a `GradientFlow`, the gradient of the energy is not finite at a row that
                the solver cannot follow; of an `EulerFlow` with `on_failure="raise"`, rows did not
                converge, or a step is no contraction.

        Warns:
            NonConvergenceWarning: likewise, of an `EulerFlow` with `on_failure="warn"`.
        """
        noise = self._noise(x, generator, key, first, first_element)
        with self._held():
            return self._log_prob(x, noise, differentiable)

    def inverse_with_log_det(
        self, x: Tensor, *, differentiable: bool = False, generator: Generator | None = None,
        key: Tensor | None = None, first: int = 0, first_element: int | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The starts x₀ of x, [N, ...], and log|det ∂x₀/∂x|, [N]; arguments as those of
        `log_prob`."""
        noise = self._noise(x, generator, key, first, first_element)
        with self._held():
            return self._inverse_with_log_det(x, noise, differentiable)

    def _noise(
        self, x: Tensor, generator: Generator | None, key: Tensor | None, first: int,
        first_element: int | None,
    ) -> Tensor | None:  # fmt: skip
        """The signs of an estimate, or None where log-determinants are exact."""
        self._check_input(x)
        first_element = elements_before(type(self).__name__, x, first, first_element)
        if not self._has_noise:
            return None
        return rademacher(x, random_key(generator, x.device) if key is None else key, first_element)

    def _held(self) -> AbstractContextManager[None]:
        return held_norms(self.energy) if self.hold_norms else nullcontext()

    def _check_input(self, x: Tensor) -> None:
        """Raise unless x is [N, D, ...] of float32 or float64."""
        name = type(self).__name__
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: expected a tensor of positions, got {type(x).__name__}")
        if x.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name}: positions are {x.dtype}; expected float32 or float64")
        if x.dim() < 2:
            raise ValueError(
                f"{name}: positions have shape {list(x.shape)}; expected [N, D] or [N, ...]"
            )


def normal_log_prob(x: Tensor) -> Tensor:
    """log N(xₙ; 0, I), [N]."""
    dim = x.shape[1:].numel()
    return -0.5 * (x.flatten(1).square().sum(1) + dim * math.log(2 * math.pi))


def enter(x: Tensor, differentiable: bool) -> Tensor:
    """`x` as what a flow starts from, with its graph or without."""
    return x if differentiable else x.detach()
