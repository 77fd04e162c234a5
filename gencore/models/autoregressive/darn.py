"""Deep autoregressive networks: binary latents behind binary data (Gregor et al. 2014)."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from gencore.models.autoregressive.ancestral import ancestral
from gencore.models.autoregressive.orders import check_order
from gencore.models.autoregressive.uniforms import uniforms
from gencore.models.autoregressive.vector_model import VectorModel
from gencore.models.starts import like
from gencore.nn import MLP
from gencore.nn.fixed_buffers import FixedBuffers, with_values
from gencore.ops import random_key
from gencore.sizes import check_whole

__all__ = ["DARN"]

# log p(x) is a sum over so many latent bits at most, and over so many rows at once.
_MAX_BITS = 16
_CHUNK = 2**16


class DARN(VectorModel):
    r"""An autoencoder of stochastic binary units, autoregressive within each layer.

    .. math:: p(x) = \sum_h p(h^L)\, \prod_{l=2}^{L} p(h^{l-1} \mid h^l)\; p(x \mid h^1), \qquad
              p(y_i = 1 \mid y_{<i}, c) = \sigma\big(b_i + W_{i,<i}\, y_{<i} + f_i(c)\big)

    where y is a layer of latents h^l or the data x, c the layer above and f a network of
    deterministic layers. The encoder q(h | x) is factorised within a layer. A call is minus the
    variational bound, the description length of x and h less the bits back,

    .. math:: \log p(x) \ge \mathbb{E}_{q(h \mid x)} \log p(x, h) + H\big(q(h \mid x)\big),

    from one draw of h. Its gradient passes through the drawn bits by the paper's estimator, the
    mean of derivatives at 0 and at 1 (the "½ estimator"), see :func:`half_gradient_bits`: it is
    unbiased where the bound is quadratic in each bit, has little variance, and needs no baseline.

    Args:
        features: D.
        latents: units of the stochastic layers, from the data upwards.
        hidden_widths: of the deterministic tanh layers in each network between two stochastic
            layers; none for linear maps.
        order: the coordinates of the data from first to last; ``None``: as they come.

    Raises:
        ValueError: for sizes that are too small, or an order that is no permutation.

    References:
        Gregor, Danihelka, Mnih, Blundell and Wierstra, "Deep AutoRegressive Networks", 2014. The
        estimator's name and analysis: Gu, Levine, Sutskever and Mnih, "MuProp: Unbiased
        Backpropagation for Stochastic Neural Networks", 2016.

    Example:
        >>> import torch
        >>> from gencore.models import DARN
        >>> darn = DARN(3, latents=(4,))
        >>> cube = torch.cartesian_prod(*[torch.arange(2)] * 3)
        >>> darn(cube).mean().backward()
        >>> round(darn.log_prob(cube).exp().sum().item(), 4)
        1.0
        >>> darn.importance_bound(cube, 10).shape, darn.sample(5).shape
        (torch.Size([8]), torch.Size([5, 3]))
    """

    def __init__(
        self,
        features: int,
        latents: Sequence[int] = (500,),
        *,
        hidden_widths: Sequence[int] = (),
        order: Sequence[int] | Tensor | None = None,
    ) -> None:
        super().__init__(features)
        self.latents = tuple(latents)
        check_whole("DARN", latents=self.latents, hidden_widths=tuple(hidden_widths))
        if not self.latents or min(self.latents) < 1:
            raise ValueError(
                f"DARN: latents are {self.latents}; expected a positive number for each stochastic "
                "layer, at least one"
            )
        sizes = (features, *self.latents)
        self.encoders = nn.ModuleList(
            MLP(below, hidden_widths, above, activation="tanh", zero_last=False)
            for below, above in pairwise(sizes)
        )
        # From the data upwards: each given the layer above, and the top one given nothing.
        self.decoders = nn.ModuleList(
            Autoregression(size, above, hidden_widths, None if layer else order)
            for layer, (size, above) in enumerate(pairwise((*sizes, 0)))
        )

    @property
    def num_bits(self) -> int:
        """The latent bits of all stochastic layers together."""
        return sum(self.latents)

    def forward(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Minus `elbo`, [N]: what training minimises."""
        return -self.elbo(x, generator=generator, key=key, first=first)

    def elbo(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """The variational bound on log p(x) from one draw of the latents, [N].

        The entropy of a layer of q is that of the layer's probabilities, not of the draw.

        Args:
            x: integers [N, D].
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset].
            first: number of rows of the batch before these.

        Raises:
            ValueError, TypeError: for data that do not fit.
        """
        self._check(x)
        key = random_key(generator, device=x.device) if key is None else key
        numbers = uniforms(len(x), self.num_bits, key, first=first).split(self.latents, 1)
        layer = self.inputs(x)
        layers, entropy = [layer], layer.new_zeros(len(x))
        for encoder, number in zip(self.encoders, numbers, strict=True):
            logits = encoder(layer).to(layer.dtype)
            entropy = entropy + _entropy(logits).sum(1)
            layer = half_gradient_bits(logits, number)
            layers.append(layer)
        return self._log_joint(layers) + entropy

    def log_joint(self, x: Tensor, h: Tensor) -> Tensor:
        """log p(x, h), [N], of data [N, D] and all latents [N, num_bits], from the data upwards."""
        return self._log_joint(self._layers(x, h))

    def log_posterior(self, h: Tensor, x: Tensor) -> Tensor:
        """log q(h | x) of the encoder, [N]; arguments as for `log_joint`."""
        layers = self._layers(x, h)
        log_q = layers[0].new_zeros(len(x))
        for encoder, below, layer in zip(self.encoders, layers, layers[1:], strict=False):
            log_q = log_q + _log_bernoulli(encoder(below), layer)
        return log_q

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), [N], by summing over all latents.

        Args:
            x: integers [N, D].

        Raises:
            ValueError: for more than 16 latent bits, and for data that do not fit.
            TypeError: for data that do not fit.
        """
        self._check(x)
        if self.num_bits > _MAX_BITS:
            raise ValueError(
                f"DARN: log_prob sums over all latents, and {self.num_bits} bits are too many; "
                f"expected at most {_MAX_BITS} (importance_bound estimates it)"
            )
        h = self.all_latents()
        parts = []
        for codes in h.split(max(1, _CHUNK // max(len(x), 1))):
            rows = x.repeat_interleave(len(codes), 0)
            log_joint = self.log_joint(rows, codes.repeat(len(x), 1))
            parts.append(log_joint.view(len(x), len(codes)).logsumexp(1))
        return torch.stack(parts).logsumexp(0)

    def all_latents(self) -> Tensor:
        """All codes of the latents, bool [2^num_bits, num_bits], in ascending order."""
        numbers = torch.arange(2**self.num_bits, device=like(self).device)
        return (numbers.unsqueeze(1) >> torch.arange(self.num_bits).flip(0).to(numbers)) & 1 == 1

    @torch.no_grad()
    def importance_bound(
        self, x: Tensor, num_samples: int, *, generator: Generator | None = None
    ) -> Tensor:
        """The importance-weighted bound on log p(x), tight as the samples grow in number, [N].

        .. math:: \\log \\frac{1}{K} \\sum_{k=1}^{K} \\frac{p(x, h_k)}{q(h_k \\mid x)}, \\qquad
                  h_k \\sim q(h \\mid x)

        Args:
            x: integers [N, D].
            num_samples: K.
            generator: of the samples.

        Raises:
            ValueError, TypeError: for data that do not fit, or fewer than one sample.

        References:
            Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", 2016, eq. (8).
        """
        self._check(x)
        if num_samples < 1:
            raise ValueError(f"DARN: num_samples is {num_samples}; expected at least 1")
        key = random_key(generator, device=x.device)
        total = torch.empty(0)
        for index in range(num_samples):
            numbers = uniforms(len(x), self.num_bits, key, first=index * len(x))
            layer, h = self.inputs(x), []
            for encoder, number in zip(self.encoders, numbers.split(self.latents, 1), strict=True):
                layer = (number < torch.sigmoid(encoder(layer))).to(layer.dtype)
                h.append(layer)
            codes = torch.cat(h, 1)
            log_weight = self.log_joint(x, codes) - self.log_posterior(codes, x)
            total = log_weight if index == 0 else torch.logaddexp(total, log_weight)
        return total - math.log(num_samples)

    @property
    def _num_draws(self) -> int:
        return self.features + self.num_bits

    def _check_exact(self, known: Tensor) -> None:
        self._needs_particles(known, "the latents behind the known part have no closed posterior")

    def _draw(self, x: Tensor, known: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        above: Tensor | None = None
        data, *latents = zip(
            self.autoregressions, draws.split((self.features, *self.latents), 1), strict=True
        )
        for decoder, numbers in reversed(latents):
            nothing = torch.zeros_like(numbers, dtype=torch.int64)
            h, _ = ancestral(
                nothing, nothing.bool(), numbers, decoder.order,
                partial(decoder.steps, context=above), self.inputs,
            )  # fmt: skip
            above = self.inputs(h)
        decoder, numbers = data
        return ancestral(
            x, known, numbers, decoder.order, partial(decoder.steps, context=above), self.inputs
        )

    @property
    def autoregressions(self) -> "list[Autoregression]":
        """The distributions of the layers given those above, from the data upwards."""
        return [layer for layer in self.decoders if isinstance(layer, Autoregression)]

    def _layers(self, x: Tensor, h: Tensor) -> list[Tensor]:
        self._check(x)
        if h.shape != (len(x), self.num_bits):
            raise ValueError(
                f"DARN: latents have shape {list(h.shape)}; expected [{len(x)}, {self.num_bits}]"
            )
        return [self.inputs(x), *self.inputs(h).split(self.latents, 1)]

    def _log_joint(self, layers: list[Tensor]) -> Tensor:
        above: list[Tensor | None] = [*layers[1:], None]
        log_prob = layers[0].new_zeros(len(layers[0]))
        for decoder, layer, context in zip(self.decoders, layers, above, strict=True):
            log_prob = log_prob + _log_bernoulli(decoder(layer, context), layer)
        return log_prob


def half_gradient_bits(logits: Tensor, number: Tensor) -> Tensor:
    r"""Bits h ~ Bernoulli(σ(l)) with a derivative: that of E f(h), for functions f quadratic in h.

    The derivative of q f(1) + (1 − q) f(0) with q = σ(l) is q (1 − q) (f(1) − f(0)), and the
    difference is that of the derivatives' mean, (f′(0) + f′(1)) / 2, where f is quadratic. Its
    estimate from the drawn bit alone, f′(h) / 2q(h), passes f′(h) (1 − q(h)) / 2 on to l.

    Args:
        logits: l.
        number: uniform in [0, 1), of the same shape.
    """
    q = torch.sigmoid(logits.detach())
    h = (number < q).to(q.dtype)
    q_of_h = torch.where(h > 0, q, 1 - q)
    return h + (logits - logits.detach()) * (1 - q_of_h) / 2


class Autoregression(FixedBuffers):
    """Logits b + W y + f(c) of bits y [N, S], with W strictly triangular in an order."""

    order: Tensor
    mask: Tensor

    def __init__(
        self,
        size: int,
        context_size: int,
        hidden_widths: Sequence[int],
        order: Sequence[int] | Tensor | None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size, size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.context = None
        if context_size:
            self.context = MLP(
                context_size, hidden_widths, size, activation="tanh", zero_last=False
            )
        with with_values():
            order = check_order("DARN", order, size)
            rank = order.argsort()
            mask = rank[:, None] > rank[None, :]
        self.register_fixed("order", order)
        self.register_fixed("mask", mask, persistent=False)

    def forward(self, y: Tensor, context: Tensor | None) -> Tensor:
        logits = functional.linear(y, self.weight * self.mask, self.bias)
        return logits if self.context is None else logits + self.context(context)

    def steps(self, y: Tensor, context: Tensor | None) -> Iterator[Tensor]:
        weight = self.weight * self.mask
        logits = self.forward(torch.zeros_like(y), context)
        for place in self.order.tolist():
            yield logits[:, place, None]
            logits = logits + y[:, place, None] * weight[:, place]


def _log_bernoulli(logits: Tensor, y: Tensor) -> Tensor:
    """log p(y) of bits, [N]: also differentiable in them."""
    logits = logits.to(y.dtype)  # which are less precise under autocast
    return (y * logits - functional.softplus(logits)).sum(1)


def _entropy(logits: Tensor) -> Tensor:
    """The entropy of a bit with these log-odds, in nats."""
    return functional.softplus(logits) - logits * torch.sigmoid(logits)
