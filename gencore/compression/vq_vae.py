"""Lossy compression: the codes of a `VQVAE`, without loss, in place of its images."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gencore.compression.exact_context import session_given
from gencore.compression.fixed_frequencies import uniform
from gencore.compression.session import CodingModel, LevelFrequencies

if TYPE_CHECKING:
    from gencore.models import VQVAE, AutoregressiveImageModel

__all__ = ["VQVAECodes", "VQVAEModel"]


class VQVAEModel:
    r"""A VQ-VAE as a lossy coder: an image's codes z take :math:`-\log_2 p(z)` bits.

    The codes come back bit for bit, everywhere. The images that the decoder makes of them are like
    those that were compressed; from one machine to the other they may differ by a level, where one
    lies within rounding of the middle between two.

    Args:
        model: the autoencoder, in evaluation mode.
        prior: of its codes, whose network can be compiled; uniform without one.

    Attributes:
        codes: what compresses codes.
        image_shape: [C, H, W].
        levels: of each value of an image.

    Raises:
        ValueError: for a prior of other images.

    Example:
        >>> import torch
        >>> from gencore.compression import VQVAEModel, compress, decompress
        >>> from gencore.models import VQVAE
        >>> model = VQVAEModel(VQVAE((1, 8, 8), 16, 32, 4, downsampling=2).eval())
        >>> codes = model.encode(torch.randint(256, (5, 1, 8, 8)))
        >>> back = decompress(model.codes, compress(model.codes, codes))
        >>> back.equal(codes), model.decode(back).shape
        (True, torch.Size([5, 1, 8, 8]))
    """

    def __init__(self, model: "VQVAE", prior: "AutoregressiveImageModel | None" = None) -> None:
        self.model = model
        self.image_shape, self.levels = model.image_shape, model.likelihood.levels
        self.codes = VQVAECodes(model, prior)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Codes, int64 [N, 1, H', W'], of levels [N, C, H, W]."""
        return self.model.encode(x).unsqueeze(1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """The expected levels, rounded, int64 [N, C, H, W], of codes [N, 1, H', W']."""
        return self.model.decode(codes.squeeze(1)).round().to(torch.int64)


class VQVAECodes(CodingModel):
    """The prior of a VQ-VAE's codes, as the model of images [1, H', W'] with as many levels as
    there are codes. A file of codes knows the autoencoder as well.

    Args:
        model, prior: of `VQVAEModel`.
    """

    def __init__(self, model: "VQVAE", prior: "AutoregressiveImageModel | None") -> None:
        self.model, self.prior = model, prior
        self.image_shape, self.levels = model.code_shape, model.num_codes
        if prior is not None:
            model.check_prior(prior)

    def coding_session(self, num: int, context: Tensor | None = None) -> LevelFrequencies:
        """A session of the prior.

        Raises:
            ValueError: for a context, or a prior that cannot be compiled.
        """
        if context is not None:
            raise ValueError("VQVAECodes: got a context; expected none")
        if self.prior is None:
            return uniform(self.levels, math.prod(self.image_shape))
        return session_given(self.prior, num, None)

    def state_dict(self) -> Mapping[str, Any]:
        """The weights of the autoencoder and of the prior."""
        weights = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.prior is not None:
            weights |= {f"prior.{name}": v for name, v in self.prior.state_dict().items()}
        return weights
