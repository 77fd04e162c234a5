"""The neural autoregressive distribution estimator (Larochelle and Murray 2011)."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from gencore.models.autoregressive.running_sums import running_sums
from gencore.models.autoregressive.vectors import AutoregressiveVectorModel
from gencore.sizes import check_positive

__all__ = ["NADE"]


class NADE(AutoregressiveVectorModel):
    r"""An autoencoder a coordinate, all of which share their weights: O(D·H) for all conditionals.

    .. math:: h_i = \sigma\Big(c + \sum_{j \prec i} W_j\, x_j\Big), \qquad
              p(x_i = 1 \mid x_{\prec i}) = \sigma\big(b_i + V_i \cdot h_i\big)

    where j ≺ i says that j comes before i in the order. The sum runs along the order, so that each
    conditional adds one row of W to that of the one before. More than two levels have a softmax of
    as many rows V_i, and the sum sees x / (levels − 1).

    Args:
        features: D.
        num_hidden: H, units of the hidden layer.
        levels: of a coordinate.
        order: the coordinates from first to last; ``None``: as they come.

    Shape:
        integers [N, D]; `log_prob` → [N], `conditionals` → [N, D, 1 or levels].

    Raises:
        ValueError: for sizes that are too small, or an order that is no permutation.

    References:
        Larochelle and Murray, "The neural autoregressive distribution estimator", 2011, §3,
        Algorithm 1.

    Example:
        >>> import torch
        >>> from gencore.models import NADE
        >>> nade = NADE(3, num_hidden=8, order=[2, 0, 1])
        >>> cube = torch.cartesian_prod(*[torch.arange(2)] * 3)
        >>> round(nade.log_prob(cube).exp().sum().item(), 4)
        1.0
        >>> known = torch.tensor([False, False, True])  # the first of the order
        >>> nade.sample(5, given=torch.ones(3, dtype=torch.int64), known=known)[:, 2]
        tensor([1, 1, 1, 1, 1])
    """

    def __init__(
        self,
        features: int,
        num_hidden: int = 500,
        *,
        levels: int = 2,
        order: Sequence[int] | Tensor | None = None,
    ) -> None:
        super().__init__(features, levels, order)
        check_positive("NADE", num_hidden=num_hidden)
        self.input_weight = nn.Parameter(torch.empty(features, num_hidden))
        self.hidden_bias = nn.Parameter(torch.zeros(num_hidden))
        self.output_weight = nn.Parameter(torch.empty(features, self.num_logits, num_hidden))
        self.output_bias = nn.Parameter(torch.zeros(features, self.num_logits))
        for weight, fan_in in ((self.input_weight, features), (self.output_weight, num_hidden)):
            nn.init.uniform_(weight, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def logits(self, u: Tensor) -> Tensor:
        weight, output = self.input_weight[self.order], self.output_weight[self.order]
        parts = [
            torch.einsum("nth,tkh->ntk", torch.sigmoid(sums), output[part])
            for part, sums in running_sums(self.hidden_bias, u[:, self.order], weight)
        ]
        return torch.cat(parts, 1)[:, self.order.argsort()] + self.output_bias

    def steps(self, u: Tensor) -> Iterator[Tensor]:
        total = self.hidden_bias.expand(len(u), -1)
        for place in self.order.tolist():
            hidden = torch.sigmoid(total)
            yield hidden @ self.output_weight[place].T + self.output_bias[place]
            total = total + u[:, place, None] * self.input_weight[place]
