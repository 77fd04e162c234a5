"""Every stochastic gradient sampler whose noise is Gaussian, from two matrices."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gencore.ops import philox_normal
from gencore.ops._support.checks import number
from gencore.samplers.chains import rows
from gencore.samplers.energy import Energy
from gencore.samplers.stochastic_gradient import (
    StepSize,
    StochasticGradientSampler,
    StochasticGradientState,
)

__all__ = ["CompleteRecipe", "MatrixField"]

MatrixField = Tensor | Callable[[Tensor], Tensor]
"""A constant matrix [D, D], or `field(z[N, ...]) -> [N, D, D]`, each row by itself."""


@dataclass(frozen=True)
class CompleteRecipe(StochasticGradientSampler):
    """The complete recipe of stochastic gradient MCMC: any diffusion that keeps exp(−H).

    With a positive semidefinite diffusion D(z) and a skew-symmetric curl Q(z), the process

        dz = (−[D + Q]∇H + Γ) dt + √(2D) dW,    Γ_i = Σ_j ∂(D_ij + Q_ij)/∂z_j

    leaves exp(−H(z)) invariant, and every continuous Markov process that does so has this form.
    Step t with an estimate ĝ of ∇H and fresh ξ ~ N(0, I) is Euler's,

        z' = z + ε_t (−[D + Q] ĝ + Γ) + √(2ε_t) D^½ ξ

    and approaches the process as ε_t → 0. Known samplers are choices of H, D and Q:

    - `SGLD`: H = E(x), D = I, Q = 0; the same steps.
    - `SGRLD`: H = E(x), D = diag(G(x)), Q = 0; the same steps.
    - SGHMC: z = (x, p), H = E(x) + p²/2m, D = diag(0, C), Q = [[0, −I], [I, 0]]. `SGHMC` moves x by
      the new momentum instead of the old one, which differs by O(ε²) a step.

    A matrix takes D² numbers a chain, and Γ of one that depends on z takes D³ for a moment: larger
    problems want one of those samplers.

    Args:
        energy: H, maps [N, ...] to [N], each row by itself, perhaps an unbiased estimate. Auxiliary
            variables such as momenta are elements of z.
        step_size: ε_t: a number, one per chain, or a schedule such as `polynomial_decay`.
        diffusion: D, for rows of D elements in their flattened order.
        curl: Q, likewise; None for 0.

    Raises:
        TypeError, ValueError: on `init`, for matrices of another shape or dtype, a diffusion that
            is not symmetric or has a negative eigenvalue, or a curl that is not skew-symmetric.

    Example:
        >>> rotation = torch.tensor([[0.0, -1.0], [1.0, 0.0]])  # stirs, and keeps the density
        >>> sampler = CompleteRecipe(
        ...     lambda z: 0.5 * z.square().sum(1), 0.02, torch.eye(2), rotation)
        >>> generator = torch.Generator().manual_seed(0)
        >>> z = sampler.sample(torch.zeros(4000, 2), 200, generator=generator)
        >>> round(z.var().item(), 1)
        1.0

    References:
        Ma, Chen and Fox, "A complete recipe for stochastic gradient MCMC", NeurIPS 2015, eq. (2),
        (3) and (5).
    """

    energy: Energy
    step_size: StepSize
    diffusion: MatrixField
    curl: MatrixField | None = None

    def init(self, x: Tensor, **draws: Any) -> StochasticGradientState:
        """The state of chains that start at `x` [N, ...], where the matrices are checked."""
        state = super().init(x, **draws)
        if x.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"CompleteRecipe.init: x is {x.dtype}; expected float32 or float64")
        if x.numel() == 0:
            return state
        for name, field, sign in (("diffusion", self.diffusion, 1), ("curl", self.curl, -1)):
            matrix = _at(name, field, x)
            tolerance = 10 * torch.finfo(x.dtype).eps * matrix.abs().max() * matrix.shape[-1]
            kind = "symmetric" if sign == 1 else "skew-symmetric"
            if not bool((matrix - sign * matrix.mT).abs().max() <= tolerance):
                raise ValueError(f"CompleteRecipe.init: {name} is not a {kind} matrix at x")
            if sign == 1 and not bool(torch.linalg.eigvalsh(matrix).min() >= -tolerance):
                raise ValueError(f"CompleteRecipe.init: {name} has a negative eigenvalue at x")
        return state

    def drift(self, z: Tensor, grad: Tensor) -> Tensor:
        """−[D + Q]∇H + Γ at the positions `z` [N, ...] with the gradients `grad`, [N, ...].

        Example:
            >>> sampler = CompleteRecipe(
            ...     lambda z: 0.5 * z.square().sum(1), 0.1, lambda z: z.square()[:, :, None])
            >>> z = torch.tensor([[3.0]])
            >>> sampler.drift(z, z)  # −z²·z + 2z
            tensor([[-21.]])
        """
        return self._drift(z, grad, _at("diffusion", self.diffusion, z))

    def _drift(self, z: Tensor, grad: Tensor, diffusion: Tensor) -> Tensor:
        matrix = diffusion + _at("curl", self.curl, z)
        drift = -(matrix @ rows(grad).unsqueeze(2)).squeeze(2)
        for name, field in (("diffusion", self.diffusion), ("curl", self.curl)):
            if callable(field) and not isinstance(field, Tensor):
                drift = drift + _divergence(name, field, z)
        return drift.reshape(z.shape)

    def _move(
        self, state: StochasticGradientState, grad: Tensor, step_size: float | Tensor,
        in_place: bool, **draws: Any,
    ) -> tuple[Tensor, None]:  # fmt: skip
        z = state.position
        if isinstance(step_size, Tensor) and step_size.dim() > 0:
            step = step_size.to(z).reshape(-1, *(1,) * (z.dim() - 1))
        else:
            step = z.new_tensor(number("CompleteRecipe", "step_size", step_size))
        diffusion = _at("diffusion", self.diffusion, z)
        noise = philox_normal(z.shape, dtype=z.dtype, **draws)
        spread = (_root(diffusion) @ rows(noise).unsqueeze(2)).reshape(z.shape)
        return z + step * self._drift(z, grad, diffusion) + (2 * step).sqrt() * spread, None

    def _needs_host(self) -> str | None:
        return "its roots of matrices wait for the device"


def _at(name: str, field: MatrixField | None, z: Tensor) -> Tensor:
    """The matrices of a field at `z`, [N, D, D] or [D, D]."""
    size = z.shape[1:].numel()
    if field is None:
        return z.new_zeros(size, size)
    matrix = field if isinstance(field, Tensor) else field(z)
    if not isinstance(matrix, Tensor):
        raise TypeError(f"CompleteRecipe: {name} is a {type(matrix).__name__}; expected a tensor")
    expected = (size, size) if isinstance(field, Tensor) else (len(z), size, size)
    if matrix.shape != expected or matrix.dtype != z.dtype or matrix.device != z.device:
        raise ValueError(
            f"CompleteRecipe: {name} is {matrix.dtype} of shape {list(matrix.shape)} on "
            f"{matrix.device}; expected {z.dtype} of {list(expected)} on {z.device}"
        )
    return matrix


def _divergence(name: str, field: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Σ_j ∂M_ij/∂z_j of each row, [N, D]."""

    def matrix(row: Tensor) -> Tensor:
        return _at(name, field, row.reshape(1, *z.shape[1:]))[0]

    jacobian: Tensor = torch.vmap(torch.func.jacrev(matrix))(rows(z))  # [N, i, j, k]
    return torch.einsum("nijj->ni", jacobian)


def _root(matrix: Tensor) -> Tensor:
    """The symmetric square root of positive semidefinite matrices."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt().unsqueeze(-2)) @ vectors.mT
