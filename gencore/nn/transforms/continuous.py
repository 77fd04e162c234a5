"""Continuous transforms: the flow of a vector field over time (FFJORD, Grathwohl et al. 2019)."""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar, cast, get_args

import torch
from torch import Generator, Tensor, nn

from gencore.choices import check_choice
from gencore.extras import flows_extra
from gencore.nn.adaptive_steps import AdaptiveSolver, steps_to_ends
from gencore.nn.jacobian import jacobian_trace
from gencore.nn.transforms.base import Transform, no_log_det, trained
from gencore.ops import philox_normal, random_key
from gencore.ops._support.backend import refuse_transforms
from gencore.ops.random import rademacher, stream_key
from gencore.sizes import check_positive

__all__ = ["AdaptiveSolver", "ContinuousTransform", "FixedStepSolver", "Path", "TraceEstimate"]

TraceEstimate = Literal["exact", "rademacher", "gaussian"]
FixedStepSolver = Literal["euler", "midpoint", "heun3", "rk4"]


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _uncompiled(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A method that torch.compile leaves out of its graphs, and torch.export refuses."""

    @wraps(method)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if not torch.compiler.is_compiling():
            return method(*args, **kwargs)
        if torch.compiler.is_exporting():
            raise RuntimeError(
                "ContinuousTransform: torch.export cannot trace it: how many steps its solver "
                "takes depends on the data, and its field is differentiated along the way; export "
                "a CouplingFlow, MAF or PlanarFlow, or store this one by its state_dict"
            )
        from gencore.nn.transforms.traced import uncompiled_solve

        return cast(Result, uncompiled_solve(method, *args, **kwargs))

    return call


class Path(NamedTuple):
    """Where :meth:`ContinuousTransform.follow` leads, and what it adds up on the way."""

    end: Tensor
    """[N, ...]: where the path ends."""
    log_det: Tensor
    """log|det| of the map from start to end, [N], or an unbiased estimate of it."""
    kinetic_energy: Tensor
    """∫‖f‖² dt, [N]."""
    jacobian_norm: Tensor
    """∫‖∂f/∂x‖² dt, [N], of the Frobenius norm, or an unbiased estimate of it."""
    num_evaluations: int
    """How often the field was evaluated."""


class ContinuousTransform(Transform):
    r"""The flow of a vector field f from the data at time 0 to the latents at time T.

    .. math:: \frac{dx}{dt} = f(t, x; c), \quad x(0) = x, \quad z = x(T), \qquad
              \log\left\lvert\det\frac{\partial z}{\partial x}\right\rvert
              = \int_0^T \operatorname{tr}\frac{\partial f}{\partial x}\,dt

    The inverse follows the same field backward. An adaptive solver chooses its steps for the whole
    batch, so that a row depends on the others within the tolerances; the round trip, and the
    gradients of the adjoint equation, are right to the tolerances too. Solvers of fixed steps treat
    each row by itself, and are inverted to the error of their steps.

    With a trace that is estimated, log-determinants are unbiased estimates, to the tolerances. The
    noise is drawn once for each solve, which then has one and the same field all along.

    Args:
        field: f(t, x, context), from a time [] and points [N, ...] to velocities like the points,
            each row by itself; smooth, and without randomness or batch statistics.
        time: T > 0.
        trace: "exact", by one product with the Jacobian for each element of a row; or one product
            with signs ("rademacher") or normal noise ("gaussian"), Hutchinson's estimate, of which
            signs have the smaller variance.
        solver: of torchdiffeq: with adaptive steps "dopri5", "dopri8", "bosh3", "fehlberg2" or
            "adaptive_heun", with fixed ones "euler", "midpoint", "heun3" or "rk4".
        rtol: relative tolerance of an adaptive solver.
        atol: absolute tolerance of it.
        num_steps: of a solver of fixed steps, which needs it.
        adjoint: solve the adjoint equation backward for gradients instead of keeping all steps:
            memory does not grow with their number. Second derivatives need ``adjoint=False``.

    Shape:
        [N, ...] of float32 or float64, and contexts [N, C].

    Raises:
        ValueError: for a time or tolerance that is not positive, an unknown trace or solver, or
            ``num_steps`` that are missing or have no use; on a call, for velocities that are not
            like the points.
        TypeError: for a field that is no module; on a call, for data of another dtype.
        RuntimeError: on a call, where the solver's steps become too small, as of a field that is
            not finite; inside torch.func and in forward mode.
        ModuleNotFoundError: on a call, where torchdiffeq is not installed.

    References:
        Chen, Rubanova, Bettencourt and Duvenaud, "Neural ordinary differential equations", 2018,
        Theorem 1; Grathwohl, Chen, Bettencourt, Sutskever and Duvenaud, "FFJORD: free-form
        continuous dynamics for scalable reversible generative models", 2019, §2.2 and §3.1.

    Example:
        >>> import torch
        >>> from gencore.nn import ContinuousTransform, VelocityMLP
        >>> flow = ContinuousTransform(VelocityMLP(2, [16]))
        >>> z, log_det = flow(torch.ones(5, 2))
        >>> torch.allclose(flow.inverse(z)[0], torch.ones(5, 2), atol=1e-3)
        True
    """

    def __init__(
        self,
        field: nn.Module,
        *,
        time: float = 1.0,
        trace: TraceEstimate = "exact",
        solver: AdaptiveSolver | FixedStepSolver = "dopri5",
        rtol: float = 1e-5,
        atol: float = 1e-5,
        num_steps: int | None = None,
        adjoint: bool = False,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if not isinstance(field, nn.Module):
            raise TypeError(f"{name}: field is a {type(field).__name__}; expected a module")
        for option, value in {"time": time, "rtol": rtol, "atol": atol}.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name}: {option} is {value}; expected a positive number")
        check_choice(name, "trace", trace, get_args(TraceEstimate))
        fixed = get_args(FixedStepSolver)
        check_choice(name, "solver", solver, (*get_args(AdaptiveSolver), *fixed))
        if (num_steps is not None) != (solver in fixed):
            raise ValueError(
                f"{name}: num_steps is {num_steps} with the solver {solver!r}; expected a number "
                f"with one of {', '.join(fixed)}, and none with an adaptive solver"
            )
        if num_steps is not None:
            check_positive(name, num_steps=num_steps)
        self.field, self.time, self.trace = field, time, trace
        self.solver, self.rtol, self.atol, self.num_steps = solver, rtol, atol, num_steps
        self.adjoint = adjoint

    @_uncompiled
    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """The latents z of the data x, and log|det ∂z/∂x|, [N]; arguments as for `follow`."""
        return self._map(x, context, False, generator, key, first)

    @_uncompiled
    def inverse(
        self,
        z: Tensor,
        context: Tensor | None = None,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """The data x of the latents z, and log|det ∂x/∂z|, [N]; arguments as for `follow`."""
        return self._map(z, context, True, generator, key, first)

    @_uncompiled
    def follow(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        inverse: bool = False,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Path:
        """The path from x at time 0 to T, or backward from T to 0, with what is added up on it.

        Args:
            x: [N, ...], where it starts.
            context: [N, C].
            inverse: follow the field backward.
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset] of the noise of a trace that is estimated.
            first: number of rows before these, of other processes.
        """
        noise = self._noise(x, generator, key, first)
        (end, *sums), count = self._solve(
            lambda velocity, point, create_graph: (
                velocity,
                *jacobian_trace(velocity, point, noise=noise, create_graph=create_graph),
                velocity.flatten(1).square().sum(1),
            ),
            x, 3, context, inverse,
        )  # fmt: skip
        trace, norm, energy = sums
        sign = -1 if inverse else 1
        return Path(end, trace, sign * energy, sign * norm, count)

    @_uncompiled
    def transport(
        self, x: Tensor, context: Tensor | None = None, *, inverse: bool = False
    ) -> Tensor:
        """The path's end alone, [N, ...], which takes no Jacobian; arguments as for `follow`."""
        (end,), _ = self._solve(lambda velocity, *_: (velocity,), x, 0, context, inverse)
        return end

    def _map(
        self,
        x: Tensor,
        context: Tensor | None,
        inverse: bool,
        generator: Generator | None,
        key: Tensor | None,
        first: int,
    ) -> tuple[Tensor, Tensor]:
        noise = self._noise(x, generator, key, first)
        (y, log_det), _ = self._solve(
            lambda velocity, point, create_graph: (
                velocity,
                jacobian_trace(velocity, point, noise=noise, create_graph=create_graph).trace,
            ),
            x, 1, context, inverse,
        )  # fmt: skip
        return y, log_det

    def _noise(
        self, x: Tensor, generator: Generator | None, key: Tensor | None, first: int
    ) -> Tensor | None:
        """v [N, ...] of Hutchinson's estimate; none where the trace is exact."""
        self._check(x)
        if self.trace == "exact":
            return None
        key = stream_key(random_key(generator, x.device) if key is None else key, "trace")
        first_element = first * x.shape[1:].numel()
        if self.trace == "rademacher":
            return rademacher(x, key, first_element)
        return philox_normal(x.shape, key, first_element=first_element, dtype=x.dtype)

    def _check(self, x: Tensor) -> None:
        name = type(self).__name__
        refuse_transforms(
            name, "its field is differentiated along the way; use torch.autograd, row by row"
        )
        if x.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name}: data are {x.dtype}; expected float32 or float64")
        if x.dim() < 2:
            raise ValueError(f"{name}: data have shape {list(x.shape)}; expected [N, ...]")

    def _solve(
        self,
        rates: Callable[[Tensor, Tensor, bool], tuple[Tensor, ...]],
        x: Tensor,
        num_sums: int,
        context: Tensor | None,
        inverse: bool,
    ) -> tuple[tuple[Tensor, ...], int]:
        """The end of the path and `num_sums` integrals [N] over it, from rates of change that begin
        with the velocity; and the number of evaluations."""
        self._check(x)
        with flows_extra(type(self).__name__):
            from torchdiffeq import odeint, odeint_adjoint

        differentiable = torch.is_grad_enabled()
        with (
            torch.inference_mode(False),
            torch.set_grad_enabled(differentiable),
            torch.autocast(x.device.type, enabled=False),
        ):
            x, context = _ordinary(x), None if context is None else _ordinary(context)
            start = (x, *(no_log_det(x) for _ in range(num_sums)))
            if x.numel() == 0:  # of which the solver has no norm
                return start, 0
            rate = _Rate(self.field, rates, context, needs_graph=num_sums > 0)
            times = torch.tensor([0.0, self.time], dtype=x.dtype, device=x.device)
            options: dict[str, Any] = {}
            if self.num_steps is not None:
                options["options"] = {"step_size": self.time / self.num_steps}
            else:
                options["options"] = steps_to_ends(self.solver, self.time, x)
            solve = odeint
            if differentiable and self.adjoint:
                solve = odeint_adjoint
                given = () if context is None else (context,)
                options["adjoint_params"] = (*trained(self.field), *given)
            try:
                path = solve(
                    rate, start, times.flip(0) if inverse else times,
                    rtol=self.rtol, atol=self.atol, method=self.solver, **options,
                )  # fmt: skip
            except AssertionError as error:  # how torchdiffeq reports steps that became too small
                raise RuntimeError(
                    f"{type(self).__name__}: {self.solver} cannot follow the field to "
                    f"rtol={self.rtol:g}, atol={self.atol:g} ({error}); it is not finite on the "
                    f"way, or too steep for time={self.time:g}"
                ) from error
        return tuple(part[-1] for part in path), rate.count

    def extra_repr(self) -> str:
        steps = (
            f"rtol={self.rtol}, atol={self.atol}"
            if self.num_steps is None
            else f"num_steps={self.num_steps}"
        )
        return f"time={self.time}, trace={self.trace!r}, solver={self.solver!r}, {steps}"


