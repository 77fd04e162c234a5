"""Gradient descent from noise as a residual flow (Yan 2022, §2.4.3; Chen et al. 2019)."""

import warnings
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor

from gencore.choices import check_choice
from gencore.ops import philox_normal
from gencore.samplers.energy import energy_and_grad
from gencore.samplers.euler_inverse import like_rows, previous_point, row_dot, row_norm
from gencore.samplers.flow_base import EnergyFlow, FlowError, enter, normal_log_prob
from gencore.samplers.hessian import hessian, hessian_vector_product

__all__ = ["EulerFlow", "InverseResult", "LogDetMethod", "NonConvergenceWarning"]

LogDetMethod = Literal["exact", "series"]

# A step is looked at for being a contraction in so many starts, by so many power iterations.
_PROBES = 64
_POWER_ITERATIONS = 8

# The inverse is differentiable as often as this.
_ORDER = 3


class NonConvergenceWarning(RuntimeWarning):
    """Some rows of an inverse did not converge, or need not be unique; they are returned as they
    are."""


class InverseResult(NamedTuple):
    """Where the flow came from."""

    position: Tensor
    """[N, ...]: the starts x₀."""
    has_converged: Tensor
    """[N], bool: whether the fixed point of every step was found: a start that ends there, and the
    only one where the steps are contractions."""


