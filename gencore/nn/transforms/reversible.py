"""Deep stacks of transforms in constant memory."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn.modules.dropout import _DropoutNd

from gencore.nn.transforms.base import Compose, Transform, trained
from gencore.ops._support.backend import transforming

__all__ = ["Reversible"]


class Reversible(Compose):
    """Transforms one after another, whose inputs are rebuilt in the backward pass.

    Only the last output is kept: backward walks from it to the first input, one transform at a
    time, so that memory does not grow with the number of transforms. The price is a second
    evaluation of the networks, about a third more time. Values are those of `Compose`; gradients
    agree with its gradients as far as the inverses do, so in float32 to several digits.

    The backward pass is not differentiable itself; use `Compose` for second derivatives. What runs
    inside has to be deterministic, given its input, the context and the parameters: dropout is
    refused, and batch normalisation would see each batch twice. A parameter that changes between
    the passes is an error, as in every other graph. Autocast and DistributedDataParallel work as
    elsewhere; the gradients of the whole stack reach DDP's buckets together. torch.compile takes
    both passes into its graph. Under the transforms of torch.func it is `Compose`, and so it is
    under torch.compile where it holds a parameter twice.

    Args:
        *transforms: the first one meets the data.

    Raises:
        TypeError: for what is no transform.
        ValueError: for dropout inside, which would not drop the same units twice.

    References:
        Gomez et al., "The reversible residual network: backpropagation without storing
        activations", 2017.

    Example:
        >>> import torch
        >>> from gencore.nn import AffineCoupling, Compose, Reversible
        >>> steps = [AffineCoupling(torch.nn.Linear(2, 4), swap=bool(i % 2)) for i in range(4)]
        >>> x = torch.randn(5, 4, dtype=torch.float64)
        >>> gradients = []
        >>> for stack in (Compose(*steps), Reversible(*steps)):
        ...     z, log_det = stack.double()(x)
        ...     (z.square().sum() - log_det.sum()).backward()
        ...     gradients.append([p.grad.clone() for p in stack.parameters()])
        ...     stack.zero_grad()
        >>> all(torch.allclose(a, b) for a, b in zip(*gradients))
        True
    """

    def __init__(self, *transforms: Transform) -> None:
        super().__init__(*transforms)
        for name, module in self.named_modules():
            if isinstance(module, _DropoutNd) and module.p:
                raise ValueError(
                    f"Reversible: {name} is {module}, which would drop other units where the "
                    "backward pass rebuilds inputs; expected no dropout, or Compose"
                )

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if not torch.is_grad_enabled() or transforming():
            return super().forward(x, context)
        if torch.compiler.is_compiling() and self._is_tied():
            return super().forward(x, context)
        if torch.compiler.is_compiling():
            from gencore.nn.transforms.traced import traced

            z, log_det = traced(self, x, *(() if context is None else (context,)))
        else:
            z, log_det = _Rewind.apply(self, None, x, context, *trained(self))
        return z, log_det

    def _is_tied(self) -> bool:
        """Whether a parameter has several places, of which torch would restore one after tracing a
        backward pass of our own."""
        places = sum(1 for _ in self.named_parameters(remove_duplicate=False))
        return places != sum(1 for _ in self.parameters())

    def traced(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """:meth:`forward` in a graph, whose weights the backward pass has to be given."""
        weights = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        z, log_det = _Rewind.apply(self, weights, x, context, *trained(self))
        return z, log_det

    def walk_back(
        self, z: Tensor, context: Tensor | None, grad_z: Tensor, grad_log_det: Tensor
    ) -> tuple[Tensor, Tensor | None, dict[Tensor, Tensor]]:
        """∂L/∂x, ∂L/∂context and ∂L/∂θ from the last output and the gradients of it."""
        total: dict[Tensor, Tensor] = {}
        grad_context = None
        with torch.enable_grad():  # so that each asks for a gradient if the first one does
            contexts = self.contexts(context)
        for transform in reversed(self):
            here = contexts.pop()
            z, grad_z, part, grads = transform.rewind(z, here, grad_z, grad_log_det)
            if grad_context is not None:  # carrying only moves entries: its adjoint moves them back
                grad_context = transform.carry(grad_context, back=True)
            if part is not None:
                grad_context = part if grad_context is None else grad_context + part
            for parameter, grad in grads.items():
                if grad is not None:
                    seen = total.get(parameter)
                    total[parameter] = grad if seen is None else seen + grad
        return grad_z, grad_context, total


class _WalkBack(nn.Module):
    """:meth:`Reversible.walk_back` as a call, which `functional_call` can give other weights."""

    def __init__(self, stack: Reversible) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, *arguments: Any) -> Any:
        return self.stack.walk_back(*arguments)


class _Rewind(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        stack: Reversible,
        weights: dict[str, Tensor] | None,
        x: Tensor,
        context: Tensor | None,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        z, log_det = Compose.forward(stack, x, context)
        ctx.stack, ctx.weights, ctx.trained = stack, weights, parameters
        ctx.device_type = x.device.type
        ctx.autocast = {
            "enabled": torch.is_autocast_enabled(ctx.device_type),
            "dtype": torch.get_autocast_dtype(ctx.device_type),
            "cache_enabled": torch.is_autocast_cache_enabled(),
        }
        # Saved so that autograd notices one that is changed in place before the backward pass.
        ctx.save_for_backward(z, context, *parameters)
        return z, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_z: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
        z, context, *_ = ctx.saved_tensors
        arguments = (z, context, grad_z, grad_log_det)
        with torch.autocast(ctx.device_type, **ctx.autocast):
            if ctx.weights is None:
                grad_x, grad_context, total = ctx.stack.walk_back(*arguments)
            else:
                weights = {f"stack.{name}": weight for name, weight in ctx.weights.items()}
                grad_x, grad_context, total = functional_call(
                    _WalkBack(ctx.stack), weights, arguments
                )
        return (None, None, grad_x, grad_context, *(total.get(p) for p in ctx.trained))