class _Rate:
    """What the solver integrates, of the state (x, sums…) at a time, counting its evaluations."""

    def __init__(
        self,
        field: nn.Module,
        rates: Callable[[Tensor, Tensor, bool], tuple[Tensor, ...]],
        context: Tensor | None,
        *,
        needs_graph: bool,
    ) -> None:
        self.field, self.rates, self.context = field, rates, context
        self.needs_graph = needs_graph
        self.count = 0

    def __call__(self, t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self.count += 1
        x, create_graph = state[0], torch.is_grad_enabled()
        with torch.set_grad_enabled(create_graph or self.needs_graph):
            if not (create_graph and x.requires_grad):
                x = x.detach().requires_grad_()
            velocity = self.field(t, x, self.context)
            if not isinstance(velocity, Tensor) or velocity.shape != x.shape:
                given = list(velocity.shape) if isinstance(velocity, Tensor) else type(velocity)
                raise ValueError(
                    f"ContinuousTransform: the field made {given} of points of shape "
                    f"{list(x.shape)}; expected a velocity for each number"
                )
            rates = self.rates(velocity.to(x.dtype), x, create_graph)
        return rates if create_graph else tuple(rate.detach() for rate in rates)


def _ordinary(t: Tensor) -> Tensor:
    """A tensor that autograd takes, which it does not one made in inference mode."""
    return t.clone() if t.is_inference() else t
