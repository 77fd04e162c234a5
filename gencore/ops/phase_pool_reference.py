"""Phase pooling and unpooling in pure PyTorch, the pools that both are over, and derivatives."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gencore.ops._support.autograd import differentiable, gradients, gradients_of_reference
from gencore.ops._support.checks import accumulation_dtype

__all__ = ["Pools", "native_pool", "native_unpool", "pool_reference", "unpool_reference"]

_ops = torch.ops.gencore


class Pools(NamedTuple):
    """Which elements of [features, rows, columns] each pool holds: the numbers of the family's
    schemas, in their order there."""

    kernel_features: int
    kernel_rows: int
    kernel_columns: int
    stride_features: int
    stride_rows: int
    stride_columns: int
    padding_rows: int
    padding_columns: int
    circular: bool

    @property
    def kernel(self) -> tuple[int, int, int]:
        return self[:3]

    @property
    def stride(self) -> tuple[int, int, int]:
        return self[3:6]

    @property
    def padding(self) -> tuple[int, int, int]:
        return 0, *self[6:8]

    @property
    def axes(self) -> list[int]:
        """The axes that have a phase."""
        return [axis for axis, size in enumerate(self.kernel) if size > 1]

    def counts(self, sizes: tuple[int, int, int]) -> tuple[int, int, int]:
        """How many pools there are along each axis of a map of this size."""
        kernels, strides, paddings = self.kernel, self.stride, self.padding
        features, rows, columns = (
            (size + 2 * padding - kernel) // stride + 1
            for size, kernel, stride, padding in zip(sizes, kernels, strides, paddings, strict=True)
        )
        return sizes[0] // strides[0] if self.circular else features, rows, columns

    def places(self, axis: int, count: int, device: torch.device) -> Tensor:
        """[count, kernel]: where along an axis the elements of its pools are, before wrapping;
        those of a padding are outside of the map."""
        first = torch.arange(count, device=device) * self.stride[axis] - self.padding[axis]
        return first[:, None] + torch.arange(self.kernel[axis], device=device)

    def features(self, sizes: tuple[int, int, int], device: torch.device) -> Tensor:
        """[groups, kernel]: the features of each group."""
        return self.places(0, self.counts(sizes)[0], device) % sizes[0]


def pool_reference(z: Tensor, beta: Tensor | float, pools: Pools) -> tuple[Tensor, Tensor]:
    """``phase_pool`` in pure PyTorch, in the accumulation dtype."""
    features, rows, columns = z.shape[1:]
    sizes = features, rows, columns
    counts = pools.counts(sizes)
    values = z.to(accumulation_dtype(z))[:, pools.features(sizes, z.device)]
    down, right = pools.padding[1:]
    values = functional.pad(values, (right, right, down, down))
    values = values.unfold(3, pools.kernel[1], pools.stride[1])
    values = values.unfold(4, pools.kernel[2], pools.stride[2])
    values = values.permute(0, 1, 3, 4, 2, 5, 6)  # [N, G, h, w, features, rows, columns]
    row, column = (pools.places(axis, counts[axis], z.device) for axis in (1, 2))
    outside = ((row < 0) | (row >= rows))[:, None, None, :, None] | (
        (column < 0) | (column >= columns)
    )[None, :, None, None, :]
    if isinstance(beta, Tensor):
        beta = beta.view(-1, 1, 1, 1, 1, 1)
    logits = (beta * values).masked_fill(outside, -torch.inf)
    weights = logits.flatten(4).softmax(4).view(values.shape)
    magnitude = (weights * values).sum((4, 5, 6))
    phases = []
    for axis in pools.axes:
        others = [4 + other for other in range(3) if other != axis]
        coordinates = torch.linspace(-1, 1, pools.kernel[axis], dtype=values.dtype, device=z.device)
        phases.append((weights.sum(others) * coordinates).sum(-1))
    return magnitude, torch.stack(phases, 2)


def unpool_reference(
    magnitude: Tensor, phase: Tensor, pools: Pools, sizes: tuple[int, int, int], clamp: bool
) -> Tensor:
    """``phase_unpool`` in pure PyTorch, in the accumulation dtype."""
    dtype, device = accumulation_dtype(magnitude), magnitude.device
    counts = pools.counts(sizes)
    mass = magnitude.to(dtype)[..., None, None, None]
    for d, axis in enumerate(pools.axes):
        shape = [1, 1, 1]
        shape[axis] = pools.kernel[axis]
        hats = _hats(phase[:, :, d].to(dtype), pools.kernel[axis], clamp)
        mass = mass * hats.view(*magnitude.shape, *shape)
    down, right = pools.padding[1:]
    height, width = sizes[1] + 2 * down, sizes[2] + 2 * right
    feature = pools.features(sizes, device)
    row = pools.places(1, counts[1], device) + down
    column = pools.places(2, counts[2], device) + right
    place = feature[:, None, None, :, None, None] * height + row[None, :, None, None, :, None]
    place = place * width + column[None, None, :, None, None, :]
    out = mass.new_zeros(len(mass), sizes[0] * height * width)
    out = out.index_add(1, place.flatten(), mass.expand(len(mass), *place.shape).flatten(1))
    return out.view(-1, sizes[0], height, width)[:, :, down : height - down, right : width - right]


def _hats(phase: Tensor, nodes: int, clamp: bool) -> Tensor:
    """The share of each node of an axis, [..., nodes]: its two neighbours share a phase. On a node
    the derivative is that towards the next one."""
    if clamp:
        phase = phase.clamp(-1, 1)
    at = ((phase + 1) * ((nodes - 1) / 2)).unsqueeze(-1)
    near = at.detach().floor()
    if clamp:
        near = near.clamp(max=nodes - 2)
    fraction = at - near
    node = torch.arange(nodes, device=phase.device, dtype=phase.dtype)
    far_share = torch.where(node == near + 1, fraction, torch.zeros_like(fraction))
    return torch.where(node == near, 1 - fraction, far_share).where(~at.isnan(), at)


# Derivatives of the compiled operators.


def _pool_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    z, beta, ctx.number, *pools = inputs
    ctx.pools = Pools(*pools)
    ctx.save_for_backward(z, beta, *output)


def _pool_differentiate(
    ctx: Any, magnitude_grad: Tensor, phase_grad: Tensor, entropy_grad: Tensor
) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:2]
    grads = _pool_backward(
        magnitude_grad, phase_grad, *ctx.saved_tensors, *needs, ctx.number, *ctx.pools
    )
    found = (grad if need else None for grad, need in zip(grads, needs, strict=True))
    return *found, *(None,) * 10


def _pool_backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    needs_z, needs_beta, ctx.number, *pools = inputs[7:]
    ctx.needs = needs_z, needs_beta
    ctx.pools = Pools(*pools)
    ctx.save_for_backward(*inputs[:4])


def _pool_differentiate_backward(ctx: Any, *tangents: Tensor) -> tuple[Tensor | None, ...]:
    """The derivative of the reference's first derivative. The forward operator's results, which
    the kernel is given too, are functions of the other operands."""

    def reference_backward(
        magnitude_grad: Tensor, phase_grad: Tensor, z: Tensor, beta: Tensor | None
    ) -> list[Tensor | None]:
        results = pool_reference(z, ctx.number if beta is None else beta, ctx.pools)
        wanted = [t if need else None for t, need in zip((z, beta), ctx.needs, strict=True)]
        return gradients(results, wanted, (magnitude_grad, phase_grad))

    found = gradients_of_reference(reference_backward, ctx.saved_tensors, tangents)
    return *found, *(None,) * 15


def _unpool_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    magnitude, phase, *sizes, ctx.clamp = inputs[:6]
    ctx.sizes, ctx.pools = tuple(sizes), Pools(*inputs[6:])
    ctx.save_for_backward(magnitude, phase)


def _unpool_differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = _unpool_backward(grad, *ctx.saved_tensors, ctx.clamp, *ctx.pools)
    return *grads, *(None,) * 13


def _unpool_backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.clamp, *pools = inputs[3:]
    ctx.pools = Pools(*pools)


def _unpool_differentiate_backward(ctx: Any, *tangents: Tensor) -> tuple[Tensor | None, ...]:
    """The derivative of the reference's first derivative."""

    def reference_backward(grad: Tensor, magnitude: Tensor, phase: Tensor) -> list[Tensor | None]:
        features, rows, columns = grad.shape[1:]
        out = unpool_reference(magnitude, phase, ctx.pools, (features, rows, columns), ctx.clamp)
        return gradients([out.to(grad.dtype)], (magnitude, phase), [grad])

    found = gradients_of_reference(reference_backward, ctx.saved_tensors, tangents)
    return *found, *(None,) * 10


