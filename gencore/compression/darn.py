"""Images of a `DARN`: its latent bits, from the top layer down, and then the pixels."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gencore.compression.exact_arithmetic import exact_copy
from gencore.compression.exact_sessions import VectorSession
from gencore.compression.session import ChainModel, Code

if TYPE_CHECKING:
    from gencore.models import DARN
    from gencore.models.autoregressive.darn import Autoregression

__all__ = ["DARNModel"]

# Rounds in which every latent bit is tried the other way round.
_SWEEPS = 3


class DARNModel(ChainModel):
    r"""A deep autoregressive network as a model that codes, by exact arithmetic.

    Latent bits h are chosen so that the whole is short, and an image takes

    .. math:: -\log_2 p(h) - \log_2 p(x \mid h)

    bits. This is the length of the pair. Minus the variational bound is less: it has back the
    entropy of the encoder's h, which this code spends (bits-back coding would not).

    Args:
        model: any DARN, in any order of the pixels.
        image_shape: [1, H, W] of the images whose pixels in raster order are its vectors.

    Raises:
        ValueError: for an image of another number of pixels.

    References:
        Hinton and van Camp, "Keeping neural networks simple by minimizing the description length
        of the weights", 1993, for the bits back.

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

    def code(
        self, code: Code, num: int, x: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """The layers from the top down; arguments as of `ChainModel`.

        Raises:
            ValueError: for a context.
        """
        if context is not None:
            raise ValueError("DARNModel: got a context; expected none")
        given: list[Tensor] = []
        if x is not None:
            pixels = x.flatten(1)
            given = [pixels, *self.latents(pixels).split(self.model.latents, 1)]
        above: Tensor | None = None
        network = exact_copy(self.model)
        for index in reversed(range(len(network.autoregressions))):
            layer = _Layer(network.autoregressions[index], above)
            order = layer.order
            levels = None if x is None else given[index][:, order][:, None, None]
            bits = code(VectorSession(layer), (num, 1, 1, layer.features), levels)[:, 0, 0]
            above = torch.empty_like(bits)
            above[:, order] = bits
        assert above is not None
        return above.view(num, *self.image_shape)

    @torch.no_grad()
    def latents(self, x: Tensor) -> Tensor:
        """Latent bits h, int64 [N, num_bits], with a large p(x, h) of vectors x [N, D].

        They start where the encoder's probabilities are largest. Then single bits change as long
        as p(x, h) grows, three times each at most.
        """
        layer, parts = self.model.inputs(x), []
        for encoder in self.model.encoders:
            layer = (encoder(layer) > 0).to(layer.dtype)
            parts.append(layer)
        h = torch.cat(parts, 1).to(torch.int64)
        best = self.model.log_joint(x, h)
        for _ in range(_SWEEPS):
            before = best
            for bit in range(self.model.num_bits):
                other = h.clone()
                other[:, bit] = 1 - other[:, bit]
                log_joint = self.model.log_joint(x, other)
                better = log_joint > best
                h, best = (
                    torch.where(better[:, None], other, h),
                    torch.where(better, log_joint, best),
                )
            if best.equal(before):
                break
        return h

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
