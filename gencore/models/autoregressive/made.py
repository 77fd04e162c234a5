"""The masked autoencoder for distribution estimation (Germain et al. 2015), on levels."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from gencore.models.autoregressive.ancestral import ancestral
from gencore.models.autoregressive.level_draws import level_log_prob
from gencore.models.autoregressive.vectors import AutoregressiveVectorModel
from gencore.models.log_mean_exp import log_mean_exp
from gencore.nn import MADE
from gencore.nn.fixed_buffers import with_values
from gencore.ops.mlp import ActivationName
from gencore.sizes import check_positive, check_whole

__all__ = ["DiscreteMADE"]


class DiscreteMADE(AutoregressiveVectorModel):
    r"""All conditionals in one pass of a masked network, or the mean over several sets of masks.

    .. math:: p(x) = \frac{1}{K} \sum_{k=1}^{K} \prod_i p\big(x_i \mid x_{\prec_k i};\,
              W \odot M_k\big)

    The sets of masks share the weights. Set 0 is that of :class:`gencore.nn.MADE` in the given
    order; each further set permutes its hidden units at random (it is connectivity-agnostic) and,
    if `order_agnostic`, the coordinates too. The degrees of hidden units are spread evenly, where
    the paper draws them. In training one set is drawn for every call.

    Args:
        features: D.
        hidden_widths: units of the hidden layers, at least two each.
        levels: of a coordinate; the network sees x / (levels − 1).
        activation: "relu", "silu", "softplus", "tanh" or "leaky_relu" (of slope 0.01).
        order: of the first set of masks, the coordinates from first to last; "natural" for as they
            come, or "random".
        num_masks: K.
        order_agnostic: draw an order for each further set of masks; else they all have the first.
        seed: of random orders and connections, which are saved with the weights.

    Raises:
        ValueError: for sizes that are too small, or an order that is no permutation.

    References:
        Germain, Gregor, Murray and Larochelle, "MADE: Masked Autoencoder for Distribution
        Estimation", 2015, §4.

    Example:
        >>> import torch
        >>> from gencore.models import DiscreteMADE
        >>> made = DiscreteMADE(3, (16,), num_masks=4, order_agnostic=True)
        >>> cube = torch.cartesian_prod(*[torch.arange(2)] * 3)
        >>> round(made.log_prob(cube).exp().sum().item(), 4)
        1.0
        >>> made(cube).mean().backward()  # of one set of masks
        >>> made.sample(5).shape
        torch.Size([5, 3])
    """

    orders: Tensor

    def __init__(
        self,
        features: int,
        hidden_widths: Sequence[int] = (500,),
        *,
        levels: int = 2,
        activation: ActivationName = "relu",
        order: Sequence[int] | Tensor | Literal["natural", "random"] = "natural",
        num_masks: int = 1,
        order_agnostic: bool = False,
        seed: int = 0,
    ) -> None:
        check_positive("DiscreteMADE", num_masks=num_masks)
        with with_values():
            generator = torch.Generator().manual_seed(seed)

            def permutation(size: int) -> Tensor:
                return torch.randperm(size, generator=generator)

            first: Sequence[int] | Tensor | None
            if isinstance(order, str):
                if order not in ("natural", "random"):
                    raise ValueError(
                        f'DiscreteMADE: order is {order!r}; expected "natural", "random" or a '
                        "permutation"
                    )
                first = permutation(features) if order == "random" else None
            else:
                first = order
        super().__init__(features, levels, first)
        self.num_masks, self.order_agnostic = num_masks, order_agnostic
        check_whole("DiscreteMADE", hidden_widths=tuple(hidden_widths))
        self.network = MADE(features, hidden_widths, self.num_logits, activation=activation)
        with with_values():
            own = [torch.arange(width) for width in self.network.hidden_widths]
            units = [[u, *(permutation(len(u)) for _ in range(num_masks - 1))] for u in own]
            given = torch.arange(features) if first is None else torch.as_tensor(first)
            orders = [
                permutation(features) if order_agnostic and index else given
                for index in range(num_masks)
            ]
        self.register_fixed("orders", torch.stack(orders))
        for layer, permutations in enumerate(units):
            self.register_fixed(f"units{layer}", torch.stack(permutations))

    def logits(self, u: Tensor, mask: int = 0) -> Tensor:
        return self.network(u, masks=self._masks(mask)).transpose(-1, -2)

    def conditionals(self, x: Tensor, mask: int = 0) -> Tensor:
        """The logits of p(x_i | what comes before i) for all i, [N, D, 1 or levels].

        Args:
            x: integers [N, D].
            mask: number of the set of masks; `order` is that of the first.

        Raises:
            ValueError, TypeError: for data that do not fit.
        """
        self._check(x)
        return self.logits(self.inputs(x), mask)

    def log_prob(self, x: Tensor, mask: int | None = None) -> Tensor:
        """log p(x), [N], of one set of masks, or the logarithm of the mean of p over all.

        Args:
            x: integers [N, D].
            mask: number of the set of masks; ``None`` for all.

        Raises:
            ValueError, TypeError: for data that do not fit.
        """
        masks = range(self.num_masks) if mask is None else (mask,)
        log_probs = [level_log_prob(self.conditionals(x, m), x).sum(1) for m in masks]
        return log_mean_exp(torch.stack(log_probs))

    def forward(self, x: Tensor) -> Tensor:
        """−log p(x), [N], of one set of masks, drawn at random by torch's default generator."""
        mask = int(torch.randint(self.num_masks, (), device="cpu")) if self.num_masks > 1 else 0
        return -self.log_prob(x, mask)

    def steps(self, u: Tensor, mask: int = 0) -> Iterator[Tensor]:
        """The logits [N, 1 or levels] of one coordinate after another in the order of a set.

        A coordinate adds a column to the sums that enter the first hidden layer.
        """
        linears = self.network.linears()
        weights = [
            linear.weight * masked
            for linear, masked in zip(linears, self._masks(mask), strict=True)
        ]
        first, *between, last = zip(weights, [linear.bias for linear in linears], strict=True)
        blocks = torch.arange(self.num_logits, device=u.device) * self.features
        total = first[1].expand(len(u), -1)
        for place in self.orders[mask].tolist():
            hidden = self.network.activate(total)
            for weight, bias in between:
                hidden = self.network.activate(functional.linear(hidden, weight, bias))
            rows = blocks + place
            yield functional.linear(hidden, last[0][rows], last[1][rows])
            total = total + u[:, place, None] * first[0][:, place]

    @property
    def _num_draws(self) -> int:
        return self.features + 1  # the first chooses a set of masks

    def _check_exact(self, known: Tensor) -> None:
        if self.num_masks > 1:
            self._needs_particles(known, "the model is a mean over sets of masks")
        else:
            super()._check_exact(known)

    def _draw(self, x: Tensor, known: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        x, log_weight = x.clone(), torch.zeros(len(x), device=x.device)
        chosen = (draws[:, 0] * self.num_masks).long().clamp(max=self.num_masks - 1)
        for mask in chosen.unique().tolist():
            rows = (chosen == mask).nonzero()[:, 0]
            x[rows], weights = ancestral(
                x[rows], known[rows], draws[rows, 1:], self.orders[mask],
                partial(self.steps, mask=mask), self.inputs,
            )  # fmt: skip
            log_weight[rows] = weights.to(log_weight.dtype)
        return x, log_weight

    def _masks(self, index: int) -> list[Tensor]:
        """The network's masks with inputs, hidden units and outputs in the places of a set."""
        if not 0 <= index < self.num_masks:
            raise ValueError(f"DiscreteMADE: mask is {index}; expected 0 to {self.num_masks - 1}")
        ranks = self.orders[index].argsort()
        layers = range(len(self.network.hidden_widths))
        units = [self.get_buffer(f"units{layer}")[index] for layer in layers]
        # The outputs are blocks of D, one for each logit.
        outputs = torch.cat([block * self.features + ranks for block in range(self.num_logits)])
        return [
            self.network.mask(layer)[after][:, before]
            for layer, (before, after) in enumerate(pairwise([ranks, *units, outputs]))
        ]
