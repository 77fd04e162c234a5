"""Planar flows (Rezende and Mohamed 2015)."""

from collections.abc import Sequence
from typing import Literal, get_args

from gencore.choices import check_choice
from gencore.models.flows.flow import Base, Flow
from gencore.models.flows.stacks import stack
from gencore.nn.transforms import Inverse, Planar, Transform
from gencore.sizes import check_positive

__all__ = ["ExplicitDirection", "PlanarFlow", "explicit_direction"]

ExplicitDirection = Literal["density", "sampling"]


class PlanarFlow(Flow):
    r"""A flow of planar transforms :math:`f(z) = z + \hat u \tanh(w^\top z + b)`.

    Args:
        features: D.
        num_layers: number of transforms.
        explicit: which direction is the formula above, the other being a root in one dimension a
            layer: "sampling", as in the paper, where the flow is a posterior that is sampled, or
            "density", where it is fitted to data. Both directions are differentiable in both.
        context_size: C of contexts [N, C], which each layer's parameters are an affine function
            of (amortised inference); 0 for none.
        base: of the latents, as for :class:`Flow`.
        reversible: rebuild inputs in the backward pass, so that memory does not grow with depth.

    Raises:
        ValueError: for another direction, or no layers.

    References:
        Rezende and Mohamed, "Variational inference with normalizing flows", 2015, eqs. (10) to
        (13).

    Example:
        >>> import torch
        >>> from gencore.models import PlanarFlow
        >>> flow = PlanarFlow(2, num_layers=8, explicit="density")
        >>> flow().log_prob(torch.zeros(5, 2)).shape
        torch.Size([5])
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
        check_positive("PlanarFlow", num_layers=num_layers)
        layers = [Planar(features, context_size=context_size) for _ in range(num_layers)]
        turned = explicit_direction("PlanarFlow", explicit, layers)
        transform = stack(turned, reversible=reversible)
        super().__init__(transform, [features], base=base, context_size=context_size)


def explicit_direction(
    name: str, explicit: ExplicitDirection, layers: Sequence[Transform]
) -> list[Transform]:
    """Transforms that are explicit from data to latents, turned round for "sampling"."""
    check_choice(name, "explicit", explicit, get_args(ExplicitDirection))
    return [Inverse(layer) if explicit == "sampling" else layer for layer in layers]
