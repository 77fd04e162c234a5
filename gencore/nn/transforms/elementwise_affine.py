"""Fixed scales and shifts, such as those that standardise training data."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gencore.nn.fixed_buffers import FixedBuffers, with_values
from gencore.nn.transforms.actnorm import channel_moments, varies
from gencore.nn.transforms.base import Transform, check_channels
from gencore.ops._support.checks import accumulation_dtype

__all__ = ["ElementwiseAffine"]


class ElementwiseAffine(FixedBuffers, Transform):
    r"""A fixed shift and scale of each column, or channel, of the data.

    .. math:: z_c = (x_c - l_c) / s_c, \qquad \log\lvert\det\rvert = -P \textstyle\sum_c \log s_c

    for P positions in a channel; columns of vectors have one. Both are buffers: part of the state
    dict, and not trained. :meth:`standardize` and :meth:`min_max` take them from training data.

    Args:
        loc: l, [C].
        scale: s > 0, [C].

    Raises:
        ValueError: for values that are not finite, scales that are not positive, or other shapes;
            on a call, for data with another number of channels.

    Example:
        >>> import torch
        >>> from gencore.nn import ElementwiseAffine
        >>> x = torch.tensor([[1.0, 7.0], [3.0, 7.0]])
        >>> ElementwiseAffine.standardize(x)(x)[0].tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Sequence[float] | Tensor, scale: Sequence[float] | Tensor) -> None:
        super().__init__()
        with with_values():
            loc, scale = (_floating(value) for value in (loc, scale))
        if loc.dim() != 1 or loc.shape != scale.shape or not loc.numel():
            raise ValueError(
                f"ElementwiseAffine: loc has shape {list(loc.shape)} and scale "
                f"{list(scale.shape)}; expected [C] for both, with C of at least 1"
            )
        if not (loc.isfinite().all() and scale.isfinite().all() and (scale > 0).all()):
            raise ValueError(
                "ElementwiseAffine: expected finite loc and positive, finite scale, got "
                f"{loc.tolist()} and {scale.tolist()}"
            )
        self.register_fixed("loc", loc)
        self.register_fixed("scale", scale)

    @classmethod
    def standardize(cls, x: Tensor) -> "ElementwiseAffine":
        """The one that gives each column of training data [N, C, ...] mean 0 and variance 1.

        A column that is constant keeps the scale 1. Under torch.distributed, each process gives
        its part of the data.

        Raises:
            TypeError: for data that are not of floating point.
            ValueError: for no data, or columns that are not finite.
        """
        _check_training_data("standardize", x)
        _, mean, variance = channel_moments(x)
        return cls(mean.to(x.dtype), variance.sqrt().where(varies(mean, variance, x), 1.0).to(x))

    @classmethod
    def min_max(cls, x: Tensor) -> "ElementwiseAffine":
        """The one that maps each column of training data [N, C, ...] to [0, 1]; its smallest value
        becomes 0 and its largest 1. A column that is constant keeps the scale 1.

        Raises:
            TypeError: for data that are not of floating point.
            ValueError: for no data, or columns that are not finite.
        """
        _check_training_data("min_max", x)
        low, high = x.detach().transpose(0, 1).flatten(1).aminmax(dim=1)
        return cls(low, (high - low).where(high > low, 1.0))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        loc, scale = self._as_channels(x)
        return (x - loc) / scale, -self._log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        loc, scale = self._as_channels(z)
        return z * scale + loc, self._log_det(z)

    def extra_repr(self) -> str:
        return f"{self.loc.numel()}"

    def _as_channels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """l and s in the dtype of x, to be broadcast with it."""
        check_channels("ElementwiseAffine", x, self.loc.numel())
        shape = (-1, *(1,) * (x.dim() - 2))
        return self.loc.to(x.dtype).view(shape), self.scale.to(x.dtype).view(shape)

    def _log_det(self, x: Tensor) -> Tensor:
        positions = x.shape[2:].numel()
        return (positions * self.scale.to(accumulation_dtype(x)).log().sum()).expand(x.shape[0])


def _floating(value: Sequence[float] | Tensor) -> Tensor:
    value = torch.as_tensor(value).detach().clone()
    return value if value.is_floating_point() else value.to(torch.get_default_dtype())


def _check_training_data(method: str, x: Tensor) -> None:
    owner = f"ElementwiseAffine.{method}"
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{owner}: data are {given}; expected a tensor of floating point")
    if x.dim() < 2 or not x.numel():
        raise ValueError(f"{owner}: data have shape {list(x.shape)}; expected some, [N, C, ...]")
    is_finite = x.isfinite().transpose(0, 1).flatten(1).all(1)
    if not is_finite.all():
        wrong = (~is_finite).nonzero().flatten().tolist()
        raise ValueError(
            f"{owner}: column {wrong[0]} has values that are not finite ({len(wrong)} of "
            f"{len(is_finite)} columns have); fill or leave out missing ones"
        )
