"""Affine autoregressive layers, masked (MAF) and inverse (IAF)."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from gencore.nn.affine_start import start_affine
from gencore.nn.transforms.autoregressive import Autoregressive
from gencore.ops import affine_coupling, iaf_step
from gencore.ops._support.bounded import bounded
from gencore.ops._support.checks import clip_bound

__all__ = ["InverseAutoregressive", "MaskedAutoregressive"]


class MaskedAutoregressive(Autoregressive):
    r"""A layer of a masked autoregressive flow: densities take one pass, samples D short steps.

    .. math:: z_i = \big(x_i - m_i(x_{<i}; c)\big)\, e^{-s_i(x_{<i}; c)}, \qquad
              \log\left\lvert\det\frac{\partial z}{\partial x}\right\rvert = -\sum_i s_i

    with the bounded log-scale s = bound·tanh(s̃ / bound). It starts with s = 0 and an m that varies:
    from the identity, data of independent coordinates would give it no gradient to leave by.

    Args:
        features: D, the numbers in a row of the data.
        hidden_widths: of the network of m and s.
        activation, residual, dropout, adjacency: of the network, as for :class:`gencore.nn.MADE`.
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

    def __init__(
        self,
        features: int,
        hidden_widths: Sequence[int],
        *,
        activation: str = "relu",
        bound: float | None = 2.0,
        context_size: int = 0,
        order: Sequence[int] | Tensor | None = None,
        adjacency: Sequence[Sequence[bool]] | Tensor | None = None,
        residual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            features, hidden_widths, 2, activation=activation, context_size=context_size,
            order=order, adjacency=adjacency, residual=residual, dropout=dropout,
        )  # fmt: skip
        start_affine(self._last, slice(features), slice(features, None), features)
        clip_bound("MaskedAutoregressive", "bound", bound)
        self.bound = bound

    def step(self, u: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        m, s = theta.unbind(1)
        return affine_coupling(u, s, m, bound=self.bound, inverse=True)

    def unstep(self, v: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        m, s = theta.unbind(1)
        return affine_coupling(v, s, m, bound=self.bound)

    @property
    def fused_step(self) -> dict[str, Any]:
        return {"step": "exponential", "bound": self.bound}

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
        hidden_widths: of the network of m and s.
        activation, residual, dropout, adjacency: of the network, as for :class:`gencore.nn.MADE`.
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

    def __init__(
        self,
        features: int,
        hidden_widths: Sequence[int],
        *,
        activation: str = "relu",
        context_size: int = 0,
        order: Sequence[int] | Tensor | None = None,
        adjacency: Sequence[Sequence[bool]] | Tensor | None = None,
        residual: bool = False,
        dropout: float = 0.0,
        gate_bias: float = 2.0,
        bound: float | None = 5.0,
    ) -> None:
        super().__init__(
            features, hidden_widths, 2, activation=activation, context_size=context_size,
            order=order, adjacency=adjacency, residual=residual, dropout=dropout,
        )  # fmt: skip
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

    def step(self, u: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        return iaf_step(u, *self._gates(theta))

    def unstep(self, v: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        return iaf_step(v, *self._gates(theta), inverse=True)

    @property
    def fused_step(self) -> dict[str, Any]:
        return {"step": "gate", "bound": self.bound}

    def _gates(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        m, s = theta.unbind(1)
        return m, s if self.bound is None else bounded(s, self.bound)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.solve(x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.evaluate(z, context)
