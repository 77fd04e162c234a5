"""Radial flows (Rezende and Mohamed 2015)."""

from gencore.models.flows.flow import Base, Flow
from gencore.models.flows.planar_flow import ExplicitDirection, explicit_direction
from gencore.models.flows.stacks import stack
from gencore.nn.transforms import Radial
from gencore.sizes import check_positive

__all__ = ["RadialFlow"]


class RadialFlow(Flow):
    r"""A flow of radial transforms :math:`f(z) = z + \beta\,(z - z_0) / (\alpha + r)`.

    Args:
        features: D.
        num_layers: number of transforms.
        explicit: which direction is the formula above, the other being the root of a quadratic
            equation: "sampling", as in the paper, or "density".
        context_size: C of contexts [N, C], which each layer's parameters are an affine function
            of (amortised inference); 0 for none.
        base: of the latents, as for :class:`Flow`.
        reversible: rebuild inputs in the backward pass, so that memory does not grow with depth.

    Raises:
        ValueError: for another direction, or no layers.

    References:
        Rezende and Mohamed, "Variational inference with normalizing flows", 2015, eqs. (13), (14).

    Example:
        >>> import torch
        >>> from gencore.models import RadialFlow
        >>> flow = RadialFlow(2, num_layers=8)
        >>> flow().sample((5,)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        features: int,
        *,
        num_layers: int = 8,
        explicit: ExplicitDirection = "sampling",
        context_size: int = 0,
        base: Base = "normal",
        reversible: bool = False,
    ) -> None:
        check_positive("RadialFlow", num_layers=num_layers)
        layers = [Radial(features, context_size=context_size) for _ in range(num_layers)]
        turned = explicit_direction("RadialFlow", explicit, layers)
        transform = stack(turned, reversible=reversible)
        super().__init__(transform, [features], base=base, context_size=context_size)
