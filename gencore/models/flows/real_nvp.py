"""Real NVP on images: couplings with alternating masks at several scales."""

from collections.abc import Sequence

from torch import Size

from gencore.models.flows.flow import Base, Flow
from gencore.models.flows.image_shapes import context_options, squeezed_shapes
from gencore.models.flows.stacks import stack
from gencore.nn import (
    ActNorm,
    AffineCoupling,
    MultiScale,
    ResidualConditioner,
    Squeeze,
    Transform,
)
from gencore.nn.context import ContextSize
from gencore.ops import CouplingMask
from gencore.sizes import check_positive

__all__ = ["RealNVP"]


class RealNVP(Flow):
    """Real NVP: at every scale three checkerboard couplings, a squeeze, three channel couplings.

    Half of the channels become latents after every scale; the last scale has `last_couplings`
    checkerboard couplings, four in the paper, and no squeeze. Each coupling is followed by a
    per-channel affine map, `ActNorm`, in the place of the paper's batch normalisation of the data,
    whose density does not depend on the batch. Latents are standard normal vectors [N, D].

    Args:
        image_shape: (C, H, W), with H and W multiples of 2^(num_scales − 1).
        num_scales: scales, the last one without a squeeze.
        last_couplings: couplings of the last scale.
        hidden_channels: of the first scale's residual networks; doubled at each further scale.
        num_blocks: residual blocks a network.
        bound: of the log-scales.
        batch_norm: batch normalisation in the networks, as in the paper.
        context_size: C of contexts [N, C], or (C, H, W) of contexts [N, C, H, W], one a pixel, that
            are squeezed along with the image; 0 for none.
        base: of the latents, as for :class:`Flow`.
        reversible: rebuild inputs in the backward pass, so that memory does not grow with depth;
            running averages of the batch normalisation then take every batch twice.

    Raises:
        ValueError: for an image shape that cannot be halved so often, or sizes below 1,
            or a context of other sides.

    References:
        Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", 2017, §3.6, §4.1.

    Example:
        >>> import torch
        >>> from gencore.models import RealNVP
        >>> flow = RealNVP((1, 8, 8), num_scales=2, hidden_channels=8, num_blocks=1)
        >>> flow.log_prob(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        num_scales: int = 2,
        last_couplings: int = 4,
        hidden_channels: int = 64,
        num_blocks: int = 4,
        bound: float | None = 2.0,
        batch_norm: bool = True,
        context_size: ContextSize = 0,
        base: Base = "normal",
        reversible: bool = False,
    ) -> None:
        levels: list[Transform] = []

        def couplings(channels: int, mask: CouplingMask, count: int, width: int) -> list[Transform]:
            layers: list[Transform] = []
            for i in range(count):
                swap = bool(i % 2)
                moved = channels if mask == "checkerboard" else channels // 2
                squeezes = len(levels) + (mask == "channel")
                network = ResidualConditioner(
                    channels if mask == "checkerboard" else channels - moved,
                    width,
                    2 * moved,
                    num_blocks=num_blocks,
                    batch_norm=batch_norm,
                    **context_options("RealNVP", context_size, image_shape, squeezes),
                )
                layers += [
                    AffineCoupling(network, mask=mask, swap=swap, bound=bound),
                    ActNorm(channels),
                ]
            return layers

        check_positive(
            "RealNVP",
            num_scales=num_scales,
            last_couplings=last_couplings,
            hidden_channels=hidden_channels,
        )
        shapes = squeezed_shapes("RealNVP", image_shape, num_scales - 1)
        shape, width = Size(image_shape), hidden_channels
        for squeezed in shapes:
            levels.append(
                stack(
                    [
                        *couplings(shape[0], "checkerboard", 3, width),
                        Squeeze(),
                        *couplings(squeezed[0], "channel", 3, 2 * width),
                    ],
                    reversible=reversible,
                )
            )
            shape, width = Size((squeezed[0] // 2, *squeezed[1:])), 2 * width
        last = couplings(shape[0], "checkerboard", last_couplings, width)
        levels.append(stack(last, reversible=reversible))
        transform = MultiScale(levels, [*shapes, shape])
        super().__init__(
            transform,
            image_shape,
            latent_shape=[Size(image_shape).numel()],
            base=base,
            context_size=context_size,
        )
