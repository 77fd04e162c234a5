"""Convolutional adversaries of images, as wide at each scale as a DCGAN's discriminator."""

from torch import nn

from gencore.models import ConvAutoencoderEnergy
from gencore.nn import DCGANDiscriminator, EquivariantConvDiscriminator, ProjectionDiscriminator
from gencore.recipes.adversarial.adversarial_training import Networks

__all__ = ["dcgan_adversaries", "scale_widths"]


def dcgan_adversaries(
    image_shape: tuple[int, ...], width: int, *, batch_norm: bool, num_classes: int | None = None
) -> Networks:
    """A discriminator of images, one of sets, and an auto-encoder.

    Args:
        image_shape: [C, H, W].
        width: channels of the finest hidden maps; they double with each coarser scale.
        batch_norm: normalise over the batch, but not in the discriminator of sets.
        num_classes: of a discriminator that is given the classes, by a projection.
    """

    def scores() -> nn.Module:
        network = DCGANDiscriminator(image_shape, width=width, batch_norm=batch_norm)
        if num_classes is None:
            return network
        return ProjectionDiscriminator(network.features, network.num_features, num_classes)

    return Networks(
        scores,
        lambda: EquivariantConvDiscriminator(
            image_shape, widths=scale_widths(image_shape, width, more=1)
        ),
        lambda: ConvAutoencoderEnergy(
            image_shape, widths=scale_widths(image_shape, width), batch_norm=batch_norm
        ),
    )


def scale_widths(image_shape: tuple[int, ...], width: int, *, more: int = 0) -> tuple[int, ...]:
    """Channels of as many scales as the sides can be halved without going below 4, one at least,
    and of `more`.

    Example:
        >>> scale_widths((1, 28, 28), 32)
        (32, 64)
    """
    sides, num = image_shape[1:], 0
    while all(each % 2 ** (num + 1) == 0 and each >> (num + 1) >= 4 for each in sides):
        num += 1
    return tuple(width << scale for scale in range(max(num, 1) + more))
