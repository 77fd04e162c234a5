"""A transform whose context a network makes of the one that is given."""

import torch
from torch import Tensor, nn

from gencore.nn.transforms.base import Rewound, Transform, gradients

__all__ = ["EmbeddedContext"]


class EmbeddedContext(Transform):
    r"""A transform that is given network(context) in the place of the context.

    .. math:: z = f(x; \mathrm{network}(c))

    Around a flow's whole transform it is an encoder of what the flow is conditioned on; around one
    layer, that layer's own embedding, or its choice of a part of the context. A flow passes one
    context to all its layers, and a layer that needs another says so where it is made.

    Args:
        transform: f.
        network: maps the context, which must be given, to that of f.

    Raises:
        TypeError: for what is no transform.
        ValueError: on a call without a context.

    Example:
        >>> import torch
        >>> from gencore.nn import MLP, AffineCoupling, EmbeddedContext
        >>> coupling = AffineCoupling(MLP(2, [8], 2, context_size=4))
        >>> layer = EmbeddedContext(coupling, torch.nn.Linear(10, 4))
        >>> layer(torch.ones(5, 3), torch.ones(5, 10))[0].shape
        torch.Size([5, 3])
    """

    def __init__(self, transform: Transform, network: nn.Module) -> None:
        super().__init__()
        if not isinstance(transform, Transform):
            raise TypeError(
                f"EmbeddedContext: got a {type(transform).__name__}, expected a Transform"
            )
        self.transform = transform
        self.network = network

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_det = self.transform(x, self._embedded(context))
        return z, log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.transform.inverse(z, self._embedded(context))

    def carry(self, context: Tensor | None, *, back: bool = False) -> Tensor | None:
        return self.transform.carry(context, back=back)

    def rewind(
        self, z: Tensor, context: Tensor | None, grad_z: Tensor, grad_log_det: Tensor
    ) -> Rewound:
        assert context is not None
        with torch.enable_grad():
            context = context.detach().requires_grad_(context.requires_grad)
            embedded = self._embedded(context)
        leaf = embedded.detach().requires_grad_(embedded.requires_grad)
        x, grad_x, grad_embedded, grads = self.transform.rewind(z, leaf, grad_z, grad_log_det)
        if grad_embedded is None:
            return Rewound(x, grad_x, None, grads)
        (grad_context,), of_network = gradients(
            self.network, (embedded,), (grad_embedded,), (context,)
        )
        for parameter, grad in of_network.items():
            other = grads.get(parameter)  # of one that the transform holds too
            grads[parameter] = grad if grad is None or other is None else grad + other
        return Rewound(x, grad_x, grad_context, grads)

    def _embedded(self, context: Tensor | None) -> Tensor:
        if context is None:
            raise ValueError("EmbeddedContext: expected a context, got none")
        embedded: Tensor = self.network(context)
        return embedded
