"""The convolutional networks of InfoGAN as an autoencoder (Yan 2022, Table 3.6)."""

from collections.abc import Sequence

from gencore.nn.networks.notation import NotatedNetwork
from gencore.sizes import check_positive

__all__ = ["InfoGANDecoder", "InfoGANEncoder"]


class InfoGANEncoder(NotatedNetwork):
    """From images to vectors: two convolutions of stride 2 and two fully connected layers.

    Args:
        image_shape: [C, H, W] of the images, whose sides are multiples of 4.
        out_features: F: the latents, or twice as many for the parameters of a posterior.
        channels: of the first convolution; the second has twice as many.
        hidden_features: of the fully connected layer before the last.

    Shape:
        [N, C, H, W] → [N, F].

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, Table 3.6. Chen
        et al., "InfoGAN", 2016.

    Example:
        >>> import torch
        >>> from gencore.nn import InfoGANEncoder
        >>> InfoGANEncoder((1, 28, 28), 20)(torch.zeros(3, 1, 28, 28)).shape
        torch.Size([3, 20])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        out_features: int,
        *,
        channels: int = 64,
        hidden_features: int = 1024,
    ) -> None:
        colours, height, width = _check(
            "InfoGANEncoder", image_shape, out_features, channels, hidden_features
        )
        super().__init__(
            f"{colours}@{height}x{width} -convp4/2,ReLU-> {channels} "
            f"-convp4/2,BN,ReLU-> {2 * channels} -FC,BN,ReLU-> {hidden_features} "
            f"-FC-> {out_features}"
        )


class InfoGANDecoder(NotatedNetwork):
    """From vectors to images: the layers of :class:`InfoGANEncoder` in the opposite order.

    The last layer has as many channels as the images; that of the printed table has 128.

    Args:
        in_features: F of the vectors.
        image_shape: [C, H, W] of the images, whose sides are multiples of 4.
        channels: of the layer before the last; the one before that has twice as many.
        hidden_features: of the first fully connected layer.
        sigmoid: whether a sigmoid puts pixels between 0 and 1; without it they are logits, or free.

    Shape:
        [N, F] → [N, C, H, W].

    Raises:
        ValueError: for sizes that do not fit.

    References:
        As for :class:`InfoGANEncoder`.

    Example:
        >>> import torch
        >>> from gencore.nn import InfoGANDecoder
        >>> InfoGANDecoder(20, (3, 32, 32))(torch.zeros(3, 20)).shape
        torch.Size([3, 3, 32, 32])
    """

    def __init__(
        self,
        in_features: int,
        image_shape: Sequence[int],
        *,
        channels: int = 64,
        hidden_features: int = 1024,
        sigmoid: bool = True,
    ) -> None:
        colours, height, width = _check(
            "InfoGANDecoder", image_shape, in_features, channels, hidden_features
        )
        maps = f"{2 * channels}@{height // 4}x{width // 4}"
        values = 2 * channels * (height // 4) * (width // 4)
        last = ",Sigmoid" if sigmoid else ""
        super().__init__(
            f"{in_features} -FC,BN,ReLU-> {hidden_features} -FC,BN,ReLU-> {values} "
            f"-reshape-> {maps} -convp4/1/2,BN,ReLU-> {channels} "
            f"-convp4/1/2{last}-> {colours}@{height}x{width}"
        )


def _check(
    owner: str, image_shape: Sequence[int], features: int, channels: int, hidden_features: int
) -> tuple[int, int, int]:
    sides = tuple(image_shape)
    if len(sides) != 3 or min(sides) < 1 or sides[1] % 4 or sides[2] % 4:
        raise ValueError(
            f"{owner}: image_shape is {sides}; expected [C, H, W] with sides that are multiples "
            "of 4"
        )
    check_positive(owner, features=features, channels=channels, hidden_features=hidden_features)
    return sides[0], sides[1], sides[2]
