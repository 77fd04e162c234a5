"""An invertible layer, with its context, as a transform of `torch.distributions`."""

from collections.abc import Callable, Sequence

from torch import Size, Tensor
from torch.distributions import constraints, transforms

from gencore.nn.context import broadcast_shape, check_context_is_tensor, context_rows
from gencore.nn.transforms.base import Transform

__all__ = ["TorchTransform"]


class TorchTransform(transforms.Transform):
    """A :class:`Transform` x → z, given its context, as one of `torch.distributions.transforms`.

    A call maps data to latents, ``inv`` latents to data. Shapes are those of torch: data
    [..., *event_shape], where the dimensions in front are broadcast with those of the context
    [*batch, C]. Of a :class:`gencore.models.Flow` called with a context it is ``transform``.

    Args:
        transform: the layer; its weights are not copied.
        event_shape: of one x.
        context: [*batch, C], or ``None``.
        output_shape: of one z, where it differs.
        context_dims: dimensions of one context: 1 for [C], 3 for [C, H, W] of one a pixel.
        cache_size: 1 to keep the last x and z with their log-determinant, so that it and the way
            back cost nothing; 0 for none, as everywhere in torch. ``with_cache()`` gives a copy.

    Raises:
        TypeError: for what is no Transform, or a context that is no tensor.
        ValueError: on a call, for data of another shape.

    Example:
        >>> import torch
        >>> from torch.distributions import Independent, Normal, TransformedDistribution
        >>> from gencore.nn import Permutation, TorchTransform
        >>> reverse = TorchTransform(Permutation.reverse(2), [2])
        >>> base = Independent(Normal(torch.tensor([0.0, 5.0]), torch.tensor([1.0, 1e-3])), 1)
        >>> TransformedDistribution(base, [reverse.inv]).sample().round().tolist()[0]
        5.0
    """

    bijective = True

    def __init__(
        self,
        transform: Transform,
        event_shape: Sequence[int],
        context: Tensor | None = None,
        *,
        output_shape: Sequence[int] | None = None,
        context_dims: int = 1,
        cache_size: int = 0,
    ) -> None:
        if not isinstance(transform, Transform):
            raise TypeError(
                f"TorchTransform: got a {type(transform).__name__}, expected a Transform"
            )
        check_context_is_tensor("TorchTransform", context)
        super().__init__(cache_size)
        self.transform, self.context, self.context_dims = transform, context, context_dims
        self.event_shape = Size(event_shape)
        self.output_shape = self.event_shape if output_shape is None else Size(output_shape)
        self.domain: constraints.Constraint = _real(self.event_shape)
        self.codomain: constraints.Constraint = _real(self.output_shape)
        # The last x and z with their log-determinant.
        self._cached: tuple[Tensor, Tensor, Tensor] | None = None

    def with_cache(self, cache_size: int = 1) -> "TorchTransform":
        """The same transform with a cache of that size."""
        if cache_size == self._cache_size:
            return self
        return TorchTransform(
            self.transform, self.event_shape, self.context, output_shape=self.output_shape,
            context_dims=self.context_dims, cache_size=cache_size,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TorchTransform)
            and self.transform is other.transform
            and self.context is other.context
            and self.event_shape == other.event_shape
        )

    def __hash__(self) -> int:
        return hash((id(self.transform), id(self.context), self.event_shape))

    def __repr__(self) -> str:
        return f"TorchTransform({type(self.transform).__name__}, event_shape={[*self.event_shape]})"

    def _call(self, x: Tensor) -> Tensor:
        z, log_det = self._mapped(self.transform, x, self.event_shape, self.output_shape)
        self._keep(x, z, log_det)
        return z

    def _inverse(self, y: Tensor) -> Tensor:
        x, log_det = self._mapped(self.transform.inverse, y, self.output_shape, self.event_shape)
        self._keep(x, y, -log_det)
        return x

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log|det ∂z/∂x|, of the dimensions in front of an event."""
        if self._cached is not None and self._cached[0] is x and self._cached[1] is y:
            return self._cached[2]
        return self._mapped(self.transform, x, self.event_shape, self.output_shape)[1]

    def forward_shape(self, shape: Sequence[int]) -> Size:
        """The shape of the latents of data of a shape."""
        return self._batch_of(Size(shape), self.event_shape) + self.output_shape

    def inverse_shape(self, shape: Sequence[int]) -> Size:
        """The shape of the data of latents of a shape."""
        return self._batch_of(Size(shape), self.output_shape) + self.event_shape

    def _keep(self, x: Tensor, z: Tensor, log_det: Tensor) -> None:
        if self._cache_size:
            self._cached = x, z, log_det

    def _mapped(
        self, function: Callable[..., tuple[Tensor, Tensor]], x: Tensor, given: Size, found: Size
    ) -> tuple[Tensor, Tensor]:
        batch = self._batch_of(x.shape, given)
        rows = x.expand(batch + given).reshape(batch.numel(), *given)
        z, log_det = function(rows, context_rows(self.context, batch, self.context_dims))
        return z.reshape(batch + found), log_det.reshape(batch)

    def _batch_of(self, shape: Size, event_shape: Size) -> Size:
        """The dimensions in front of an event, broadcast with those of the context."""
        cut = len(shape) - len(event_shape)
        of_context = Size() if self.context is None else self.context.shape[: -self.context_dims]
        batch = broadcast_shape(shape[:cut], of_context) if cut >= 0 else None
        if batch is None or shape[cut:] != event_shape:
            raise ValueError(
                f"TorchTransform: got the shape {list(shape)}; expected [..., "
                f"{', '.join(map(str, event_shape))}], which broadcasts with the batch "
                f"{list(of_context)} of contexts"
            )
        return batch


def _real(shape: Size) -> constraints.Constraint:
    real: constraints.Constraint = constraints.independent(constraints.real, len(shape))
    return real
