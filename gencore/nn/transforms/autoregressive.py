"""Autoregressive layers: one direction is a pass of a network, the other finds each coordinate."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gencore.nn.context import check_context, weight_of
from gencore.nn.networks.made import MADE
from gencore.nn.transforms.base import Transform
from gencore.ops._support.backend import refuse_transforms
from gencore.ops._support.checks import accumulation_dtype, wants_grad
from gencore.ops.made_inverse import made_inverse

__all__ = ["Autoregressive"]


class Autoregressive(Transform):
    r"""A map v_i = g(u_i; θ_i), invertible in u_i, with θ_i a function of u_1, …, u_{i−1}.

    One direction, :meth:`evaluate`, is one pass of a :class:`~gencore.nn.MADE`. The other,
    :meth:`solve`, finds u coordinate by coordinate in :func:`gencore.ops.made_inverse`, or, of a
    network that this does not take (another activation, residual blocks, more than four hidden
    layers), in as many passes as the longest path has inputs: D, or fewer with an adjacency. Both
    are differentiable to any order. A subclass says which g, and which of the two is towards
    latents. Dropout, in training mode, is in :meth:`evaluate` alone.

    The gradient through u = f⁻¹(v) is that of the implicit function: for g = ∂L/∂u it is
    w = J⁻ᵀg with respect to v and −(∂f/∂θ)ᵀw with respect to the parameters, J = ∂f/∂u.
    """

    def __init__(
        self,
        features: int,
        hidden_widths: Sequence[int],
        outputs_per_input: int,
        *,
        activation: str,
        context_size: int,
        order: Sequence[int] | Tensor | None,
        adjacency: Sequence[Sequence[bool]] | Tensor | None,
        residual: bool,
        dropout: float,
        features_first: bool = False,
    ) -> None:
        super().__init__()
        self.made = MADE(
            features, hidden_widths, outputs_per_input, activation=activation,
            context_size=context_size, order=order, adjacency=adjacency, residual=residual,
            dropout=dropout, features_first=features_first,
        )  # fmt: skip

    @abstractmethod
    def step(self, u: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """v = g(u; θ), elementwise, and Σ log ∂v/∂u, [N], for the network's outputs θ."""

    @abstractmethod
    def unstep(self, v: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """u with g(u; θ) = v, elementwise, and Σ log ∂u/∂v, [N]."""

    @property
    @abstractmethod
    def fused_step(self) -> dict[str, Any]:
        """What :func:`gencore.ops.made_inverse` is told of g."""

    def evaluate(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """v = f(u) and log|det ∂v/∂u| in one pass."""
        return self._evaluate(u, context, dropout=True)

    def solve(self, v: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """u with f(u) = v and log|det ∂u/∂v|, coordinate by coordinate."""
        refuse_transforms(
            type(self).__name__,
            "its loop over coordinates is differentiated by torch.autograd alone, row by row of a "
            "batch; the direction of one pass can be transformed",
        )
        rows = self._rows(v, context)
        if not wants_grad(rows, context, *self.parameters()):
            u, log_det = self._solve(rows, context)
            return u.view(v.shape), log_det
        if torch.compiler.is_compiling():
            from gencore.nn.transforms.traced import traced

            (u,) = traced(self, rows, *(() if context is None else (context,)))
        else:
            u = _Solve.apply(self, None, rows, context, *self.made.parameters())
        return u.view(v.shape), -self._evaluate(u, context, dropout=False)[1]

    def traced(self, v: Tensor, context: Tensor | None = None) -> tuple[Tensor]:
        """u of :meth:`solve` in a graph, whose buffers the backward pass has to be given."""
        buffers = dict(self.made.named_buffers())
        return (_Solve.apply(self, buffers, v, context, *self.made.parameters()),)

    def _evaluate(
        self, u: Tensor, context: Tensor | None, *, dropout: bool
    ) -> tuple[Tensor, Tensor]:
        rows = self._rows(u, context)
        v, log_det = self.step(rows, self.made(rows, context, dropout=dropout).to(u.dtype))
        return v.view(u.shape), log_det

    @torch.no_grad()
    def _solve(self, v: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        made, order = self.made, self.made.order
        activation = made.fused_activation
        if activation is None:
            return self._solve_by_passes(v, context)
        term = made.context_term(context)
        u, log_det = made_inverse(
            v if order is None else v[:, order],
            [weight.to(v.dtype) for weight in made.ordered_weights()],
            [linear.bias.to(v.dtype) for linear in made.linears()],
            made.unit_ends,
            **self.fused_step,
            activation=activation,
            negative_slope=made.negative_slope,
            context_term=None if term is None else term.to(v.dtype),
        )
        return u if made.inverse_order is None else u[:, made.inverse_order], log_det

    def _solve_by_passes(self, v: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """In each pass, the coordinates that depend on none but those of the passes before."""
        made = self.made
        u, log_det = torch.zeros_like(v), v.new_zeros(len(v), dtype=accumulation_dtype(v))
        generations = made.generations
        if made.inverse_order is not None:
            generations = generations[made.inverse_order]
        for generation in range(made.depth):
            theta = made(u, context, dropout=False).to(v.dtype)
            solved, log_det = self.unstep(v, theta)
            u = torch.where(generations == generation, solved, u)
        return u, log_det

    @property
    def _last(self) -> nn.Linear:
        return self.made.linears()[-1]

    def _rows(self, x: Tensor, context: Tensor | None) -> Tensor:
        if x.dim() < 2 or x[:1].numel() != min(x.shape[0], 1) * self.made.num_inputs:
            raise ValueError(
                f"{type(self).__name__}: data have shape {list(x.shape)}; expected [N, ...] with "
                f"{self.made.num_inputs} numbers a row"
            )
        if self.made.context_size:
            check_context(
                type(self).__name__, context, x.shape[0], self.made.context_size,
                weight_of(self.made),
            )  # fmt: skip
        return x.reshape(x.shape[0], self.made.num_inputs)


class _Solve(torch.autograd.Function):
    """u = f⁻¹(v) with the gradient of the implicit function."""

    @staticmethod
    def forward(
        ctx: Any,
        layer: Autoregressive,
        buffers: dict[str, Tensor] | None,
        v: Tensor,
        context: Tensor | None,
        *parameters: Tensor,
    ) -> Tensor:
        u = layer._solve(v, context)[0]
        ctx.layer, ctx.buffers = layer, buffers
        ctx.save_for_backward(u, context, *parameters)
        return u

    @staticmethod
    def backward(ctx: Any, grad_u: Tensor) -> tuple[Tensor | None, ...]:
        made, create_graph = ctx.layer.made, torch.is_grad_enabled()
        u, given_context, *given = ctx.saved_tensors
        _, _, _, needs_context, *needed = ctx.needs_input_grad
        with torch.enable_grad():
            # v = f(u) depends on u through the network, by the strictly triangular part of J, and
            # directly, by its diagonal.
            inner, direct = _leaf(u, create_graph), _leaf(u, create_graph)
            parameters = [_leaf(parameter, create_graph) for parameter in given]
            context = None if given_context is None else _leaf(given_context, create_graph)
            names = [name for name, _ in made.named_parameters()]
            state = {**dict(zip(names, parameters, strict=True)), **(ctx.buffers or {})}
            theta = torch.func.functional_call(made, state, (inner, context), {"dropout": False})
            v = ctx.layer.step(direct, theta.to(u.dtype))[0]
            (diagonal,) = torch.autograd.grad(
                v, direct, torch.ones_like(v), create_graph=create_graph, retain_graph=True
            )
            w = grad_u / diagonal
            # Jᵀw = g from the last coordinate to the first: each pass settles one more of a path.
            for _ in range(made.depth - 1):
                (coupled,) = torch.autograd.grad(
                    v, inner, w, create_graph=create_graph, retain_graph=True
                )
                previous, w = w, (grad_u - coupled) / diagonal
                # The derivative of w may take more passes than its value, and a graph that is
                # traced has no branches that depend on data.
                if not create_graph and ctx.buffers is None and torch.equal(previous, w):
                    break
            leaves = [t for t, need in zip(parameters, needed, strict=True) if need]
            if context is not None and needs_context:
                leaves.append(context)
            found = iter(
                torch.autograd.grad(v, leaves, -w, create_graph=create_graph) if leaves else ()
            )
        grads = [next(found) if need else None for need in needed]
        return None, None, w, next(found, None), *grads


def _leaf(t: Tensor, create_graph: bool) -> Tensor:
    """A copy with respect to which f is differentiated, so that u's own dependence on it is not
    followed; for a second derivative it stays connected to what it copies."""
    if create_graph and t.requires_grad:
        return t.view_as(t)
    return t.detach().requires_grad_()
