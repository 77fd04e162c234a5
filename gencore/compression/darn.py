"""Images of a `DARN`, and its latent bits."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gencore.compression.exact_arithmetic import (
    exact_arithmetic,
    exact_copy,
    frequencies_of_logits,
)
from gencore.compression.exact_sessions import VectorSession
from gencore.compression.fixed_frequencies import FixedFrequencies
from gencore.compression.session import Code, LatentModel

if TYPE_CHECKING:
    from gencore.models import DARN
    from gencore.models.autoregressive.darn import Autoregression

__all__ = ["DARNModel"]


class DARNModel(LatentModel):
    r"""A deep autoregressive network as a model that codes, by exact arithmetic and bits back.

    An image takes

    .. math:: -\log_2 p(x, h) + \log_2 q(h \mid x), \qquad h \sim q(h \mid x)

    bits, minus the variational bound in the mean: see :mod:`gencore.compression.bits_back`. The
    first image of a stream takes those of its latents as well.

    Args:
        model: any DARN, in any order of the pixels.
        image_shape: [1, H, W] of the images whose pixels in raster order are its vectors.

    Raises:
        ValueError: for an image of another number of pixels.

    References:
        Gregor, Danihelka, Mnih, Blundell and Wierstra, "Deep AutoRegressive Networks", 2014.

    Example:
        >>> import torch
        >>> from gencore.compression import DARNModel, compress, decompress
        >>> from gencore.models import DARN
        >>> model = DARNModel(DARN(6, latents=(4, 3)), (1, 2, 3))
        >>> x = torch.randint(2, (10, 1, 2, 3))
        >>> decompress(model, compress(model, x)).equal(x)
        True
    """

    def __init__(self, model: "DARN", image_shape: tuple[int, int, int]) -> None:
        if image_shape[0] != 1 or image_shape[1] * image_shape[2] != model.features:
            raise ValueError(
                f"DARNModel: image_shape is {image_shape}; expected [1, H, W] of the "
                f"{model.features} coordinates of DARN"
            )
        self.model, self.image_shape, self.levels = model, image_shape, 2
        self.num_bits = model.num_bits

    def posterior(self, code: Code, x: Tensor, h: Tensor | None = None) -> Tensor:
        """Latent bits, int64 [N, num_bits], of images, from the layer above them upwards."""
        network = exact_copy(self.model)
        given = None if h is None else h.split(self.model.latents, 1)
        below, layers = x.flatten(1).double().cpu(), []
        for index, encoder in enumerate(network.encoders):
            with exact_arithmetic("DARNModel"):
                logits = encoder(below)
            table = frequencies_of_logits(torch.stack([torch.zeros_like(logits), logits], 2))
            shape = (len(x), 1, 1, logits.shape[1])
            bits = None if given is None else given[index].view(shape)
            layer = code(FixedFrequencies(table, shape[3]), shape, bits).flatten(1)
            below = layer.double().cpu()
            layers.append(layer)
        return torch.cat(layers, 1)

    def joint(
        self, code: Code, num: int, x: Tensor | None = None, h: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Images, and latent bits as of `posterior`, from the top layer down."""
        given: tuple[Tensor, ...] = ()
        if x is not None and h is not None:
            given = (x.flatten(1), *h.split(self.model.latents, 1))
        network, layers = exact_copy(self.model), list[Tensor]()
        for index in reversed(range(len(network.autoregressions))):
            layer = _Layer(network.autoregressions[index], layers[-1] if layers else None)
            order = layer.order
            levels = given[index][:, order][:, None, None] if given else None
            bits = code(VectorSession(layer), (num, 1, 1, layer.features), levels).flatten(1)
            layers.append(torch.empty_like(bits).index_copy(1, order.to(bits.device), bits))
        *latents, pixels = layers
        return pixels.view(num, *self.image_shape), torch.cat(latents[::-1], 1)

    def state_dict(self) -> Mapping[str, Any]:
        """The model's weights."""
        return self.model.state_dict()


class _Layer:
    """A layer given the bits of the one above."""

    levels = 2

    def __init__(self, layer: "Autoregression", above: Tensor | None) -> None:
        self.layer, self.order, self.features = layer, layer.order, len(layer.order)
        self.above = None if above is None else self.inputs(above)

    def inputs(self, x: Tensor) -> Tensor:
        return x.double().cpu()

    def steps(self, u: Tensor) -> Iterator[Tensor]:
        return self.layer.steps(u, self.above)
