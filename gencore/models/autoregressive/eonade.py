"""One network for all orderings (Uria, Murray and Larochelle 2014)."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from gencore.models.autoregressive.ancestral import ancestral
from gencore.models.autoregressive.level_draws import level_log_prob
from gencore.models.autoregressive.orders import check_order
from gencore.models.autoregressive.running_sums import running_sums
from gencore.models.autoregressive.uniforms import uniforms
from gencore.models.autoregressive.vectors import AutoregressiveVectorModel
from gencore.models.log_mean_exp import log_mean_exp
from gencore.models.starts import like
from gencore.ops import random_key
from gencore.ops.mlp import ActivationName, activate, activation_kind
from gencore.sizes import check_whole

__all__ = ["EoNADE"]


class EoNADE(AutoregressiveVectorModel):
    r"""A deep NADE that knows the conditionals of all orders, and averages some: an ensemble.

    .. math:: p(x_i = 1 \mid x_M) = \sigma\big(b_i + V_i \cdot h(x \odot m, m)\big), \qquad
              p(x) \approx \frac{1}{K} \sum_{k=1}^{K} \prod_t p\big(x_{\sigma_k(t)} \mid
              x_{\sigma_k(<t)}\big)

    with the mask m of a set M of coordinates that are known, which the network h sees beside them.
    A call is the order-agnostic loss: for a random order and a random number d − 1 of coordinates
    that are known,

    .. math:: \frac{D}{D - d + 1} \sum_{i \notin M} -\log p(x_i \mid x_M),

    whose mean is that of −log p(x) over all orders.

    Args:
        features: D.
        hidden_widths: units of the hidden layers, first to last; at least one layer.
        levels: of a coordinate; the network sees x / (levels − 1).
        activation: "relu", "silu", "softplus", "tanh" or "leaky_relu" (of slope 0.01).
        order: the order of `conditionals`, and of `log_prob` and `sample` where no other is asked
            for; ``None``: as the coordinates come.

    Raises:
        ValueError: for sizes that are too small, or an order that is no permutation.

    References:
        Uria, Murray and Larochelle, "A deep and tractable density estimator", 2014.

    Example:
        >>> import torch
        >>> from gencore.models import EoNADE
        >>> model = EoNADE(3, hidden_widths=(16, 16))
        >>> cube = torch.cartesian_prod(*[torch.arange(2)] * 3)
        >>> model(cube).mean().backward()
        >>> round(model.log_prob(cube, orderings=4).exp().sum().item(), 4)
        1.0
        >>> known = torch.tensor([False, True, True])  # any part, since any order will do
        >>> model.sample(5, given=cube[3], known=known)[:, 1:].unique(dim=0)
        tensor([[1, 1]])
    """

    def __init__(
        self,
        features: int,
        hidden_widths: Sequence[int] = (500, 500),
        *,
        levels: int = 2,
        activation: ActivationName = "relu",
        order: Sequence[int] | Tensor | None = None,
    ) -> None:
        super().__init__(features, levels, order)
        widths = tuple(hidden_widths)
        check_whole("EoNADE", hidden_widths=widths)
        if not widths or min(widths) < 1:
            raise ValueError(
                f"EoNADE: hidden_widths are {widths}; expected a positive width for each hidden "
                "layer, at least one"
            )
        self._kind, self._slope = activation_kind("EoNADE", activation, 0.01)
        self.input_weight = nn.Parameter(torch.empty(features, widths[0]))
        self.mask_weight = nn.Parameter(torch.empty(features, widths[0]))
        self.input_bias = nn.Parameter(torch.zeros(widths[0]))
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))
        self.output_weight = nn.Parameter(torch.empty(features, self.num_logits, widths[-1]))
        self.output_bias = nn.Parameter(torch.zeros(features, self.num_logits))
        for weight, fan_in in (
            (self.input_weight, 2 * features),
            (self.mask_weight, 2 * features),
            (self.output_weight, widths[-1]),
        ):
            nn.init.uniform_(weight, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def forward(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """The order-agnostic loss of each row, [N]; an order and a number d of its own for each.

        Args:
            x: integers [N, D].
            generator: draws the key where none is given; torch's default where both are missing.
            key: int64 [seed, offset].
            first: number of rows of the batch before these.

        Raises:
            ValueError, TypeError: for data that do not fit.
        """
        self._check(x)
        features = self.features
        key = random_key(generator, device=x.device) if key is None else key
        numbers = uniforms(len(x), features + 1, key, first=first)
        ranks = numbers[:, 1:].argsort(1).argsort(1)
        # d − 1 of 0, …, D − 1; clamped, since a product with D can round up to it.
        num_known = (numbers[:, :1] * features).long().clamp(max=features - 1)
        known = ranks < num_known
        losses = -level_log_prob(self.masked_logits(self.inputs(x), known), x)
        weight = features / (features - num_known[:, 0])
        return torch.where(known, 0, losses).sum(1) * weight

    def masked_logits(self, u: Tensor, known: Tensor) -> Tensor:
        """The logits of all coordinates given those that are known, [N, D, 1 or levels].

        Args:
            u: inputs [N, D].
            known: bool [N, D].
        """
        mask = known.to(u.dtype)
        hidden = torch.addmm(self.input_bias, mask * u, self.input_weight)
        hidden = self._hidden(torch.addmm(hidden, mask, self.mask_weight))
        return torch.einsum("nh,dkh->ndk", hidden, self.output_weight) + self.output_bias

    def logits(self, u: Tensor) -> Tensor:
        return self._ordered_logits(u, self.order)

    def log_prob(
        self,
        x: Tensor,
        orderings: int | Tensor | None = None,
        *,
        generator: Generator | None = None,
    ) -> Tensor:
        """log p(x), [N]: of the model's order, or the logarithm of the mean of p over orderings.

        Args:
            x: integers [N, D].
            orderings: their number, to be drawn at random, or permutations int64 [K, D].
            generator: of random orderings.

        Raises:
            ValueError, TypeError: for data or orderings that do not fit.
        """
        self._check(x)
        u = self.inputs(x)
        log_probs = [
            level_log_prob(self._ordered_logits(u, order), x).sum(1)
            for order in self._orderings(orderings, generator)
        ]
        return log_mean_exp(torch.stack(log_probs))

    def steps(self, u: Tensor) -> Iterator[Tensor]:
        return self._ordered_steps(u, self.order.expand(u.shape))

    def _check_exact(self, known: Tensor) -> None:
        """Every known part comes first in some order, which `_draw` takes."""

    def _draw(self, x: Tensor, known: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        # The known coordinates first, and otherwise in the model's order.
        late = (~known[:, self.order]).to(torch.int8)
        order = self.order[late.argsort(dim=1, stable=True)]
        return ancestral(
            x, known, draws, order, lambda u: self._ordered_steps(u, order), self.inputs
        )

    def _ordered_logits(self, u: Tensor, order: Tensor) -> Tensor:
        """The logits of the conditionals in an order [D], in the places of their coordinates."""
        weight, bias, output = (
            parameter[order]
            for parameter in (self.input_weight, self.mask_weight, self.output_weight)
        )
        parts = [
            torch.einsum("nth,tkh->ntk", self._hidden(sums), output[part])
            for part, sums in running_sums(self.input_bias, u[:, order], weight, bias)
        ]
        return torch.cat(parts, 1)[:, order.argsort()] + self.output_bias

    def _ordered_steps(self, u: Tensor, order: Tensor) -> Iterator[Tensor]:
        total = self.input_bias.expand(len(u), -1)
        for place in order.unbind(1):
            output, hidden = self.output_weight[place], self._hidden(total)
            yield torch.einsum("nh,nkh->nk", hidden, output) + self.output_bias[place]
            value = u.gather(1, place.unsqueeze(1))
            total = total + value * self.input_weight[place] + self.mask_weight[place]

    def _hidden(self, first: Tensor) -> Tensor:
        """The last hidden layer, from the sums that enter the first, [..., H]."""
        hidden = activate(first, self._kind, self._slope)
        for layer in self.layers:
            hidden = activate(layer(hidden), self._kind, self._slope)
        return hidden

    def _orderings(
        self, orderings: int | Tensor | None, generator: Generator | None
    ) -> list[Tensor]:
        if orderings is None:
            return [self.order]
        device = like(self).device
        if isinstance(orderings, Tensor):
            if orderings.dim() != 2 or not len(orderings):
                raise ValueError(
                    f"EoNADE: orderings have shape {list(orderings.shape)}; expected [K, "
                    f"{self.features}] with K of at least 1"
                )
            return [check_order("EoNADE", o, self.features).to(device) for o in orderings]
        if orderings < 1:
            raise ValueError(f"EoNADE: orderings is {orderings}; expected at least 1")
        key = random_key(generator, device=device)
        return list(uniforms(orderings, self.features, key).argsort(1))
