"""The logit, which takes data from an interval to all real numbers."""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gencore.nn.transforms.base import Transform, looks_at_values, row_sums
from gencore.ops._support.checks import accumulation_dtype

__all__ = ["Logit"]


class Logit(Transform):
    r"""The logit of each number of [0, 1], slightly drawn towards ½.

    .. math:: z = \operatorname{logit}(y), \qquad y = α + (1 - 2α)\,x, \qquad
              \log\lvert\det\rvert = \sum \log\frac{1 - 2α}{y\,(1 - y)}

    With α > 0 the ends 0 and 1 have finite latents, ±log((1 − α)/α). The map is then one of the
    open interval from −α/(1 − 2α) to 1 + α/(1 − 2α): latents further out give data slightly beyond
    0 or 1, and what a flow's density holds there is missing from [0, 1]. With α = 0 the data have
    to be within the open interval (0, 1).

    The inverse stays within the open interval in every dtype, if need be by rounding: between
    1 − 6e-8 and 1 there is no float32, so that with α = 0 all latents from 17 up give that number.
    Close to 0 the digits of small numbers are kept in both directions.

    Args:
        alpha: α, 0 or more and less than ½; 1e-6 was taken for the grey levels of MNIST, 0.05 for
            those of photographs.

    Raises:
        ValueError: for another α; on a call with data on the CPU, for values at the interval's
            ends or beyond. On a GPU, where a look at them would stop the host, these give infinite
            or NaN latents.

    References:
        Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", 2017, §4.1.
        Papamakarios, Pavlakou and Murray, "Masked Autoregressive Flow for Density Estimation",
        2017, §4.3.

    Example:
        >>> import torch
        >>> from gencore.models import Flow
        >>> from gencore.nn import Logit
        >>> uniform = Flow(Logit(0.0), [2], base="logistic")
        >>> bool(uniform.log_prob(torch.tensor([[0.3, 0.999]])).abs() < 1e-5)
        True
    """

    def __init__(self, alpha: float = 1e-6) -> None:
        super().__init__()
        if not 0 <= alpha < 0.5:
            raise ValueError(f"Logit: alpha is {alpha}; expected at least 0 and less than 0.5")
        self.alpha = float(alpha)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        wide, share = x.to(accumulation_dtype(x)), 1 - 2 * self.alpha
        # 1 − y is made of 1 − x, which is exact next to 1.
        y, rest = self.alpha + share * wide, self.alpha + share * (1 - wide)
        if looks_at_values(x) and not bool(((y > 0) & (rest > 0) | y.isnan()).all()):
            reach = self.alpha / share
            hint = "" if self.alpha else "; alpha > 0 takes 0 and 1 as well"
            raise ValueError(
                f"Logit: data reach from {x.min().item():g} to {x.max().item():g}; expected values "
                f"above {-reach:g} and below 1{f' + {reach:g}' if reach else ''}{hint}"
            )
        log_y, log_rest = y.log(), rest.log()
        log_slope = math.log(share) - log_y - log_rest
        return (log_y - log_rest).to(x.dtype), row_sums(log_slope)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        wide, share = z.to(accumulation_dtype(z)), 1 - 2 * self.alpha
        finfo = torch.finfo(z.dtype)
        # What rounding below can move y by, and a little more.
        low = max(finfo.tiny, 4 * finfo.eps * self.alpha)
        high = 1 - (2 * finfo.eps if self.alpha else finfo.eps / 2)
        y = torch.sigmoid(wide).clamp(low, high)
        log_slope = logsigmoid(wide) + logsigmoid(-wide) - math.log(share)
        return ((y - self.alpha) / share).to(z.dtype), row_sums(log_slope)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}"
