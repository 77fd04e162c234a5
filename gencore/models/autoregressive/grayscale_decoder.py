"""A decoder that sees earlier pixels without their colours."""

from collections.abc import Callable

from torch import Tensor

from gencore.models.autoregressive.auxiliary_targets.grayscale import luma
from gencore.models.autoregressive.image_model import AutoregressiveImageModel, SamplingMethod
from gencore.models.autoregressive.sampling import Known, draw_naively
from gencore.nn.causal.plan import PixelPlan

__all__ = ["GrayscaleDecoder"]


class GrayscaleDecoder(AutoregressiveImageModel):
    r"""An autoregressive model of an image that sees the luma of earlier pixels alone.

    .. math:: p(x) = \prod_i p(x_i \mid \operatorname{grey}(x_{<i}), \text{context})

    So colours that pixels have in common have to come from the context: a decoder of
    :class:`gencore.models.AGAVE` that is restricted so that it needs z. Luma is that of
    :class:`gencore.models.GrayscaleTarget`, rounded to a level. Luma is not compiled, so both
    methods of `sample` draw pixels naively.

    Args:
        network: of images of 3 channels, without `channel_groups`; it is given the luma three
            times. A likelihood may couple the channels of the pixel itself.

    Raises:
        ValueError: for a network of other images, or one whose parameters for a channel follow
            from the pixel's channels before it.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, sections 3.2
        and 3.3.3. Chen et al., "Variational lossy autoencoder", 2017, section 3.1.

    Example:
        >>> import torch
        >>> from gencore.models import GrayscaleDecoder, GatedPixelCNN
        >>> network = GatedPixelCNN((3, 4, 4), 6, 1, levels=4, channel_groups=1)
        >>> model = GrayscaleDecoder(network)
        >>> model.log_prob(torch.randint(4, (2, 3, 4, 4))).shape
        torch.Size([2])
    """

    def __init__(self, network: AutoregressiveImageModel) -> None:
        if network.image_shape[0] != 3 or network.channel_groups != 1:
            raise ValueError(
                f"GrayscaleDecoder: network has images {list(network.image_shape)} and "
                f"channel_groups {network.channel_groups}; expected 3 channels, and 1"
            )
        super().__init__(network.image_shape, network.likelihood)
        self.network = network

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        parameters: Tensor = self.network(luma(x).expand(-1, 3, -1, -1), context)
        return parameters

    def draw(
        self,
        method: SamplingMethod,
        images: Known,
        context: Tensor | None,
        uniforms: Tensor,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """By the whole network for each pixel, whatever the method."""
        draw_naively(self, images, context, uniforms, progress)

    def plan(self, num: int, context: Tensor | None = None, *, keep_all: bool = False) -> PixelPlan:
        """Luma is not compiled: it raises a ValueError."""
        raise ValueError("GrayscaleDecoder.plan: luma is not compiled")
