"""Bijections of torch.distributions as invertible layers."""

from torch import Tensor
from torch.distributions import biject_to, constraints, transforms

from gencore.nn.transforms.base import Transform, looks_at_values, row_sums
from gencore.ops._support.checks import accumulation_dtype

__all__ = ["TorchBijection"]


class TorchBijection(Transform):
    r"""A bijective transform t of :mod:`torch.distributions`, from latents to data.

    .. math:: x = t(z), \qquad \log\left\lvert\det\frac{\partial z}{\partial x}\right\rvert
              = -\textstyle\sum \log\lvert t'(z)\rvert

    as in :class:`torch.distributions.TransformedDistribution`: ``forward`` is the inverse of t.
    The sum is over all that t's ``log_abs_det_jacobian`` leaves of a row. :meth:`onto` makes the
    one for data of a support, such as positive numbers or an interval. For the unit interval,
    :class:`Logit` keeps more digits and says what becomes of 0 and 1.

    Args:
        transform: t. Tensors in it are no part of the state dict, are not trained, and stay on
            their device; write plain numbers where there is a choice.
        support: of the data, where ``transform.codomain`` does not tell it.

    Raises:
        TypeError: for what is no transform of torch.
        ValueError: for one that is not bijective, or holds the ``.inv`` of another one, which torch
            can neither copy nor pickle: :class:`Inverse` turns this layer round instead; on a call
            with tensors on the CPU, for values outside of the support or of t's domain.

    Example:
        >>> import torch
        >>> from torch.distributions import SoftplusTransform
        >>> from gencore.nn import TorchBijection
        >>> TorchBijection(SoftplusTransform()).inverse(torch.zeros(1, 2))[0]
        tensor([[0.6931, 0.6931]])
    """

    def __init__(
        self, transform: transforms.Transform, *, support: constraints.Constraint | None = None
    ) -> None:
        super().__init__()
        if not isinstance(transform, transforms.Transform):
            raise TypeError(
                f"TorchBijection: got a {type(transform).__name__}; expected a transform of "
                "torch.distributions"
            )
        if not transform.bijective:
            raise ValueError(f"TorchBijection: {transform} is not bijective")
        if _holds_inverse(transform):
            raise ValueError(
                f"TorchBijection: {transform} holds the inverse of a transform, which torch cannot "
                "copy; give the transform itself, and turn this layer round with gencore.nn.Inverse"
            )
        self.transform = transform
        self.support = transform.codomain if support is None else support

    @classmethod
    def onto(cls, support: constraints.Constraint) -> "TorchBijection":
        """All real numbers onto a support, by the bijection that torch has for it
        (:func:`torch.distributions.biject_to`): an exponential for positive numbers, a sigmoid for
        an interval, stick-breaking for the simplex, column by column for ``constraints.cat``.

        Raises:
            NotImplementedError: by torch, for a support that it has no bijection for.

        Example:
            >>> import torch
            >>> from torch.distributions import constraints
            >>> from gencore.nn import TorchBijection
            >>> columns = [constraints.positive, constraints.interval(0.0, 5.0), constraints.real]
            >>> table = TorchBijection.onto(constraints.cat(columns, dim=-1))
            >>> table(torch.tensor([[1.0, 2.5, -3.0]]))[0].tolist()
            [[0.0, 0.0, -3.0]]
        """
        return cls(biject_to(support), support=support)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        _check(x, self.support)
        z = self.transform.inv(x)
        return z, -self._log_det(z, x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        _check(z, self.transform.domain)
        x = self.transform(z)
        return x, self._log_det(z, x)

    def extra_repr(self) -> str:
        return f"{self.transform}"

    def _log_det(self, z: Tensor, x: Tensor) -> Tensor:
        slopes = self.transform.log_abs_det_jacobian(z, x)
        return row_sums(slopes.to(accumulation_dtype(x)))


def _check(x: Tensor, support: constraints.Constraint) -> None:
    if x.dim() <= support.event_dim:
        raise ValueError(
            f"TorchBijection: data have shape {list(x.shape)}; expected rows of at least "
            f"{support.event_dim} dimensions"
        )
    # Among all real numbers NaN is let through.
    if support is constraints.real or not looks_at_values(x):
        return
    if not bool(support.check(x).all()):
        raise ValueError(
            f"TorchBijection: got values from {x.min().item():g} to {x.max().item():g}; expected "
            f"them within {support}"
        )


def _holds_inverse(transform: transforms.Transform) -> bool:
    parts = [
        *getattr(transform, "parts", []),
        *getattr(transform, "transforms", []),
        getattr(transform, "base_transform", None),
    ]
    return isinstance(transform, transforms._InverseTransform) or any(
        _holds_inverse(part) for part in parts if part is not None
    )
