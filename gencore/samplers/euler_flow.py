"""Gradient descent from noise as a residual flow (Yan 2022, §2.4.3; Chen et al. 2019)."""

import warnings
from dataclasses import KW_ONLY, dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor

from gencore.ops import random_key
from gencore.samplers.energy import Energy, energy_and_grad
from gencore.samplers.flow_base import FlowError, check_flow_input, normal_log_prob
from gencore.samplers.hessian import hessian, hessian_vector_product, rademacher

__all__ = ["EulerFlow", "InverseResult", "LogDetMethod", "NonConvergenceWarning"]

LogDetMethod = Literal["exact", "series"]


class NonConvergenceWarning(RuntimeWarning):
    """Some rows of an inverse did not converge; they are returned as they are."""


class InverseResult(NamedTuple):
    """Where the flow came from."""

    position: Tensor
    """[N, ...]: the starts x₀."""
    has_converged: Tensor
    """[N], bool: whether the fixed point of every step was found."""


@dataclass(frozen=True)
class EulerFlow:
    """K steps of gradient descent from noise, a residual flow with its density.

    From x₀ ~ N(0, I), with the step size a (η/2 in the thesis),

        xₜ₊₁ = xₜ − a∇E(xₜ)                                          (2.20)
        x_K = (I − a∇E)ᴷ(x₀)                                         (2.21)
        log p(x_K) = log N(x₀; 0, I) − Σₜ log|det(I − a∇²E(xₜ))|

    It is Euler's method for the `GradientFlow` of time T = K·a, whose samples and densities it
    approaches as O(a). Where a∇E is a contraction, Lip(a∇E) < 1, the map is invertible and the
    inverse of a step is the fixed point of x = xₜ₊₁ + a∇E(x). Elsewhere the iteration may not
    converge, and two starts may share an end, whose density is then more than what is returned.

    Args:
        energy: maps [N, ...] to [N], each row by itself.
        step_size: a > 0.
        num_steps: K.
        log_det: "exact" from the whole Jacobian, D Hessian-vector products and an LU decomposition
            a step, or "series", −Σₖ aᵏ vᵀ(∇²E)ᵏv / k to `num_terms` terms with signs v that are
            kept for all steps: unbiased but for the terms left out, of relative size
            Lip(a∇E)^num_terms.
        num_terms: of that series, and of the one that differentiates the inverse.
        tolerance: a row x of the inverse has converged when an iteration moves it by no more than
            this times 1 + ‖x‖; every row stops by itself.
        max_iterations: of the fixed point of a step.
        on_failure: "raise" a `FlowError`, or "warn", when rows did not converge.

    Example:
        >>> flow = EulerFlow(lambda x: 0.5 * x.square().sum(1), step_size=0.5, num_steps=2)
        >>> x, log_prob = flow.sample_with_log_prob(torch.ones(1, 2))
        >>> x
        tensor([[0.2500, 0.2500]])
        >>> torch.allclose(flow.log_prob(x), log_prob, atol=1e-4)
        True

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, (2.20), (2.21);
        Behrmann et al., "Invertible residual networks", 2019; Chen, Behrmann, Duvenaud and
        Jacobsen, "Residual flows for invertible generative modeling", 2019.
    """

    energy: Energy
    step_size: float
    num_steps: int
    _: KW_ONLY
    log_det: LogDetMethod = "exact"
    num_terms: int = 10
    tolerance: float = 1e-6
    max_iterations: int = 100
    on_failure: Literal["raise", "warn"] = "warn"

    def __post_init__(self) -> None:
        for name in ("step_size", "num_steps", "num_terms", "tolerance", "max_iterations"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"EulerFlow: {name} is {getattr(self, name)}; expected a positive number"
                )
        for name, choices in (
            ("log_det", get_args(LogDetMethod)),
            ("on_failure", ("raise", "warn")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"EulerFlow: {name} is {getattr(self, name)!r}; expected one of {choices}"
                )

    def sample(self, x0: Tensor, *, differentiable: bool = False) -> Tensor:
        """x_K of the starts x₀ (2.21).

        Args:
            x0: starts [N, ...], x₀ ~ N(0, I); left unchanged.
            differentiable: build a graph through the steps, to `x0` and the energy's parameters.
        """
        check_flow_input("EulerFlow", x0)
        x = _enter(x0, differentiable)
        with torch.set_grad_enabled(differentiable):
            for _ in range(self.num_steps):
                grad = energy_and_grad(self.energy, x, create_graph=differentiable)[1]
                x = x - self.step_size * grad
        return x

    def inverse(self, x: Tensor) -> InverseResult:
        """The starts x₀ that end in `x`, by fixed-point iterations; not differentiable.

        Raises:
            FlowError: rows did not converge, with `on_failure="raise"`.

        Warns:
            NonConvergenceWarning: rows did not converge, otherwise.
        """
        check_flow_input("EulerFlow", x)
        x = x.detach()
        has_converged = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
        for _ in range(self.num_steps):
            x, found = self._previous(x)
            has_converged &= found
        self._report(has_converged)
        return InverseResult(x, has_converged)

    def sample_with_log_prob(
        self,
        x0: Tensor,
        *,
        differentiable: bool = False,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first_element: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """x_K of the starts and log p(x_K).

        Args:
            x0, differentiable: as for `sample`.
            generator: draws the key where none is given.
            key: int64 [seed, draw] of the signs of the "series" log-determinant.
            first_element: number of elements in the rows of the processes before this one.

        Returns:
            [N, ...] and [N].
        """
        x, log_det = self.sample_with_log_det(
            x0,
            differentiable=differentiable,
            generator=generator,
            key=key,
            first_element=first_element,
        )
        return x, normal_log_prob(_enter(x0, differentiable)) - log_det

    def sample_with_log_det(
        self,
        x0: Tensor,
        *,
        differentiable: bool = False,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first_element: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """x_K of the starts and log|det ∂x_K/∂x₀|, [N]; arguments as `sample_with_log_prob`'s."""
        check_flow_input("EulerFlow", x0)
        noise = self._noise(x0, generator, key, first_element)
        x = _enter(x0, differentiable)
        log_det = x0.new_zeros(x0.shape[0])
        with torch.set_grad_enabled(differentiable):
            for _ in range(self.num_steps):
                change, grad = self._log_det(x, noise, create_graph=differentiable)
                x, log_det = x - self.step_size * grad, log_det + change
        return x, log_det

    def log_prob(
        self,
        x: Tensor,
        *,
        differentiable: bool = False,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first_element: int = 0,
    ) -> Tensor:
        """log p(x) of x = x_K, by the inverse of every step.

        Args:
            x: data [N, ...].
            differentiable: build a graph to `x` and to the energy's parameters; the inverse is then
                differentiated as an implicit function.
            generator, key, first_element: as for `sample_with_log_prob`.

        Returns:
            [N]; rows whose inverse did not converge are reported as by `inverse`.
        """
        x0, log_det = self.inverse_with_log_det(
            x,
            differentiable=differentiable,
            generator=generator,
            key=key,
            first_element=first_element,
        )
        return normal_log_prob(x0) + log_det

    def inverse_with_log_det(
        self,
        x: Tensor,
        *,
        differentiable: bool = False,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first_element: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """The starts x₀ of x = x_K and log|det ∂x₀/∂x_K|, [N]; arguments as `log_prob`'s."""
        check_flow_input("EulerFlow", x)
        noise = self._noise(x, generator, key, first_element)
        x, log_det = _enter(x, differentiable), x.new_zeros(x.shape[0])
        has_converged = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
        with torch.set_grad_enabled(differentiable):
            for _ in range(self.num_steps):
                previous, found = self._previous(x.detach())
                has_converged &= found
                x = self._implicit(previous, x) if differentiable else previous
                log_det = log_det + self._log_det(x, noise, create_graph=differentiable)[0]
        self._report(has_converged)
        return x, -log_det

    def _previous(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The fixed point of z = x + a∇E(z), and which rows [N] have it."""
        z = x.clone()
        has_converged = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
        left = torch.arange(x.shape[0], device=x.device)  # rows still on their way
        for _ in range(self.max_iterations):
            if len(left) == 0:
                break
            following = x[left] + self.step_size * energy_and_grad(self.energy, z[left])[1]
            change = (following - z[left]).flatten(1).norm(dim=1)
            z[left] = following
            left = left[~(change < self.tolerance * (1 + following.flatten(1).norm(dim=1)))]
        return z, has_converged.index_fill(0, left, False)

    def _implicit(self, root: Tensor, x: Tensor) -> Tensor:
        """The fixed point as a differentiable function of `x` and the energy's parameters.

        With r = x + a∇E(z) − z at the root z, one Newton step z + (I − a∇²E(z))⁻¹r has the root's
        value and the derivative of the implicit function.
        """
        z = root.requires_grad_()
        _, grad = energy_and_grad(self.energy, z, create_graph=True)
        residual = x + self.step_size * grad - z
        if self.log_det == "exact":
            jacobian = self._jacobian(grad, z, create_graph=False)
            newton = torch.linalg.solve(jacobian, residual.flatten(1)).reshape(z.shape)
        else:
            newton = term = residual
            for _ in range(self.num_terms):  # Neumann's series of the inverse
                product = hessian_vector_product(grad, z, term, create_graph=True)
                term = self.step_size * product
                newton = newton + term
        return z.detach() + newton

    def _log_det(
        self, x: Tensor, noise: Tensor | None, *, create_graph: bool
    ) -> tuple[Tensor, Tensor]:
        """log|det(I − a∇²E(x))|, [N], and ∇E(x)."""
        with torch.inference_mode(False), torch.enable_grad():
            if not (create_graph and x.requires_grad):
                x = x.clone().detach().requires_grad_()
            _, grad = energy_and_grad(self.energy, x, create_graph=True)
            if noise is None:
                jacobian = self._jacobian(grad, x, create_graph=create_graph)
                log_det = torch.linalg.slogdet(jacobian).logabsdet
            else:
                log_det, term = x.new_zeros(x.shape[0]), noise
                for power in range(1, self.num_terms + 1):
                    product = hessian_vector_product(grad, x, term, create_graph=create_graph)
                    term = self.step_size * product
                    log_det = log_det - (noise * term).flatten(1).sum(1) / power
        return (log_det, grad) if create_graph else (log_det.detach(), grad.detach())

    def _jacobian(self, grad: Tensor, x: Tensor, *, create_graph: bool) -> Tensor:
        """I − a∇²E(x), [N, D, D]."""
        matrix = hessian(grad, x, create_graph=create_graph)
        eye = torch.eye(matrix.shape[1], dtype=x.dtype, device=x.device)
        return eye - self.step_size * matrix

    def _noise(
        self, x: Tensor, generator: Generator | None, key: Tensor | None, first_element: int
    ) -> Tensor | None:
        if self.log_det == "exact":
            return None
        return rademacher(x, random_key(generator, x.device) if key is None else key, first_element)

    def _report(self, has_converged: Tensor) -> None:
        failed = int((~has_converged).sum())
        if not failed:
            return
        message = (
            f"EulerFlow: the inverse of {failed} of {len(has_converged)} rows did not converge; "
            f"step_size={self.step_size:g} times the largest curvature of the energy has to be "
            "below 1"
        )
        if self.on_failure == "raise":
            raise FlowError(message)
        warnings.warn(message, NonConvergenceWarning, stacklevel=3)


def _enter(x: Tensor, differentiable: bool) -> Tensor:
    return x if differentiable else x.detach()
