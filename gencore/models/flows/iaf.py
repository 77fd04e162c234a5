"""The inverse autoregressive flow (Kingma et al. 2016)."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from gencore.models.flows.autoregressive_stack import autoregressive_layers
from gencore.models.flows.flow import Base, Flow
from gencore.models.flows.names import AutoregressiveMixing
from gencore.models.flows.stacks import stack
from gencore.nn.transforms import ActNorm, InverseAutoregressive
from gencore.sizes import check_positive

__all__ = ["IAF"]


class IAF(Flow):
    r"""A flow whose samples take one pass of each layer's network, and densities D short steps.

    .. math:: x = e^{-a} \odot \big(g_1 \circ \rho \circ \dots \circ \rho \circ g_K(z) - b\big),
              \qquad g(z)_i = \sigma_i z_i + (1 - \sigma_i)\, m_i(z_{<i}), \quad
              \sigma_i = \mathrm{sigmoid}\big(s_i(z_{<i})\big)

    with the reversal, or another mixing, ρ of the coordinates between layers. Gates only
    contract, so the data's scale and location are those of a :class:`~gencore.nn.ActNorm`, whose a
    and b the first batch sets such that, with the gates as they start, samples have the batch's
    mean and variance.

    Args:
        features: D, the numbers in a row of the data.
        num_layers: K.
        hidden_widths: of each layer's network.
        activation, residual, dropout, adjacency: of the networks, as for :class:`gencore.nn.MADE`.
            With an adjacency, [D, D], all layers have that graph, and nothing is permuted.
        mixing: of the coordinates between layers: "reverse", fixed random "permutation"s, or "lu",
            :class:`~gencore.nn.LULinear` layers that start as the reversal.
        gate_bias: s at the start.
        context_size: C of contexts [N, C]; 0 for none.
        base: of the latents, as for :class:`Flow`.
        reversible: rebuild inputs in the backward pass, so that memory does not grow with depth;
            not with dropout.
        generator: of random permutations; torch's default if ``None``.

    Raises:
        ValueError: for sizes that do not fit, another mixing, or dropout in a reversible flow.

    References:
        Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, "Improved Variational Inference
        with Inverse Autoregressive Flow", 2016, Algorithm 1.

    Example:
        >>> import torch
        >>> from gencore.models import IAF
        >>> iaf = IAF(3, num_layers=2, hidden_widths=(16, 16))
        >>> iaf().rsample((5,)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        features: int,
        *,
        num_layers: int = 5,
        hidden_widths: Sequence[int] = (64, 64),
        activation: str = "relu",
        residual: bool = False,
        dropout: float = 0.0,
        adjacency: Sequence[Sequence[bool]] | Tensor | None = None,
        mixing: AutoregressiveMixing = "reverse",
        gate_bias: float = 2.0,
        context_size: int = 0,
        base: Base = "normal",
        reversible: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        check_positive("IAF", num_layers=num_layers)
        steps = autoregressive_layers(
            "IAF", features, num_layers, partial(InverseAutoregressive, features, hidden_widths),
            mixing=mixing, generator=generator,
            activation=activation, residual=residual, dropout=dropout, adjacency=adjacency,
            gate_bias=gate_bias, context_size=context_size,
        )  # fmt: skip
        norm = ActNorm(features, std=(1 + math.exp(-gate_bias)) ** -num_layers)
        transform = stack([norm, *steps], reversible=reversible)
        super().__init__(transform, [features], base=base, context_size=context_size)