native_pool = differentiable(_ops.phase_pool.default, _pool_differentiate, _pool_setup)
_pool_backward = differentiable(
    _ops.phase_pool_backward.default, _pool_differentiate_backward, _pool_backward_setup
)
native_unpool = differentiable(_ops.phase_unpool.default, _unpool_differentiate, _unpool_setup)
_unpool_backward = differentiable(
    _ops.phase_unpool_backward.default, _unpool_differentiate_backward, _unpool_backward_setup
)


# Shapes of their results.


@torch.library.register_fake("gencore::phase_pool")
def _(z: Tensor, beta: Tensor | None, number: float, *numbers: Any) -> tuple[Tensor, ...]:
    pools = Pools(*numbers)
    features, rows, columns = z.shape[1:]
    groups, h, w = pools.counts((features, rows, columns))
    images, dims, dtype = z.shape[0], len(pools.axes), accumulation_dtype(z)
    magnitude = z.new_empty(images, groups, h, w, dtype=dtype)
    phase = z.new_empty(images, groups, dims, h, w, dtype=dtype)
    return magnitude, phase, torch.empty_like(magnitude)


@torch.library.register_fake("gencore::phase_pool_backward")
def _(
    grad_magnitude: Tensor,
    grad_phase: Tensor,
    z: Tensor,
    beta: Tensor | None,
    magnitude: Tensor,
    phase: Tensor,
    entropy: Tensor,
    needs_z: bool,
    needs_beta: bool,
    *numbers: Any,
) -> tuple[Tensor, Tensor]:
    wide = accumulation_dtype(z)
    shape = beta.shape if needs_beta and beta is not None else (0,)
    return z.new_empty(z.shape if needs_z else (0,)), z.new_empty(shape, dtype=wide)


@torch.library.register_fake("gencore::phase_unpool")
def _(
    magnitude: Tensor, phase: Tensor, features: int, rows: int, columns: int, *numbers: Any
) -> Tensor:
    return magnitude.new_empty(magnitude.shape[0], features, rows, columns)


@torch.library.register_fake("gencore::phase_unpool_backward")
def _(grad: Tensor, magnitude: Tensor, phase: Tensor, *numbers: Any) -> tuple[Tensor, Tensor]:
    return magnitude.new_empty(magnitude.shape), phase.new_empty(phase.shape)
