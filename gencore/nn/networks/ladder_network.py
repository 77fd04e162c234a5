"""The ladder network of vectors, fully connected (Rasmus et al. 2015)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from gencore.nn.gaussian_combinator import GaussianCombinator
from gencore.ops import philox_normal, random_key
from gencore.ops._support.checks import number
from gencore.sizes import check_positive, check_whole

__all__ = ["LadderNetwork", "LadderPass"]

_EPSILON = 1e-5  # added to variances, as torch's batch normalisation does


class LadderPass(NamedTuple):
    """What the noisy encoder and the decoder make of points."""

    logits: Tensor
    """Of the noisy encoder, [N, K], which labels train."""

    costs: Tensor
    """Denoising costs of the points by layer, the input first, [N, L + 1]; 0 for a layer without a
    weight."""

    energy: Tensor
    """The costs' weighted sum, [N]."""


class _Encoding(NamedTuple):
    logits: Tensor
    """[N, K]."""

    values: list[Tensor]
    """z⁽⁰⁾ … z⁽ᴸ⁾, with noise if there is any."""

    means: list[Tensor]
    """Of the layers 1 … L before they are normalised, [width]."""

    stds: list[Tensor]
    """Likewise."""


class LadderNetwork(nn.Module):
    r"""A classifier whose layers a decoder denoises, so that it learns from unlabelled points too.

    The encoder runs twice with the same weights, with noise ε of a standard deviation on the input
    and on each normalised layer, and without. For l = 1 … L

    .. math:: \tilde z^{(l)} = \mathrm{BN}(W^{(l)} \tilde h^{(l-1)}) + \varepsilon, \qquad
              \tilde h^{(l)} = \phi\big(\gamma^{(l)} (\tilde z^{(l)} + \beta^{(l)})\big)

    with z̃⁽⁰⁾ = h̃⁽⁰⁾ = x + ε, where BN is the batch normalisation without scale and shift, and φ is
    rectification, at the top the softmax. From the top down the decoder finds ẑ by a
    :class:`gencore.nn.GaussianCombinator` of the noisy layer and of what is above:

    .. math:: \hat z^{(l)} = g(\tilde z^{(l)}, u^{(l)}), \qquad
              u^{(L)} = \mathrm{BN}(\tilde h^{(L)}), \quad
              u^{(l)} = \mathrm{BN}(V^{(l+1)} \hat z^{(l+1)})

    and layer l of width m costs a point

    .. math:: C^{(l)} = \tfrac{1}{m} \big\lVert z^{(l)} - (\hat z^{(l)} - \mu^{(l)}) /
              \sigma^{(l)} \big\rVert^2

    with z the clean encoder's, and μ and σ those that it normalises by; 0 and 1 for the input. The
    energy of a point is Σ λ_l C⁽ˡ⁾. Labels train the noisy encoder by cross-entropy,
    the mean energy is added to that, and the clean encoder predicts.

    The noisy encoder and the decoder, which serve training, normalise over the batch at hand in
    both modes. So does a call in training mode; in evaluation mode it normalises by the moments
    of `fit_moments`, which are 0 and 1 before.

    Args:
        num_inputs: D.
        hidden_widths: of the hidden layers, first to last.
        num_classes: K.
        noise_std: standard deviation of ε.
        denoising_weights: λ of the input and of the layers above it; the last holds for all further
            ones. (λ, 0) is the network with the bottom layer's cost alone.

    Shape:
        [N, D] → logits [N, K] of the clean encoder.

    Raises:
        ValueError: for sizes below 1, a negative noise or weight, or no weights; on a call for
            other shapes, or fewer than two points to normalise over.

    References:
        Rasmus, Valpola, Honkala, Berglund and Raiko, "Semi-supervised learning with ladder
        networks", 2015, §3, algorithm 1. The defaults are those for MNIST.

    Example:
        >>> import torch
        >>> from gencore.nn import LadderNetwork
        >>> network, x = LadderNetwork(6, [8], 3, denoising_weights=(10.0, 0.0)), torch.rand(20, 6)
        >>> label = torch.tensor([0, 1, 2])
        >>> labelled = network.denoise(x[:3])
        >>> loss = torch.nn.functional.cross_entropy(labelled.logits, label)
        >>> (loss + network.energy(x).mean()).backward()
        >>> network.fit_moments(x)
        >>> network.eval()(x[:1]).shape
        torch.Size([1, 3])
    """

    def __init__(
        self,
        num_inputs: int,
        hidden_widths: Sequence[int],
        num_classes: int,
        *,
        noise_std: float = 0.3,
        denoising_weights: Sequence[float] = (1000.0, 10.0, 0.1),
    ) -> None:
        super().__init__()
        owner = "LadderNetwork"
        check_whole(owner, hidden_widths=list(hidden_widths))
        widths = (num_inputs, *hidden_widths, num_classes)
        check_positive(owner, num_inputs=num_inputs, num_classes=num_classes, width=min(widths))
        number(owner, "noise_std", noise_std)
        for weight in denoising_weights:
            number(owner, "denoising_weights", weight)
        if not 1 <= len(denoising_weights) <= len(widths):
            raise ValueError(
                f"{owner}: denoising_weights is {tuple(denoising_weights)}; expected 1 to "
                f"{len(widths)} numbers"
            )
        self.noise_std = noise_std
        missing = len(widths) - len(denoising_weights)
        self.denoising_weights = (*denoising_weights, *missing * (denoising_weights[-1],))
        self._widths = widths
        self.encoders = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(widths))
        self.decoders = nn.ModuleList(nn.Linear(b, a, bias=False) for a, b in pairwise(widths))
        self.scales = nn.ParameterList(torch.ones(width) for width in widths[1:])
        self.shifts = nn.ParameterList(torch.zeros(width) for width in widths[1:])
        self.combinators = nn.ModuleList(GaussianCombinator(width) for width in widths)
        self.means: Tensor
        self.register_buffer("means", torch.zeros(sum(widths[1:])))
        self.stds: Tensor
        self.register_buffer("stds", torch.ones(sum(widths[1:])))

    def forward(self, x: Tensor) -> Tensor:
        self._check(x, 2 if self.training else 0)
        if self.training:
            return self._encode(x).logits
        sizes = self._widths[1:]
        return self._encode(x, moments=(self.means.split(sizes), self.stds.split(sizes))).logits

    def denoise(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> LadderPass:
        """The noisy encoder's logits, and the costs of the layers.

        Args:
            x: points [N, D] that are normalised together.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the noise.
            first: number of rows of the batch before these.
        """
        self._check(x, 2)
        key = random_key(generator, device=x.device) if key is None else key
        total = sum(self._widths)
        noise = philox_normal((len(x), total), key, first_element=first * total, dtype=x.dtype)
        noisy = self._encode(x, (self.noise_std * noise).split(self._widths, 1))
        weights = self.denoising_weights
        # The input is its own target; those of the layers above take the encoder without noise.
        clean = self._encode(x) if any(weights[1:]) else None
        costs = [x.new_zeros(len(x))] * len(self._widths)
        above = noisy.logits.softmax(1)
        for layer in reversed(range(len(self._widths))):
            if layer < len(self.decoders):
                above = self.decoders[layer](above)
            denoised = self.combinators[layer](noisy.values[layer], _normalise(above)[0])
            if weights[layer]:
                target, estimate = x, denoised
                if layer and clean is not None:
                    target = clean.values[layer]
                    estimate = (denoised - clean.means[layer - 1]) / clean.stds[layer - 1]
                costs[layer] = (target - estimate).square().mean(1)
            above = denoised
        by_layer = torch.stack(costs, 1)
        return LadderPass(noisy.logits, by_layer, by_layer @ by_layer.new_tensor(weights))

    def energy(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Σ λ_l C⁽ˡ⁾ of points, [N]; arguments as for `denoise`."""
        return self.denoise(x, generator=generator, key=key, first=first).energy

    @torch.no_grad()
    def fit_moments(self, x: Tensor) -> None:
        """Have predictions normalise by the means and variances that the clean encoder has on
        points [N, D], those that it was trained on."""
        self._check(x, 2)
        encoding = self._encode(x)
        self.means.copy_(torch.cat(encoding.means))
        self.stds.copy_(torch.cat(encoding.stds))

    def _encode(
        self,
        x: Tensor,
        noise: Sequence[Tensor] | None = None,
        *,
        moments: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None,
    ) -> _Encoding:
        h = x if noise is None else x + noise[0]
        values, means, stds = [h], [], []
        for layer, encoder in enumerate(self.encoders):
            h = encoder(h)
            if moments is None:
                z, mean, std = _normalise(h)
            else:
                mean, std = moments[0][layer], moments[1][layer]
                z = (h - mean) / std
            if noise is not None:
                z = z + noise[layer + 1]
            values.append(z)
            means.append(mean)
            stds.append(std)
            h = self.scales[layer] * (z + self.shifts[layer])
            if layer < len(self.encoders) - 1:
                h = h.relu()
        return _Encoding(h, values, means, stds)

    def _check(self, x: Tensor, least: int) -> None:
        if x.ndim != 2 or x.shape[1] != self._widths[0] or len(x) < least:
            raise ValueError(
                f"LadderNetwork: x has shape {list(x.shape)}; expected [N, {self._widths[0]}]"
                + (f" with N at least {least}, to normalise over" if least else "")
            )

    def extra_repr(self) -> str:
        return f"noise_std={self.noise_std}, denoising_weights={self.denoising_weights}"


def _normalise(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x [N, D] of mean 0 and variance 1 in each column, with the means and standard deviations."""
    variance, mean = torch.var_mean(x, 0, correction=0)
    std = (variance + _EPSILON).sqrt()
    return (x - mean) / std, mean, std
