"""A small fully connected energy, which samplers run whole chains of in one kernel."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from gencore.ops.mlp import ActivationName, activation_kind, mlp_energy

__all__ = ["MLPEnergy"]


class MLPEnergy(nn.Module):
    r"""The energy of a fully connected network with a Gaussian prior.

    .. math:: E(x) = w^\top h_L + b + \tfrac{\lambda}{2}\lVert x\rVert^2, \qquad
              h_l = \sigma(W_l h_{l-1} + b_l), \quad h_0 = x

    :class:`gencore.samplers.Langevin` and :class:`gencore.samplers.HMC` run chains on it with
    :func:`gencore.ops.mlp_langevin_chain` and :func:`gencore.ops.mlp_hmc_chain`.

    Args:
        dim: D, the number of inputs.
        hidden_widths: H₁, …, H_L, at most four.
        activation: σ: "silu", "softplus", "tanh", "leaky_relu" or "relu".
        negative_slope: of the leaky ReLU.
        prior_precision: λ; 0 is no prior.

    Shape:
        [N, D] → [N].

    Raises:
        ValueError: for widths below 1, more than four hidden layers or another activation, and on a
            call with inputs of another shape or dtype.

    Example:
        >>> import torch
        >>> from gencore.nn import MLPEnergy
        >>> energy = MLPEnergy(2, hidden_widths=(64, 64))
        >>> energy(torch.zeros(5, 2)).shape
        torch.Size([5])

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, §2.4.5: four
        hidden layers of 256 units with swish (SiLU) on the plane.
    """

    def __init__(
        self,
        dim: int,
        hidden_widths: Sequence[int] = (64, 64),
        activation: ActivationName = "silu",
        *,
        negative_slope: float = 0.01,
        prior_precision: float = 0.0,
    ) -> None:
        super().__init__()
        if min(dim, *hidden_widths, 1) < 1 or len(hidden_widths) > 4:
            raise ValueError(
                f"MLPEnergy: dim is {dim} and hidden_widths {tuple(hidden_widths)}; expected "
                "positive widths and at most four hidden layers"
            )
        activation_kind("MLPEnergy", activation, negative_slope)
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise((dim, *hidden_widths, 1)))
        self.activation = activation
        self.negative_slope = negative_slope
        self.prior_precision = prior_precision

    def forward(self, x: Tensor) -> Tensor:
        return mlp_energy(x, **self._network())

    def network(self) -> dict[str, Any] | None:
        """The arguments that :mod:`gencore.ops` calls the network by.

        ``None`` where calling this module is not the same as evaluating that network: a subclass
        with a forward of its own, or hooks.
        """
        has_hooks = any(m._forward_hooks or m._forward_pre_hooks for m in self.modules())
        same = type(self).forward is MLPEnergy.forward and not has_hooks
        return self._network() if same else None

    def _network(self) -> dict[str, Any]:
        return {
            "weights": [layer.weight for layer in self.layers],
            "biases": [layer.bias for layer in self.layers],
            "activation": self.activation,
            "negative_slope": self.negative_slope,
            "prior_precision": self.prior_precision,
        }

    def extra_repr(self) -> str:
        return f"activation={self.activation!r}, prior_precision={self.prior_precision}"
