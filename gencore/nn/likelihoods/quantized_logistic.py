"""One logistic distribution a channel, cut into bins of some levels each."""

from gencore.nn.likelihoods.discretized_logistic import SingleLogistic
from gencore.nn.likelihoods.pixel_likelihood import check_levels_count
from gencore.ops.logistic_mixture_reference import LogisticSettings

__all__ = ["QuantizedLogistic"]


class QuantizedLogistic(SingleLogistic):
    r"""The likelihood of an image quantised to b values, of its levels y from 0 to L − 1.

    .. math:: p(y) = \sigma\Big(\frac{c + c\lfloor y/c\rfloor - \mu}{s}\Big)
                     - \sigma\Big(\frac{c\lfloor y/c\rfloor - \mu}{s}\Big), \qquad c = L/b

    The first bin reaches down to −∞, the last up to +∞. All levels of a bin have its probability:
    ``log_prob`` is that of the quantised image. As a distribution of levels it has all of a bin on
    c⌊y/c⌋, the first level of the bin, which is also what ``draw`` gives. P = C means, of levels
    scaled to [−1, 1], and a learned log-scale a channel. U = C: of uniform number c the bin of
    μ + s·logit(u). With b = L it is :class:`DiscretizedLogistic` with the mean half a level lower.

    Args:
        levels: L.
        bins: b, a divisor of L.
        channels: C.

    Raises:
        ValueError: for values that do not fit.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, (3.17).

    Example:
        >>> import torch
        >>> from gencore.nn import QuantizedLogistic
        >>> likelihood = QuantizedLogistic(bins=2, channels=1)
        >>> y = torch.tensor([[[[0, 127, 128, 255]]]])
        >>> likelihood.log_prob(torch.zeros(1, 1, 1, 4), y).exp().detach()
        tensor([[[0.5010, 0.5010, 0.4990, 0.4990]]])
    """

    def __init__(self, levels: int = 256, bins: int = 16, *, channels: int = 3) -> None:
        levels = check_levels_count("QuantizedLogistic", levels)
        if type(bins) is not int or bins < 1 or levels % bins:
            raise ValueError(
                f"QuantizedLogistic: bins is {bins!r}; expected a divisor of levels, {levels}"
            )
        settings = LogisticSettings(levels, 1, False, False, levels // bins, 0.0, -30.0)
        super().__init__(settings, channels)

    @property
    def bins(self) -> int:
        """b."""
        return self.settings.bins

    def extra_repr(self) -> str:
        return f"levels={self.levels}, bins={self.bins}"
