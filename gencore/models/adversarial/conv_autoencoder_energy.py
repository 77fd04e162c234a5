"""The convolutional auto-encoder that is the discriminator of energy-based GANs of images."""

from collections.abc import Sequence

from gencore.models.ebm.autoencoder_energy import AutoencoderEnergy
from gencore.nn.networks.notation import NotatedNetwork
from gencore.nn.networks.small_start import start_small
from gencore.sizes import check_whole

__all__ = ["ConvAutoencoderEnergy"]


class ConvAutoencoderEnergy(AutoencoderEnergy):
    r"""The energy of an image: how badly an auto-encoder of strided convolutions reconstructs it.

    .. math:: D(x) = \lVert \mathrm{Dec}(\mathrm{Enc}(x)) - x \rVert_2^2 \qquad (6.60)

    The encoder has 4×4 convolutions of stride 2 with leaky ReLU of slope 0.2, the decoder as many
    transposed ones with ReLU, and batch normalisation at all layers but the first and the last:
    DCGAN's two networks, the discriminator before the generator. Its generator is
    :class:`gencore.nn.DCGANGenerator`.

    Args:
        image_shape: [C, H, W], with sides that are multiples of 2^widths.
        widths: channels at each scale of the encoder, the finest first; the default is that of the
            paper's bedrooms and faces of 64×64.
        batch_norm: whether there is batch normalisation.

    Shape:
        [N, C, H, W] → [N].

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Mathieu, "Unsupervised Learning Under Uncertainty", 2017, §6.2.3 and §6.3.3. Zhao, Mathieu
        and LeCun, "Energy-based generative adversarial networks", 2017, appendix D.

    Example:
        >>> import torch
        >>> from gencore.models import ConvAutoencoderEnergy
        >>> energy, x = ConvAutoencoderEnergy((3, 32, 32), widths=(8, 16)), torch.rand(5, 3, 32, 32)
        >>> energy(x).shape, energy.encode(x).shape
        (torch.Size([5]), torch.Size([5, 16, 8, 8]))
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        widths: Sequence[int] = (64, 128, 256),
        batch_norm: bool = True,
    ) -> None:
        owner, shape = "ConvAutoencoderEnergy", tuple(image_shape)
        check_whole(owner, image_shape=list(image_shape), widths=list(widths))
        factor = 2 ** len(widths)
        if not widths or min(widths) < 1:
            raise ValueError(f"{owner}: widths is {tuple(widths)}; expected at least one, positive")
        if len(shape) != 3 or min(shape) < 1 or shape[1] % factor or shape[2] % factor:
            raise ValueError(
                f"{owner}: image_shape is {shape}; expected [C, H, W] with sides that are "
                f"multiples of {factor}"
            )
        channels, height, width = shape
        norm = "BN," if batch_norm else ""
        down = f"{channels}@{height}x{width} -convp4/2,LeakyReLU-> {widths[0]}"
        for features in widths[1:]:
            down += f" -convp4/2,{norm}LeakyReLU-> {features}"
        up = f"{widths[-1]}@{height // factor}x{width // factor}"
        for features in reversed(widths[:-1]):
            up += f" -convp4/1/2,{norm}ReLU-> {features}"
        up += f" -convp4/1/2-> {channels}@{height}x{width}"
        super().__init__(NotatedNetwork(down), NotatedNetwork(up))
        start_small(self)
