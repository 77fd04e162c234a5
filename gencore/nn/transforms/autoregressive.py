"""Affine autoregressive layers, masked (MAF) and inverse (IAF)."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gencore.nn.affine_start import start_affine
from gencore.nn.context import check_context, weight_of
from gencore.nn.networks.made import MADE
from gencore.nn.transforms.base import Transform
from gencore.ops import affine_coupling, iaf_step
from gencore.ops._support.backend import refuse_transforms
from gencore.ops._support.bounded import bounded
from gencore.ops._support.checks import clip_bound, wants_grad
from gencore.ops.made_inverse import AutoregressiveScale, made_inverse
from gencore.ops.mlp import ActivationName

__all__ = ["Autoregressive", "InverseAutoregressive", "MaskedAutoregressive"]


class Autoregressive(Transform):
    r"""A map v_i = g(u_i; m_i, s_i), affine in u_i, with m_i and s_i functions of u_1, …, u_{i−1}.

    One direction, :meth:`evaluate`, is one pass of a :class:`~gencore.nn.MADE`; the other,
    :meth:`solve`, finds u coordinate by coordinate in :func:`gencore.ops.made_inverse`. Both are
    differentiable to any order. A subclass says which g, and which of the two is towards latents.

    The gradient through u = f⁻¹(v) is that of the implicit function: for g = ∂L/∂u it is
    w = J⁻ᵀg with respect to v and −(∂f/∂θ)ᵀw with respect to the parameters, J = ∂f/∂u.
    """

    scale: ClassVar[AutoregressiveScale]
    bound: float | None = None

    def __init__(
        self,
        features: int,
        hidden_widths: Sequence[int],
        *,
        activation: ActivationName = "relu",
        context_size: int = 0,
        order: Sequence[int] | Tensor | None = None,
    ) -> None:
        super().__init__()
        if len(hidden_widths) > 4:
            raise ValueError(
                f"{type(self).__name__}: hidden_widths are {tuple(hidden_widths)}; expected at "
                "most four hidden layers"
            )
        self.made = MADE(
            features, hidden_widths, 2, activation=activation, context_size=context_size,
            order=order,
        )  # fmt: skip

    @abstractmethod
    def step(self, u: Tensor, m: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """v = g(u; m, s), elementwise, and Σ log ∂v/∂u, [N]."""

    def evaluate(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """v = f(u) and log|det ∂v/∂u| in one pass."""
        rows = self._rows(u, context)
        m, s = self.made(rows, context).to(u.dtype).unbind(1)
        v, log_det = self.step(rows, m, s)
        return v.view(u.shape), log_det

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
        return u.view(v.shape), -self.evaluate(u, context)[1]

    def traced(self, v: Tensor, context: Tensor | None = None) -> tuple[Tensor]:
        """u of :meth:`solve` in a graph, whose buffers the backward pass has to be given."""
        buffers = dict(self.made.named_buffers())
        return (_Solve.apply(self, buffers, v, context, *self.made.parameters()),)

    @torch.no_grad()
    def _solve(self, v: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        made, order, linears = self.made, self.made.order, self.made.linears()
        term = made.context_term(context)
        u, log_det = made_inverse(
            v if order is None else v[:, order],
            [linear.weight.to(v.dtype) for linear in linears],
            [linear.bias.to(v.dtype) for linear in linears],
            made.unit_ends,
            scale=self.scale, bound=self.bound, activation=made.activation,
            negative_slope=made.negative_slope,
            context_term=None if term is None else term.to(v.dtype),
        )  # fmt: skip
        return u if made.inverse_order is None else u[:, made.inverse_order], log_det

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


class MaskedAutoregressive(Autoregressive):
    r"""A layer of a masked autoregressive flow: densities take one pass, samples D short steps.

    .. math:: z_i = \big(x_i - m_i(x_{<i}; c)\big)\, e^{-s_i(x_{<i}; c)}, \qquad
              \log\left\lvert\det\frac{\partial z}{\partial x}\right\rvert = -\sum_i s_i

    with the bounded log-scale s = bound·tanh(s̃ / bound). It starts with s = 0 and an m that varies:
    from the identity, data of independent coordinates would give it no gradient to leave by.

    Args:
        features: D, the numbers in a row of the data.
        hidden_widths: of the network of m and s, one to four layers.
        activation: of the network.
        bound: of s; ``None``: s is s̃.
        context_size: C of contexts [N, C]; 0 for none.
        order: the coordinates from first to last; ``None``: as they come.

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Papamakarios, Pavlakou and Murray, "Masked Autoregressive Flow for Density Estimation",
        2017, eq. (3)-(5).

    Example:
        >>> import torch
        >>> from gencore.nn import MaskedAutoregressive
        >>> layer = MaskedAutoregressive(3, (16, 16))
        >>> z, log_det = layer(torch.ones(5, 3))
        >>> layer.inverse(z)[0].shape, log_det.shape
        (torch.Size([5, 3]), torch.Size([5]))
    """

    scale = "exponential"

    def __init__(
        self,
        features: int,
        hidden_widths: Sequence[int],
        *,
        activation: ActivationName = "relu",
        bound: float | None = 2.0,
        context_size: int = 0,
        order: Sequence[int] | Tensor | None = None,
    ) -> None:
        super().__init__(
            features, hidden_widths, activation=activation, context_size=context_size, order=order
        )
        start_affine(self._last, slice(features), slice(features, None), features)
        clip_bound("MaskedAutoregressive", "bound", bound)
        self.bound = bound

    def step(self, u: Tensor, m: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return affine_coupling(u, s, m, bound=self.bound, inverse=True)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.evaluate(x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.solve(z, context)

    def extra_repr(self) -> str:
        return f"bound={self.bound}"


class InverseAutoregressive(Autoregressive):
    r"""A layer of an inverse autoregressive flow: samples take one pass, densities D short steps.

    .. math:: x_i = \sigma_i z_i + (1 - \sigma_i)\, m_i, \quad
              \sigma_i = \mathrm{sigmoid}\big(s_i(z_{<i}; c)\big), \quad m_i = m_i(z_{<i}; c),
              \qquad \log\left\lvert\det\frac{\partial x}{\partial z}\right\rvert
              = \sum_i \log \sigma_i

    with the bounded logit s = bound·tanh(s̃ / bound) of the network's output s̃, so that densities
    stay finite far from the data. It starts with m = 0 and the gate σ = sigmoid(``gate_bias``).

    Args:
        features: D, the numbers in a row of the data.
        hidden_widths: of the network of m and s, one to four layers.
        activation: of the network.
        context_size: C of contexts [N, C]; 0 for none.
        order: the coordinates from first to last; ``None``: as they come.
        gate_bias: s at the start.
        bound: of s, above \|gate_bias\|; ``None``: s is s̃.

    Raises:
        ValueError: for sizes that do not fit, or a gate bias beyond the bound.

    References:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, "Improved Variational Inference
        with Inverse Autoregressive Flow", 2016, eq. (13)-(14) and Algorithm 1.

    Example:
        >>> import torch
        >>> from gencore.nn import InverseAutoregressive
        >>> layer = InverseAutoregressive(3, (16, 16))
        >>> x, log_det = layer.inverse(torch.ones(5, 3))
        >>> bool(torch.allclose(layer(x)[0], torch.ones(5, 3)))
        True
    """

    scale = "gate"

    def __init__(
        self,
        features: int,
        hidden_widths: Sequence[int],
        *,
        activation: ActivationName = "relu",
        context_size: int = 0,
        order: Sequence[int] | Tensor | None = None,
        gate_bias: float = 2.0,
        bound: float | None = 5.0,
    ) -> None:
        super().__init__(
            features, hidden_widths, activation=activation, context_size=context_size, order=order
        )
        clip_bound("InverseAutoregressive", "bound", bound)
        if bound is not None:
            if abs(gate_bias) >= bound:
                raise ValueError(
                    f"InverseAutoregressive: gate_bias is {gate_bias}; expected one within the "
                    f"bound of {bound}"
                )
            gate_bias = bound * math.atanh(gate_bias / bound)
        self.bound = bound
        nn.init.zeros_(self._last.weight)
        nn.init.zeros_(self._last.bias[:features])
        nn.init.constant_(self._last.bias[features:], gate_bias)

    def step(self, u: Tensor, m: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        return iaf_step(u, m, s if self.bound is None else bounded(s, self.bound))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.solve(x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.evaluate(z, context)


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
            network = torch.func.functional_call(made, state, (inner, context))
            v = ctx.layer.step(direct, *network.to(u.dtype).unbind(1))[0]
            (diagonal,) = torch.autograd.grad(
                v, direct, torch.ones_like(v), create_graph=create_graph, retain_graph=True
            )
            w = grad_u / diagonal
            # Jᵀw = g from the last coordinate to the first: each pass settles one more at least.
            for _ in range(u.shape[1] - 1):
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
