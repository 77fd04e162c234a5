"""A small fully connected energy of points and of a diffusion's level."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from gencore.nn.networks.time_embedding import TimeEmbedding
from gencore.nn.parametrized import spectral_norm as spectrally_normalised
from gencore.ops._support.checks import finite

__all__ = ["TimeMLPEnergy"]


class TimeMLPEnergy(nn.Module):
    r"""The energy E(y, t) of a fully connected network whose units are shifted by the level.

    .. math:: E(y, t) = w^\top h_L + b, \qquad
              h_l = \mathrm{silu}(W_l h_{l-1} + V_l e(t)), \quad h_0 = y

    with e(t) a `TimeEmbedding` after a layer of its own.

    Args:
        dim: D, the number of inputs.
        hidden_widths: H₁, …, H_L, one at least.
        num_time_features: of the embedding, even and at least 4.
        input_scale: factor of W₁ at the start, positive. With 1 the units are smooth over the
            scale of data of variance 1, and finer structure is slow to learn: of eight spots on a
            ring, 2,500 updates found the ring, and with 8 the spots.
        spectral_norm: divide each W_l and w by its largest singular value (Miyato et al. 2018),
            which bounds ∇E by 1.1^L, since silu's slope is at most 1.1. The shifts stay free.

    Shape:
        [N, D] and levels [N] → [N].

    Raises:
        ValueError: for widths below 1, or none, a scale that is not positive, and on a call with
            inputs of another shape.

    Example:
        >>> import torch
        >>> energy = TimeMLPEnergy(2, (32, 32))
        >>> energy(torch.zeros(5, 2), torch.arange(5)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        dim: int,
        hidden_widths: Sequence[int] = (128, 128, 128),
        *,
        num_time_features: int = 32,
        input_scale: float = 1.0,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        if not hidden_widths or min(dim, *hidden_widths) < 1:
            raise ValueError(
                f"TimeMLPEnergy: dim is {dim} and hidden_widths {tuple(hidden_widths)}; expected "
                "positive widths and a hidden layer at least"
            )
        if not finite("TimeMLPEnergy", "input_scale", input_scale) > 0:
            raise ValueError(
                f"TimeMLPEnergy: input_scale is {input_scale}; expected a positive number"
            )
        self.dim = dim
        width = hidden_widths[0]
        self.embedding = TimeEmbedding(num_time_features)
        self.level = nn.Linear(num_time_features, width)
        # The shifts are the hidden layers' biases.
        layers = [nn.Linear(i, o, bias=False) for i, o in pairwise((dim, *hidden_widths))]
        layers.append(nn.Linear(hidden_widths[-1], 1))
        with torch.no_grad():
            layers[0].weight.mul_(input_scale)
        self.layers = nn.ModuleList(
            spectrally_normalised(layer) if spectral_norm else layer for layer in layers
        )
        self.shifts = nn.ModuleList(nn.Linear(width, outputs) for outputs in hidden_widths)

    def forward(self, y: Tensor, t: Tensor) -> Tensor:
        self._check(y, t)
        features = self._features(t)
        hidden = y
        for layer, shift in zip(self.layers[:-1], self.shifts, strict=True):
            hidden = silu(layer(hidden) + shift(features))
        value: Tensor = self.layers[-1](hidden).squeeze(1)
        return value

    @torch.no_grad()
    def energy_and_grad(self, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """E(y, t) [N] and its gradient in y [N, D], at a third of autograd's price for small N."""
        self._check(y, t)
        features = self._features(t)
        hidden = y
        weights: list[Tensor] = []
        slopes: list[Tensor] = []
        for layer, shift in zip(self.layers[:-1], self.shifts, strict=True):
            weight = _weight(layer)
            before = torch.addmm(shift(features), hidden, weight.T)
            gate = before.sigmoid()
            hidden = before * gate
            weights.append(weight)
            slopes.append(torch.addcmul(gate, hidden, 1 - gate))  # of silu
        last, bias = _weight(self.layers[-1]), self.layers[-1].bias
        assert isinstance(bias, Tensor)
        value = (hidden @ last.T + bias).squeeze(1)
        grad = last
        for weight, slope in zip(reversed(weights), reversed(slopes), strict=True):
            grad = (grad * slope) @ weight
        return value, grad

    def _features(self, t: Tensor) -> Tensor:
        features: Tensor = silu(self.level(self.embedding(t).to(self.level.weight.dtype)))
        return features

    def _check(self, y: Tensor, t: Tensor) -> None:
        if y.dim() != 2 or y.shape[1] != self.dim or t.shape != y.shape[:1]:
            raise ValueError(
                f"TimeMLPEnergy: got y of shape {list(y.shape)} and t of shape {list(t.shape)}; "
                f"expected [N, {self.dim}] and [N]"
            )


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer.weight, Tensor)
    return layer.weight
