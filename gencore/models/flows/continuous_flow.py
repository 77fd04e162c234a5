"""The continuous flow of a free vector field (FFJORD, Grathwohl et al. 2019)."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Generator, Tensor, nn

from gencore.models.flows.flow import Base, Flow
from gencore.nn.context import check_context, weight_of
from gencore.nn.networks.velocity_mlp import VelocityMLP
from gencore.nn.transforms.continuous import (
    AdaptiveSolver,
    ContinuousTransform,
    FixedStepSolver,
    TraceEstimate,
)
from gencore.sizes import check_positive

__all__ = ["ContinuousFlow", "RegularisedLogProb"]


class RegularisedLogProb(NamedTuple):
    """What :meth:`ContinuousFlow.regularised_log_prob` returns, [N] each."""

    log_prob: Tensor
    """log p(x | c), or an unbiased estimate of it."""
    kinetic_energy: Tensor
    """∫‖f‖² dt over the path from x to its latents."""
    jacobian_norm: Tensor
    """∫‖∂f/∂x‖² dt over it, or an unbiased estimate of it."""


class ContinuousFlow(Flow):
    r"""The flow of a vector field from data to latents over the time T, as in FFJORD.

    .. math:: \frac{dx}{dt} = f(t, x; c), \quad z = x(T), \qquad
              \log p(x \mid c) = \log p_0(z) + \int_0^T \operatorname{tr}
              \frac{\partial f}{\partial x}\,dt

    No structure of f is needed, such as couplings or triangles. The price is a solver of
    differential equations in both directions, some tens of evaluations of f. Straight paths take
    fewer: :meth:`regularised_log_prob` says how far from straight they are, to be made smaller in
    training (RNODE). f starts as zero, and the flow as the identity.

    Args:
        features: D, the numbers in a row of the data.
        hidden_widths: of f, a :class:`~gencore.nn.VelocityMLP`.
        activation: of f, as of :class:`~gencore.nn.MLP`; a smooth one.
        field: f(t, x, context) of your own in its place, as
            :class:`~gencore.nn.ContinuousTransform` takes it.
        time: T > 0.
        trace: "exact", at the price of D products with the Jacobian an evaluation, or Hutchinson's
            estimate by one, with "rademacher" or "gaussian" noise.
        solver: of torchdiffeq, with adaptive or fixed steps.
        rtol: relative tolerance of an adaptive solver.
        atol: absolute tolerance of it.
        num_steps: of a solver of fixed steps.
        adjoint: solve the adjoint equation for gradients, in memory that does not grow with the
            number of steps.
        context_size: C of contexts [N, C]; 0 for none.
        base: of the latents, as for :class:`Flow`.

    Raises:
        ValueError, TypeError, RuntimeError: as :class:`~gencore.nn.ContinuousTransform`.
        ModuleNotFoundError: on use, where torchdiffeq is not installed.

    References:
        Grathwohl, Chen, Bettencourt, Sutskever and Duvenaud, "FFJORD: free-form continuous dynamics
        for scalable reversible generative models", 2019; Finlay, Jacobsen, Nurbekyan and Oberman,
        "How to train your neural ODE: the world of Jacobian and kinetic regularization", 2020.

    Example:
        >>> import torch
        >>> from gencore.models import ContinuousFlow
        >>> flow = ContinuousFlow(2, hidden_widths=[16])
        >>> flow().log_prob(torch.zeros(5, 2)).shape
        torch.Size([5])
        >>> found = flow.regularised_log_prob(torch.randn(5, 2))
        >>> loss = -found.log_prob + 0.01 * (found.kinetic_energy + found.jacobian_norm)
        >>> loss.mean().backward()
    """

    transform: ContinuousTransform

    def __init__(
        self,
        features: int,
        *,
        hidden_widths: Sequence[int] = (64, 64),
        activation: str = "silu",
        field: nn.Module | None = None,
        time: float = 1.0,
        trace: TraceEstimate = "exact",
        solver: AdaptiveSolver | FixedStepSolver = "dopri5",
        rtol: float = 1e-5,
        atol: float = 1e-5,
        num_steps: int | None = None,
        adjoint: bool = False,
        context_size: int = 0,
        base: Base = "normal",
    ) -> None:
        check_positive("ContinuousFlow", features=features)
        if field is None:
            field = VelocityMLP(
                features, hidden_widths, activation=activation, context_size=context_size
            )
        transform = ContinuousTransform(
            field, time=time, trace=trace, solver=solver, rtol=rtol, atol=atol,
            num_steps=num_steps, adjoint=adjoint,
        )  # fmt: skip
        super().__init__(transform, [features], base=base, context_size=context_size)

    def regularised_log_prob(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> RegularisedLogProb:
        """log p(x | context) with the two measures of the path that RNODE's loss adds to it,

            L = E[−log p(x) + λ_K ∫‖f‖² dt + λ_J ∫‖∂f/∂x‖² dt]

        with weights of a loss per dimension divided by D.

        Args:
            x: data [N, D].
            context: [N, C].
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset] of the noise of a trace that is estimated.
            first: number of rows before these, of other processes.
        """
        self._check_data(x)
        check_context("ContinuousFlow", context, x.shape[0], self.context_size, weight_of(self))
        path = self.transform.follow(x, context, generator=generator, key=key, first=first)
        latents = self._latents(context, x.shape[0])
        log_prob = self._latents_log_prob(latents, path.end, path.log_det)
        return RegularisedLogProb(log_prob, path.kinetic_energy, path.jacobian_norm)

    def _invert(self, z: Tensor, context: Tensor | None) -> Tensor:
        # Without the Jacobian, which samples alone do not need.
        return self.transform.transport(z, context, inverse=True)

    def _invert_with_log_det(
        self, z: Tensor, context: Tensor | None, key: Tensor, first: int
    ) -> tuple[Tensor, Tensor]:
        return self.transform.inverse(z, context, key=key, first=first)
