"""What an invertible layer is, and how layers are joined."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import torch
from torch import Tensor, nn

from gencore.ops._support.backend import transforming
from gencore.ops._support.checks import accumulation_dtype

__all__ = ["Compose", "Inverse", "Rewound", "Transform", "no_log_det"]


class Rewound(NamedTuple):
    """A transform's input, rebuilt from its output, and the gradients with respect to it."""

    x: Tensor
    """[N, ...]: the input, without a graph."""
    grad_x: Tensor
    """∂L/∂x, like ``x``."""
    grad_context: Tensor | None
    """∂L/∂context, if that is wanted and the transform depends on it."""
    grad_parameters: dict[nn.Parameter, Tensor | None]
    """∂L/∂θ for those of ``transform.parameters()`` that require gradients, in their order."""


class Transform(nn.Module, ABC):
    r"""An invertible map x → z of data to latents, with the logarithm of its Jacobian determinant.

    .. math:: \log p(x) = \log p_0(z) + \log\left\lvert\det\frac{\partial z}{\partial x}\right\rvert

    Both directions work on batches [N, ...], are differentiable, and return log-determinants of
    shape [N], in float64 for float64 data and otherwise in float32. A context [N, C], or of images
    [N, C, H, W], one a pixel, conditions the map. One that needs it raises where it is missing; one
    that has no use for it ignores it, so that both kinds can be joined. A
    :class:`gencore.models.Flow` raises for one that it has no use for.

    References:
        Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", 2017, eq. (2), (3).
    """

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The latents z of the data x, and log|det ∂z/∂x|, [N]."""

    @abstractmethod
    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The data x of the latents z, and log|det ∂x/∂z|, [N]: minus that of the forward map."""

    def carry(self, context: Tensor | None, *, back: bool = False) -> Tensor | None:
        """The context that fits z, for a transform after this one; `back`, from one that fits z
        that which fits x.

        Both directions of the map take the context that fits x. It fits z too unless pixels trade
        places with channels, as in a `Squeeze`; nothing but that may happen to it here.
        """
        return context

    def rewind(
        self, z: Tensor, context: Tensor | None, grad_z: Tensor, grad_log_det: Tensor
    ) -> Rewound:
        """The backward pass of :meth:`forward` from its output z alone.

        For a loss L with ∂L/∂z and ∂L/∂log_det, rebuilds x = inverse(z), on which it evaluates the
        forward map again. A transform that can share work between the two overrides it.
        """
        with torch.no_grad():
            x = self.inverse(z, context)[0]
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            if context is not None:
                context = context.detach().requires_grad_(context.requires_grad)
            outputs = self(x, context)
        (grad_x, grad_context), grads = gradients(
            self, outputs, (grad_z, grad_log_det), (x, context)
        )
        assert grad_x is not None
        return Rewound(x.detach(), grad_x, grad_context, grads)


