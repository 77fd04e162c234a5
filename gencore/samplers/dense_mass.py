"""A dense mass matrix, as a change of variables that makes it one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gencore.ops._support.checks import accumulation_dtype
from gencore.samplers.chains import chain_size, rows
from gencore.samplers.energy import Energy, energies, energy_and_grad

__all__ = ["DenseMass", "WhitenedEnergy"]


@dataclass(frozen=True, eq=False)
class DenseMass:
    """A dense inverse mass matrix Σ = L Lᵀ, best the covariance of the density.

    `HMC`, `NUTS` and `MALA` take it as their `inverse_mass`. Their transitions then move y from 0
    on the energy E(x + L y), with unit mass, which is what they would do with x and Σ: momenta are
    p = L⁻ᵀ r of r ~ N(0, I), x drifts by ε Σ p = ε L r, and a trajectory turns where
    (y⁺ − y⁻) · r = (x⁺ − x⁻) · p does. Beside its gradient a leapfrog step costs two products with
    L. `warm_up` with `dense_mass=True` finds it.

    Args:
        factor: L [D, D], lower triangular with a positive diagonal, for chains of D elements.

    Raises:
        ValueError: unless it is that.

    Example:
        >>> from gencore.samplers import HMC
        >>> covariance = torch.tensor([[1.0, 0.99], [0.99, 1.0]])
        >>> precision = covariance.inverse()
        >>> sampler = HMC(
        ...     lambda x: 0.5 * ((x @ precision) * x).sum(1), step_size=0.3, num_leapfrog=5,
        ...     inverse_mass=DenseMass.of(covariance),
        ... )
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = sampler.sample(torch.zeros(4000, 2), 5, generator=generator)
        >>> round(x.T.cov()[0, 1].item(), 1)
        1.0

    References:
        Neal, "MCMC using Hamiltonian dynamics", 2011, §5.4.1.
    """

    factor: Tensor

    def __post_init__(self) -> None:
        factor = self.factor
        _check_square("DenseMass: factor", factor)
        if not bool((factor.diagonal() > 0).all()) or not torch.equal(factor, factor.tril()):
            raise ValueError(
                "DenseMass: factor is not lower triangular with a positive diagonal; make it with "
                "DenseMass.of(covariance)"
            )

    @classmethod
    def of(cls, covariance: Tensor) -> "DenseMass":
        """From Σ [D, D], symmetric and positive definite.

        Raises:
            ValueError: unless it is that.
        """
        _check_square("DenseMass.of: covariance", covariance)
        matrix = covariance.double()
        scale = matrix.diagonal().abs().sqrt()  # of float32, a covariance is symmetric to 7 digits
        is_symmetric = ((matrix - matrix.T).abs() <= 1e-5 * scale * scale[:, None]).all()
        factor, info = torch.linalg.cholesky_ex(matrix)
        if not bool(is_symmetric) or int(info) != 0:
            raise ValueError(
                "DenseMass.of: covariance is not symmetric and positive definite, as an inverse "
                "mass matrix has to be"
            )
        return cls(factor.to(covariance.dtype))

    @property
    def covariance(self) -> Tensor:
        """Σ."""
        return self.factor @ self.factor.T

    def factor_for(self, name: str, x: Tensor) -> Tensor:
        """L for the chains x [N, ...], in the dtype that their sums have.

        Raises:
            ValueError: where it does not fit, on behalf of `name`.
        """
        size = chain_size(x)
        if len(self.factor) != size or self.factor.device != x.device:
            raise ValueError(
                f"{name}: inverse_mass is a DenseMass of {len(self.factor)} elements on "
                f"{self.factor.device}, for chains of {size} on {x.device}"
            )
        return self.factor.to(accumulation_dtype(x))


class WhitenedEnergy:
    """E(x₀ + L y) as a function of y [N, ...], whose gradient is Lᵀ ∇E.

    Args:
        owner: the name that errors begin with.
        energy: E.
        origin: x₀ [N, ...].
        factor: L [D, D].
    """

    def __init__(self, owner: str, energy: Energy, origin: Tensor, factor: Tensor) -> None:
        self.owner = owner
        self.energy = energy
        self.origin = origin
        self.factor = factor

    def __call__(self, y: Tensor) -> Tensor:
        return energies(self.owner, self.energy, self.position(y))

    def energy_and_grad(self, y: Tensor) -> tuple[Tensor, Tensor]:
        energy, grad = energy_and_grad(self.energy, self.position(y), owner=self.owner)
        return energy, self.whitened(grad)

    def position(self, y: Tensor) -> Tensor:
        """x = x₀ + L y."""
        wide = rows(self.origin).to(self.factor) + rows(y).to(self.factor) @ self.factor.T
        return wide.to(y.dtype).reshape(y.shape)

    def whitened(self, grad: Tensor) -> Tensor:
        """Lᵀ g."""
        return (rows(grad).to(self.factor) @ self.factor).to(grad.dtype).reshape(grad.shape)

    def unwhitened(self, grad: Tensor) -> Tensor:
        """L⁻ᵀ g."""
        wide = torch.linalg.solve_triangular(
            self.factor, rows(grad).to(self.factor), upper=False, left=False
        )
        return wide.to(grad.dtype).reshape(grad.shape).contiguous()  # it comes by columns


def _check_square(name: str, matrix: Tensor) -> None:
    if not isinstance(matrix, Tensor) or matrix.dim() != 2 or len(matrix) != matrix.shape[1]:
        given = list(matrix.shape) if isinstance(matrix, Tensor) else type(matrix).__name__
        raise ValueError(f"{name} is {given}; expected a matrix [D, D]")
    if not matrix.is_floating_point() or not bool(matrix.isfinite().all()):
        raise ValueError(f"{name} is not of finite floating-point numbers")