@dataclass(frozen=True)
class EulerFlow(EnergyFlow):
    """K steps of gradient descent from noise, a residual flow with its density.

    From x₀ ~ N(0, I), with the step size a (η/2 in the thesis),

        xₜ₊₁ = xₜ − a∇E(xₜ)                                          (2.20)
        x_K = (I − a∇E)ᴷ(x₀)                                         (2.21)
        log p(x_K) = log N(x₀; 0, I) − Σₜ log|det(I − a∇²E(xₜ))|

    It is Euler's method for the `GradientFlow` of time T = K·a, whose samples and densities it
    approaches as O(a). Where a∇E is a contraction, Lip(a∇E) < 1, the map is invertible and the
    inverse of a step is the fixed point of x = xₜ₊₁ + a∇E(x). Elsewhere the iteration may not
    converge, and two starts may share an end, whose density is then more than what is returned:
    `log_prob` looks at 64 starts of N(0, I), and reports those that steps do not contract.

    The closer Lip(a∇E) is to 1, the less an iteration gains: Newton's method then takes the rows
    that are not within the tolerance.

    Args:
        energy: maps [N, ...] to [N], each row by itself.
        step_size: a > 0.
        num_steps: K.
        log_det: "exact" from the whole Jacobian, D Hessian-vector products and an LU decomposition
            a step, or "series", −Σₖ aᵏ vᵀ(∇²E)ᵏv / k to `num_terms` terms with signs v that are
            kept for all steps: unbiased but for the terms left out, of relative size
            Lip(a∇E)^num_terms.
        num_terms: number of terms of that series, and of the one that differentiates the inverse.
        tolerance: a row x of the inverse has converged when it is within this times 1 + ‖x‖ of the
            fixed point, or as near as the dtype allows; every row stops by itself.
        max_iterations: number of fixed-point iterations of a step before Newton's method.
        on_failure: "raise" a `FlowError`, or "warn", when rows did not converge or a density found
            the steps to be no contractions.
        hold_norms: whether a spectral norm in training stands still within a call, so that all
            steps follow one energy.

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

    step_size: float
    num_steps: int
    _: KW_ONLY
    log_det: LogDetMethod = "exact"
    num_terms: int = 10
    tolerance: float = 1e-6
    max_iterations: int = 100
    on_failure: Literal["raise", "warn"] = "warn"

    def __post_init__(self) -> None:
        self._check_positive("step_size", "num_steps", "num_terms", "tolerance", "max_iterations")
        check_choice("EulerFlow", "log_det", self.log_det, get_args(LogDetMethod))
        check_choice("EulerFlow", "on_failure", self.on_failure, ("raise", "warn"))

    @property
    def _has_noise(self) -> bool:
        return self.log_det == "series"

    def inverse(self, x: Tensor) -> InverseResult:
        """The starts x₀ that end in `x`, by fixed-point iterations; not differentiable.

        Raises:
            FlowError: rows did not converge, with `on_failure="raise"`.

        Warns:
            NonConvergenceWarning: rows did not converge, otherwise.
        """
        self._check_input(x)
        x = x.detach()
        has_converged = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
        with self._held():
            for _ in range(self.num_steps):
                x, found = self._previous(x)
                has_converged &= found
        self._report(self._not_converged(has_converged))
        return InverseResult(x, has_converged)

    def log_prob_and_convergence(
        self, x: Tensor, *, differentiable: bool = False, generator: Generator | None = None,
        key: Tensor | None = None, first: int = 0, first_element: int | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """log p(x), [N], and whether each row's start was found, bool [N]; otherwise as
        `log_prob`."""
        noise = self._noise(x, generator, key, first, first_element)
        with self._held():
            log_prob, has_converged, failures = self._density(x, noise, differentiable)
        self._report(failures)
        return log_prob, has_converged

    def _sample(self, x0: Tensor, differentiable: bool) -> Tensor:
        """x_K of (2.21)."""
        x = enter(x0, differentiable)
        with torch.set_grad_enabled(differentiable):
            for _ in range(self.num_steps):
                grad = energy_and_grad(
                    self.energy, x, create_graph=differentiable, owner="EulerFlow"
                )[1]
                x = x - self.step_size * grad
        return x

    def _sample_with_log_det(
        self, x0: Tensor, noise: Tensor | None, differentiable: bool
    ) -> tuple[Tensor, Tensor]:
        x = enter(x0, differentiable)
        log_det = x0.new_zeros(x0.shape[0])
        with torch.set_grad_enabled(differentiable):
            for _ in range(self.num_steps):
                change, grad = self._log_det(x, noise, create_graph=differentiable)
                x, log_det = x - self.step_size * grad, log_det + change
        return x, log_det

    def _inverse_with_log_det(
        self, x: Tensor, noise: Tensor | None, differentiable: bool
    ) -> tuple[Tensor, Tensor]:
        x0, log_det, has_converged = self._back(x, noise, differentiable)
        self._report(self._not_converged(has_converged), stacklevel=4)
        return x0, log_det

    def _log_prob(self, x: Tensor, noise: Tensor | None, differentiable: bool) -> Tensor:
        log_prob, _, failures = self._density(x, noise, differentiable)
        self._report(failures, stacklevel=4)
        return log_prob

    def _density(
        self, x: Tensor, noise: Tensor | None, differentiable: bool
    ) -> tuple[Tensor, Tensor, list[str]]:
        """log p(x), which rows converged, and what is wrong."""
        x0, log_det, has_converged = self._back(x, noise, differentiable)
        failures = [*self._not_converged(has_converged), *self._not_contractive(x)]
        return normal_log_prob(x0) + log_det, has_converged, failures

    def _back(
        self, x: Tensor, noise: Tensor | None, differentiable: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The starts, log|det ∂x₀/∂x_K|, and which rows converged."""
        x, log_det = enter(x, differentiable), x.new_zeros(x.shape[0])
        has_converged = torch.ones(x.shape[0], dtype=torch.bool, device=x.device)
        with torch.set_grad_enabled(differentiable):
            for _ in range(self.num_steps):
                previous, found = self._previous(x.detach())
                has_converged &= found
                x = self._implicit(previous, x) if differentiable else previous
                log_det = log_det + self._log_det(x, noise, create_graph=differentiable)[0]
        return x, -log_det, has_converged

    def _previous(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return previous_point(
            self.energy, x, self.step_size,
            tolerance=self.tolerance, max_iterations=self.max_iterations,
        )  # fmt: skip

    def _implicit(self, root: Tensor, x: Tensor) -> Tensor:
        """The fixed point as a differentiable function of `x` and the energy's parameters.

        With r(z) = x + a∇E(z) − z and the Jacobian I − a∇²E at the root, which has no graph, each
        step z + (I − a∇²E)⁻¹r(z) from the constant root makes the derivatives of one more order
        those of the implicit function.
        """
        at = root.clone().requires_grad_()
        with torch.enable_grad():
            _, grad = energy_and_grad(self.energy, at, create_graph=True, owner="EulerFlow")
        if self.log_det == "exact":
            factors = torch.linalg.lu_factor(self._jacobian(grad, at, create_graph=False))

            def solve(residual: Tensor) -> Tensor:
                rows = residual.flatten(1).unsqueeze(2)
                return torch.linalg.lu_solve(*factors, rows).reshape(residual.shape)

        else:

            def solve(residual: Tensor) -> Tensor:
                total = term = residual
                for _ in range(self.num_terms):  # Neumann's series of the inverse
                    term = self.step_size * hessian_vector_product(grad, at, term)
                    total = total + term
                return total

        z = root
        for _ in range(_ORDER):
            _, grad_z = energy_and_grad(self.energy, z, create_graph=True, owner="EulerFlow")
            z = z + _Symmetric.apply(x + self.step_size * grad_z - z, solve)
        return z

    def _log_det(
        self, x: Tensor, noise: Tensor | None, *, create_graph: bool
    ) -> tuple[Tensor, Tensor]:
        """log|det(I − a∇²E(x))|, [N], and ∇E(x)."""
        with torch.inference_mode(False), torch.enable_grad():
            if not (create_graph and x.requires_grad):
                x = x.clone().detach().requires_grad_()
            _, grad = energy_and_grad(self.energy, x, create_graph=True, owner="EulerFlow")
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

    def _not_converged(self, has_converged: Tensor) -> list[str]:
        failed = int((~has_converged).sum())
        if not failed:
            return []
        return [
            f"the inverse of {failed} of {len(has_converged)} rows did not converge, as where "
            f"step_size={self.step_size:g} times the largest curvature of the energy is 1 or more; "
            f"lower step_size, or raise tolerance={self.tolerance:g} if the energy is that inexact"
        ]

    def _not_contractive(self, like: Tensor) -> list[str]:
        """Whether a∇²E has an eigenvalue of 1 or more in starts of N(0, I) or where they go.

        Rayleigh's quotients of the power iteration for a∇²E + I are never above the largest
        eigenvalue: what is reported is certain, what is not reported is not.
        """
        if like.numel() == 0:
            return []
        with torch.inference_mode(False), torch.enable_grad():
            key = torch.zeros(2, dtype=torch.int64, device=like.device)
            x = philox_normal((_PROBES, *like.shape[1:]), key, dtype=like.dtype)
            largest = torch.full_like(x.flatten(1)[:, 0], -torch.inf)
            for _ in range(self.num_steps):
                x = x.detach().requires_grad_()
                _, grad = energy_and_grad(self.energy, x, create_graph=True, owner="EulerFlow")
                vector = torch.ones_like(x) + 0.1 * x.detach()
                for _ in range(_POWER_ITERATIONS):
                    vector = vector / like_rows(row_norm(vector), x)
                    product = self.step_size * hessian_vector_product(grad, x, vector)
                    largest = torch.fmax(largest, row_dot(vector, product))
                    vector = product + vector
                x = x - self.step_size * grad
        failed = int((largest >= 1).sum())
        if not failed:
            return []
        return [
            f"from {failed} of {_PROBES} starts of N(0, I) a step is no contraction: "
            f"step_size={self.step_size:g} times the curvature of the energy is up to "
            f"{largest.max().item():.3g}, so that several starts may share an end and "
            "log-densities may be too low; lower step_size until it is below 1"
        ]

    def _report(self, failures: list[str], stacklevel: int = 3) -> None:
        if not failures:
            return
        message = "EulerFlow: " + "; and ".join(failures)
        if self.on_failure == "raise":
            raise FlowError(message)
        warnings.warn(message, NonConvergenceWarning, stacklevel=stacklevel)


class _Symmetric(torch.autograd.Function):
    """A constant symmetric linear map of each row, its own derivative to any order."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, linear_map: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.linear_map = linear_map
        return linear_map(rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Symmetric.apply(grad, ctx.linear_map), None