class Compose(Transform):
    """Transforms one after another, from data to latents.

    Args:
        *transforms: the first one meets the data.

    It has a length, can be iterated over, and its items are the transforms; a slice is a stack of
    the same kind, of the same transforms.

    Raises:
        TypeError: for what is no transform.

    Example:
        >>> import torch
        >>> from gencore.nn import Compose, Permutation
        >>> flow = Compose(Permutation([2, 0, 1]), Permutation([2, 0, 1]))
        >>> flow(torch.tensor([[0.0, 1.0, 2.0]]))
        (tensor([[1., 2., 0.]]), tensor([0.]))
        >>> flow[:1](torch.tensor([[0.0, 1.0, 2.0]]))[0]
        tensor([[2., 0., 1.]])
    """

    def __init__(self, *transforms: Transform) -> None:
        super().__init__()
        for transform in transforms:
            if not isinstance(transform, Transform):
                raise TypeError(
                    f"Compose: got a {type(transform).__name__}, expected Transforms only"
                )
        self.transforms = nn.ModuleList(transforms)

    def __len__(self) -> int:
        return len(self.transforms)

    @overload
    def __getitem__(self, index: int) -> Transform: ...

    @overload
    def __getitem__(self, index: slice) -> "Compose": ...

    def __getitem__(self, index: int | slice) -> "Transform | Compose":
        if isinstance(index, slice):
            return type(self)(*list(self)[index])
        return list(self)[index]

    def __iter__(self) -> Iterator[Transform]:
        for transform in self.transforms:
            assert isinstance(transform, Transform)
            yield transform

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = no_log_det(x)
        for transform in self:
            x, log_det = transform(x, context)
            total = total + log_det
            context = transform.carry(context)
        return x, total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = no_log_det(z)
        contexts = self.contexts(context)
        for transform in reversed(self):
            z, log_det = transform.inverse(z, contexts.pop())
            total = total + log_det
        return z, total

    def carry(self, context: Tensor | None, *, back: bool = False) -> Tensor | None:
        for transform in reversed(list(self)) if back else self:
            context = transform.carry(context, back=back)
        return context

    def contexts(self, context: Tensor | None) -> list[Tensor | None]:
        """The context of each transform."""
        contexts = [context]
        for transform in list(self)[:-1]:
            contexts.append(transform.carry(contexts[-1]))
        return contexts[: len(self)]


class Inverse(Transform):
    """A transform the other way round: its forward map is the other's inverse.

    Args:
        transform: the transform to turn round.

    Raises:
        TypeError: for what is no transform.

    Example:
        >>> import torch
        >>> from gencore.nn import Inverse, Permutation
        >>> Inverse(Permutation([2, 0, 1]))(torch.tensor([[2.0, 0.0, 1.0]]))[0]
        tensor([[0., 1., 2.]])
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        if not isinstance(transform, Transform):
            raise TypeError(f"Inverse: got a {type(transform).__name__}, expected a Transform")
        self.transform = transform

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.transform.inverse(x, self.carry(context))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_det = self.transform(z, self.carry(context))
        return x, log_det

    def carry(self, context: Tensor | None, *, back: bool = False) -> Tensor | None:
        return self.transform.carry(context, back=not back)


def no_log_det(x: Tensor) -> Tensor:
    """Zeros [N], the log-determinant of a map that preserves volume."""
    return x.new_zeros(x.shape[:1], dtype=accumulation_dtype(x))


def looks_at_values(x: Tensor) -> bool:
    """Whether a look at the values of x is cheap, as on the CPU, and possible, as in no trace."""
    return x.is_cpu and not torch.compiler.is_compiling() and not transforming()


def row_sums(values: Tensor) -> Tensor:
    """The sum of each row of [N, ...], [N]."""
    return values.reshape(values.shape[0], values.shape[1:].numel()).sum(1)


def check_channels(owner: str, x: Tensor, channels: int) -> None:
    """Raise a ValueError unless the data are [N, channels, ...]."""
    if x.dim() < 2 or x.shape[1] != channels:
        raise ValueError(f"{owner}: data have shape {list(x.shape)}; expected [N, {channels}, ...]")


def gradients(
    module: nn.Module,
    outputs: Sequence[Tensor],
    grad_outputs: Sequence[Tensor],
    inputs: Sequence[Tensor | None],
) -> tuple[list[Tensor | None], dict[nn.Parameter, Tensor | None]]:
    """Gradients with respect to ``inputs``, and to the parameters of ``module`` that want them.

    An input that is ``None``, or wants no gradient, gets ``None``.
    """
    leaves = [x for x in inputs if x is not None and x.requires_grad]
    parameters = trained(module)
    pairs = [pair for pair in zip(outputs, grad_outputs, strict=True) if pair[0].requires_grad]
    heads, tails = [head for head, _ in pairs], [tail for _, tail in pairs]
    found = torch.autograd.grad(heads, [*leaves, *parameters], tails, allow_unused=True)
    grads = iter(found)
    wanted = [next(grads) if x is not None and x.requires_grad else None for x in inputs]
    return wanted, dict(zip(parameters, grads, strict=True))


def trained(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that require gradients."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
