"""The noise-free sampler x' = −∇E(x) as a continuous normalising flow (Yan 2022, §2.4.3)."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypeVar, cast, get_args

import torch
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.extras import samplers_extra
from gencore.nn.adaptive_steps import steps_to_ends
from gencore.samplers.energy import energy_and_grad
from gencore.samplers.flow_base import EnergyFlow, FlowError, enter, normal_log_prob
from gencore.samplers.hessian import hessian_trace

__all__ = ["GradientFlow", "TraceMethod"]

TraceMethod = Literal["exact", "hutchinson"]

State = TypeVar("State", Tensor, tuple[Tensor, ...])


@dataclass(frozen=True)
class GradientFlow(EnergyFlow):
    """The gradient flow of an energy, from noise at time 0 to samples at time T, with its density.

    From x(0) ~ N(0, I) the flow and the density of its samples are

        x'(t) = −∇E(x(t)),   t ∈ [0, T]                         (2.16), (2.17)
        ∂log p(x(t))/∂t = tr ∇²E(x(t))                          (2.18)
        log p(x(T)) = log N(x(0); 0, I) + ∫₀ᵀ tr ∇²E(x(t)) dt   (2.19)

    so the sampler of an energy-based model without noise is a generative model of its own, whose
    density is not exp(−E)/Z. `log_prob` follows the flow backward from the data.

    The solver chooses its steps for the whole batch, so a row depends on the others within the
    tolerances. The random part of the "hutchinson" trace is drawn once and kept for the whole
    solve, as an adaptive solver needs; the log-density is then unbiased, up to the tolerances.
    An energy that grows faster than ‖x‖² brings points from infinity in a finite time: rows that
    the flow backward takes there, where the solver gives up, have the density 0.

    Args:
        energy: maps [N, ...] to [N], each row by itself.
        time: T > 0, the same in training and in use.
        solver: a method of torchdiffeq.odeint, "dopri5" or another.
        rtol: relative tolerance of an adaptive solver.
        atol: absolute tolerance of it.
        trace: "exact", by one Hessian-vector product for each element of a row, or "hutchinson",
            by one.
        adjoint: where gradients are asked for, solve the adjoint equation backward instead of
            keeping all steps: constant memory, gradients right to the tolerances. The energy then
            has to be an `nn.Module`.
        hold_norms: whether a spectral norm in training stands still within a call, so that the
            whole flow follows one energy.

    Raises:
        ValueError: for a time or tolerance that is not positive, or an unknown trace.
        ModuleNotFoundError: on use, where torchdiffeq is not installed.

    Example:
        >>> flow = GradientFlow(lambda x: 0.5 * x.square().sum(1), time=0.5)
        >>> x, log_prob = flow.sample_with_log_prob(torch.ones(1, 2))
        >>> torch.allclose(x, torch.full((1, 2), 0.5).exp().reciprocal(), atol=1e-4)
        True
        >>> torch.allclose(flow.log_prob(x), log_prob, atol=1e-4)
        True

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, §2.4.3, whose
        equation numbers are used; Chen et al., "Neural ordinary differential equations", 2018;
        Grathwohl et al., "FFJORD", 2019, for the trace's estimate.
    """

    time: float
    _: KW_ONLY
    solver: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    trace: TraceMethod = "exact"
    adjoint: bool = False

    def __post_init__(self) -> None:
        self._check_positive("time", "rtol", "atol")
        check_choice("GradientFlow", "trace", self.trace, get_args(TraceMethod))
        if self.adjoint and not isinstance(self.energy, nn.Module):
            raise ValueError(
                "GradientFlow: adjoint=True needs an energy that is an nn.Module, whose parameters "
                f"it can list; got a {type(self.energy).__name__}"
            )

    @property
    def _has_noise(self) -> bool:
        return self.trace == "hutchinson"

    def inverse(self, x: Tensor, *, differentiable: bool = False) -> Tensor:
        """The starts x(0) whose flow ends in x(T) = `x`; arguments and errors as for `sample`."""
        self._check_input(x)
        with self._held():
            return self._positions(x, self.time, 0.0, differentiable)

    def _sample(self, x0: Tensor, differentiable: bool) -> Tensor:
        """x(T) of (2.17)."""
        return self._positions(x0, 0.0, self.time, differentiable)

    def _sample_with_log_det(
        self, x0: Tensor, noise: Tensor | None, differentiable: bool
    ) -> tuple[Tensor, Tensor]:
        x, integral = self._densities(x0, 0.0, self.time, differentiable, noise)
        return x, -integral

    def _inverse_with_log_det(
        self, x: Tensor, noise: Tensor | None, differentiable: bool
    ) -> tuple[Tensor, Tensor]:
        return self._densities(x, self.time, 0.0, differentiable, noise)

    def _log_prob(self, x: Tensor, noise: Tensor | None, differentiable: bool) -> Tensor:
        """log p(x), by halves of the batch where the solver gives up, until it does in a row."""
        try:
            x0, integral = self._densities(x, self.time, 0.0, differentiable, noise)
        except FlowError:
            if len(x) == 1:
                if not x.isfinite().all():
                    return torch.full_like(x.detach().flatten(1)[:, 0], torch.nan)
                if (
                    not energy_and_grad(self.energy, x.detach(), owner="GradientFlow")[1]
                    .isfinite()
                    .all()
                ):
                    raise
                return torch.full_like(x.detach().flatten(1)[:, 0], -torch.inf)
            size = (len(x) + 1) // 2
            parts = zip(
                x.split(size), [None] * 2 if noise is None else noise.split(size), strict=True
            )
            return torch.cat([self._log_prob(*part, differentiable) for part in parts])
        return normal_log_prob(x0) + integral

    def _positions(self, x: Tensor, start: float, end: float, differentiable: bool) -> Tensor:
        def velocity(_: Tensor, position: Tensor) -> Tensor:
            create_graph = differentiable and torch.is_grad_enabled()
            return -energy_and_grad(
                self.energy, position, create_graph=create_graph, owner="GradientFlow"
            )[1]

        return self._solve(velocity, enter(x, differentiable), start, end, differentiable)

    def _densities(
        self,
        x: Tensor,
        start: float,
        end: float,
        differentiable: bool,
        noise: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """x(end), and the integral of the trace from 0 to T."""

        def velocity(_: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            create_graph = differentiable and torch.is_grad_enabled()
            with torch.inference_mode(False), torch.enable_grad():
                position = state[0] if create_graph else state[0].clone().detach()
                if not position.requires_grad:
                    position.requires_grad_()
                _, grad = energy_and_grad(
                    self.energy, position, create_graph=True, owner="GradientFlow"
                )
                trace = hessian_trace(grad, position, noise=noise, create_graph=create_graph)
            return (-grad, trace) if create_graph else (-grad.detach(), trace.detach())

        state = (enter(x, differentiable), x.new_zeros(x.shape[0]))
        position, integral = self._solve(velocity, state, start, end, differentiable)
        return position, integral if end > start else -integral

    def _solve(
        self,
        velocity: Callable[[Tensor, State], State],
        state: State,
        start: float,
        end: float,
        differentiable: bool,
    ) -> State:
        with samplers_extra("GradientFlow"):
            from torchdiffeq import odeint, odeint_adjoint

        first = state[0] if isinstance(state, tuple) else state
        if first.numel() == 0:
            return state
        times = torch.tensor([start, end], dtype=first.dtype, device=first.device)
        options: dict[str, Any] = {"options": steps_to_ends(self.solver, self.time, first)}
        solve = odeint
        if differentiable and self.adjoint:
            assert isinstance(self.energy, nn.Module)
            solve, options["adjoint_params"] = odeint_adjoint, tuple(self.energy.parameters())
        try:
            with torch.set_grad_enabled(differentiable):
                path = solve(
                    velocity, state, times,
                    rtol=self.rtol, atol=self.atol, method=self.solver, **options,
                )  # fmt: skip
        except AssertionError as error:  # how torchdiffeq reports steps that became too small
            raise FlowError(
                f"GradientFlow: {self.solver} cannot follow the flow to rtol={self.rtol:g}, "
                f"atol={self.atol:g} ({error}); the energy is not finite on the way, or too steep "
                f"for time={self.time:g}"
            ) from error
        ends = tuple(part[-1] for part in path) if isinstance(path, tuple) else path[-1]
        return cast(State, ends)
