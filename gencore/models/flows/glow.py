"""Glow: a multi-scale flow on images with invertible 1×1 convolutions."""

from collections.abc import Sequence
from typing import get_args

from torch import Size

from gencore.choices import check_choice
from gencore.models.flows.flow import Base, Flow
from gencore.models.flows.image_shapes import context_options, squeezed_shapes
from gencore.models.flows.names import CouplingKind
from gencore.models.flows.stacks import stack
from gencore.nn import (
    ActNorm,
    AffineCoupling,
    Compose,
    ConvConditioner,
    InvertibleConv1x1,
    MultiScale,
    SplineCoupling,
    Squeeze,
    Transform,
)
from gencore.nn.context import ContextSize
from gencore.sizes import check_positive

__all__ = ["CouplingKind", "Glow"]


class Glow(Flow):
    """Glow: levels of K steps ActNorm – invertible 1×1 convolution – coupling.

    Every level halves height and width. After each but the last, half of the channels become
    latents, Gaussian given the other half with a learned mean and scale. Latents are standard
    normal vectors [N, D].

    Args:
        image_shape: (C, H, W), with H and W multiples of 2^num_levels.
        num_levels: L.
        num_steps: K steps a level.
        hidden_channels: of the couplings' networks.
        coupling: "affine", "additive", or "spline" for rational-quadratic ones.
        bound: of the affine couplings' log-scales; ``None`` leaves them free.
        num_bins: K of each spline.
        tail_bound: B beyond which a spline is the identity. `ActNorm` gives what reaches a coupling
            unit variance, whatever the scale of the images.
        context_size: C of contexts [N, C] that condition every coupling, or (C, H, W) of contexts
            [N, C, H, W], one a pixel, that are squeezed along with the image; 0 for none. A class
            label is given as a one-hot context, of floating point.
        base: of the latents, as for :class:`Flow`.
        reversible: rebuild inputs in the backward pass, so that memory does not grow with K.

    Raises:
        ValueError: for an image shape that cannot be halved so often, another coupling, sizes
            below 1, or a context of other sides.

    References:
        Kingma and Dhariwal, "Glow: generative flow with invertible 1×1 convolutions", 2018. Durkan,
        Bekasov, Murray and Papamakarios, "Neural spline flows", 2019, §5.3, for the splines.

    Example:
        >>> import torch
        >>> from gencore.models import Glow
        >>> glow = Glow((3, 8, 8), num_levels=2, num_steps=2, hidden_channels=16)
        >>> glow.log_prob(torch.rand(5, 3, 8, 8) - 0.5).shape
        torch.Size([5])
        >>> glow(temperature=0.7).sample((4,)).shape
        torch.Size([4, 3, 8, 8])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        num_levels: int = 3,
        num_steps: int = 8,
        hidden_channels: int = 128,
        coupling: CouplingKind = "affine",
        bound: float | None = 2.0,
        num_bins: int = 4,
        tail_bound: float = 3.0,
        context_size: ContextSize = 0,
        base: Base = "normal",
        reversible: bool = False,
    ) -> None:
        check_choice("Glow", "coupling", coupling, get_args(CouplingKind))
        check_positive(
            "Glow", num_levels=num_levels, num_steps=num_steps, hidden_channels=hidden_channels,
            num_bins=num_bins,
        )  # fmt: skip

        levels: list[Transform] = []
        shapes = squeezed_shapes("Glow", image_shape, num_levels)

        def conditioned(channels: int, kind: CouplingKind) -> Transform:
            parameters = {"affine": 2, "additive": 1, "spline": 3 * num_bins - 1}[kind]
            network = ConvConditioner(
                channels - channels // 2,
                hidden_channels,
                channels // 2 * parameters,
                **context_options("Glow", context_size, image_shape, len(levels) + 1),
            )
            if kind == "spline":
                return SplineCoupling(network, num_bins=num_bins, tail_bound=tail_bound)
            return AffineCoupling(network, bound=bound, additive=kind == "additive")

        for shape in shapes:
            channels = shape[0]
            steps: list[Transform] = []
            for _ in range(num_steps):
                steps += [
                    ActNorm(channels),
                    InvertibleConv1x1(channels),
                    conditioned(channels, coupling),
                ]
            level: list[Transform] = [Squeeze(), stack(steps, reversible=reversible)]
            if len(levels) < num_levels - 1:  # the latents that leave here, given those that stay
                level.append(conditioned(channels, "affine"))
            levels.append(Compose(*level))
        transform = MultiScale(levels, shapes)
        super().__init__(
            transform,
            image_shape,
            latent_shape=[Size(image_shape).numel()],
            base=base,
            context_size=context_size,
        )
