"""Images of an `AGAVE`: latents on a grid, and then the pixels."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gencore.compression.exact_arithmetic import (
    exact_arithmetic,
    exact_copy,
    frequencies_of_logits,
)
from gencore.compression.exact_context import session_given
from gencore.compression.fixed_frequencies import FixedFrequencies, uniform
from gencore.compression.session import TOTAL_FREQUENCY, ChainModel, Code

if TYPE_CHECKING:
    from gencore.models import AGAVE

__all__ = ["AGAVEModel"]

# Grids of latents have the steps 2^0, 2^-1, …, and reach this far to both sides of 0.
_NUM_GRIDS = 6
_REACH = 8


class AGAVEModel(ChainModel):
    r"""An auxiliary guided autoregressive variational autoencoder as a model that codes.

    The latents of an image are those in the middle of q(z | x), rounded to multiples of a step δ.
    With the normal distribution on this grid, π(z) ∝ exp(−z²/2), an image takes

    .. math:: -\log_2 \pi(z) - \log_2 p(x \mid x_{<i}, f(z))

    bits. A stream says its δ, of 1, ½, …, 1/32 that which makes it the shortest: the finer the
    grid, the more latents take and the better they describe the pixels. This is the length of the
    pair of x and z, which is longer than minus the bound.

    What the decoder makes of z is computed by exact arithmetic from weights rounded to multiples of
    2⁻¹⁶, the pixels' network is compiled.

    Args:
        model: whose `primary` can be compiled, and whose decoder and stack consist of what exact
            arithmetic can compute: linear layers, convolutions, common activations, repetitions.

    Example:
        >>> import torch
        >>> from gencore.compression import AGAVEModel, compress, decompress
        >>> from gencore.models import AGAVE, AuxiliaryVAE, FullResolutionTarget, GatedPixelCNN
        >>> from gencore.nn import ImageDecoder, ImageEncoder
        >>> shape = (1, 4, 4)
        >>> target = FullResolutionTarget(shape, levels=4)
        >>> vae = AuxiliaryVAE(ImageEncoder(shape, 2 * 3), ImageDecoder(3, shape), target, 3)
        >>> pixels = GatedPixelCNN(shape, 8, 2, levels=4, context_channels=1)
        >>> model = AGAVEModel(AGAVE(vae, pixels).eval())
        >>> x = torch.randint(4, (10, *shape))
        >>> decompress(model, compress(model, x)).equal(x)
        True
    """

    def __init__(self, model: "AGAVE") -> None:
        self.model = model
        self.image_shape = model.primary.image_shape
        self.levels = model.primary.likelihood.levels

    def code(
        self, code: Code, num: int, x: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """The number of the stream's grid, the latents' places on it and the pixels; arguments as
        of `ChainModel`.

        Raises:
            ValueError: for a context, and for a network that cannot be compiled or be computed
                exactly.
        """
        if context is not None:
            raise ValueError("AGAVEModel: got a context; expected none")
        size = self.model.vae.latent_size
        grid, places = None, None
        if x is not None:
            grid, places = self._shortest(x)
        shape = (1, 1, 1, 1)
        number = code(uniform(_NUM_GRIDS, 1), shape, None if grid is None else grid.view(shape))
        step = 2.0 ** -int(number)
        shape = (num, 1, 1, size)
        session = FixedFrequencies(_normal_frequencies(step), size)
        places = code(session, shape, None if places is None else places.view(shape))
        z = _on_grid(places[:, 0, 0].cpu().double(), step)
        vae = self.model.vae
        decoder, stack = exact_copy(vae.decoder), exact_copy(self.model.stack)
        with exact_arithmetic("AGAVEModel"):
            maps = stack(vae.target.context(decoder(z)))
        return code(session_given(self.model.primary, num, maps), (num, *self.image_shape), x)

    def state_dict(self) -> Mapping[str, Any]:
        """The model's weights."""
        return self.model.state_dict()

    def _shortest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The number of a grid, and the places of the images' latents on it, int64 [N, L]."""
        z = self.model.encode(x)
        best = (math.inf, torch.zeros(()), torch.zeros(()))
        for number in range(_NUM_GRIDS):
            step = 2.0**-number
            reach = round(_REACH / step)
            places = ((z / step).round().clamp(-reach, reach) + reach).to(torch.int64)
            on_grid = _on_grid(places, step).to(z.dtype)
            maps = self.model.context(self.model.vae.decode(on_grid))
            share = (_normal_frequencies(step).double() / TOTAL_FREQUENCY).log()[places.cpu()].sum()
            nats = -self.model.primary.log_prob(x, maps).double().sum().item() - share.item()
            if nats < best[0]:
                best = nats, torch.tensor(number), places
        return best[1:]


def _on_grid(places: Tensor, step: float) -> Tensor:
    """The numbers at places 0, 1, … of a grid."""
    return places * step - _REACH


def _normal_frequencies(step: float) -> Tensor:
    """Those of the places of a grid, in proportion to exp(−z²/2)."""
    z = _on_grid(torch.arange(2 * round(_REACH / step) + 1, dtype=torch.float64), step)
    return frequencies_of_logits(-z.square() / 2)
