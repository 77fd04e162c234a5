"""AGAVE: an autoregressive decoder of latents that an auxiliary decoder keeps meaningful."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from gencore.models.autoregressive.auxiliary_vae import AuxiliaryVAE
from gencore.models.autoregressive.bound_terms import BoundTerms
from gencore.models.autoregressive.image_model import AutoregressiveImageModel, SamplingMethod
from gencore.models.log_mean_exp import log_mean_exp
from gencore.models.shapes import output_shape
from gencore.nn import ContextMap
from gencore.ops._support.checks import check_count

__all__ = ["AGAVE", "AuxiliarySample"]


class AuxiliarySample(NamedTuple):
    """Images, and what their pixels were drawn given."""

    x: Tensor
    """Levels, int64 [N, C, H, W]."""
    auxiliary: Tensor
    """The intermediate images f(z), [N, *target.shape], of levels scaled to [-1, 1]."""


class AGAVE(nn.Module):
    r"""Auxiliary guided autoregressive variational autoencoder.

    .. math:: \mathcal L = \mathbb E_{q(z|x)}\Big[\sum_i \log p(x_i \mid x_{<i}, f(z))\Big]
              + \mathbb E_{q(z|x)}\Big[\sum_j \log p(y_j \mid f(z))\Big]
              - \lambda\, \mathrm{KL}\big(q(z|x) \,\Vert\, p(z)\big)

    An autoregressive decoder alone would do without z, which costs bits. The auxiliary decoder is
    factorised and cannot: it fills z, and then the autoregressive one has it for nothing. λ says
    how much z holds, and the auxiliary image y what kind of it. λ = 1 treats x and y as independent
    given z, λ = 2 adds the two bounds up. The log-likelihood that is reported, `bound`, has neither
    y nor λ: primary reconstruction − KL.

    Without the auxiliary term (``auxiliary_weight=0``, ``kl_weight=1``) it is the autoencoder with
    an autoregressive decoder, (3.6), whose posterior collapses where the decoder suffices. With a
    decoder of few layers, or :class:`gencore.models.GrayscaleDecoder`, it is one of those that are
    restricted so that it does not.

    Args:
        vae: encoder, decoder and auxiliary image.
        primary: p(x_i | x_<i, ·), given maps [N, K, H, W] of what `stack` makes.
        stack: of f(z), in the resolution of x, [N, C', H, W], makes the maps; without it they are
            f(z). A :class:`gencore.nn.FeatureStack` is the one of the thesis.

    Raises:
        ValueError: for decoders of different images, or maps that the pixels do not take.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, (3.13).
        Lucas and Verbeek, "Auxiliary guided autoregressive variational autoencoders", 2018.

    Example:
        >>> import torch
        >>> from gencore.models import AGAVE, AuxiliaryVAE, FullResolutionTarget, GatedPixelCNN
        >>> from gencore.nn import FeatureStack, ImageDecoder, ImageEncoder
        >>> shape = (1, 4, 4)
        >>> target = FullResolutionTarget(shape, levels=16)
        >>> vae = AuxiliaryVAE(ImageEncoder(shape, 2 * 3), ImageDecoder(3, shape), target, 3)
        >>> stack = FeatureStack(1, 4, num_layers=2)
        >>> pixels = GatedPixelCNN(shape, 8, 2, levels=16, context_channels=stack.out_channels)
        >>> model, x = AGAVE(vae, pixels, stack), torch.randint(16, (5, *shape))
        >>> model(x, kl_weight=2.0).backward()
        >>> model.bound(x).shape, model.iw_bound(x, k=10).shape
        (torch.Size([5]), torch.Size([5]))
        >>> sample = model.sample(2, return_aux=True, method="naive")
        >>> sample.x.shape, sample.auxiliary.shape
        (torch.Size([2, 1, 4, 4]), torch.Size([2, 1, 4, 4]))
    """

    def __init__(
        self,
        vae: AuxiliaryVAE,
        primary: AutoregressiveImageModel,
        stack: nn.Module | None = None,
    ) -> None:
        super().__init__()
        target = vae.target
        found = (primary.image_shape, primary.likelihood.levels)
        if found != (target.image_shape, target.levels):
            raise ValueError(
                f"AGAVE: primary makes images {list(found[0])} of {found[1]} levels; expected "
                f"those of vae, {list(target.image_shape)} of {target.levels}"
            )
        self.vae, self.primary = vae, primary
        self.stack = nn.Identity() if stack is None else stack
        maps = (2, target.shape[0], *target.image_shape[1:])
        given = output_shape("AGAVE", "stack", self.stack, maps)
        taken = getattr(primary, "context", None)
        if given and isinstance(taken, ContextMap) and given[1] != taken.channels:
            raise ValueError(
                f"AGAVE: the pixels are given maps of {given[1]} channels; primary has "
                f"context_channels {taken.channels}"
            )

    def forward(
        self,
        x: Tensor,
        *,
        kl_weight: float = 2.0,
        auxiliary_weight: float = 1.0,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """The loss, −(3.13), a mean over images.

        Args:
            x: levels [N, C, H, W].
            kl_weight: λ.
            auxiliary_weight: 1, or 0 for (3.6).
            generator, key, first: as for `loss_terms`.
        """
        terms = self.loss_terms(x, generator=generator, key=key, first=first)
        objective = terms.objective(kl_weight=kl_weight, auxiliary_weight=auxiliary_weight)
        return -objective.mean()

    def loss_terms(
        self,
        x: Tensor,
        *,
        joint: bool = True,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> BoundTerms:
        """The terms of (3.13), from one latent an image.

        Args:
            x: levels [N, C, H, W], uint8 or int64.
            joint: whether the pixels are given f(z). Without it they are given an empty map, so
                that the two decoders learn apart from each other, as before they are joined.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the latents.
            first: number of images of the batch before these, on lower ranks and in earlier parts.
        """
        target = self.vae.target
        z, kl = self.vae.infer(x, generator=generator, key=key, first=first)
        f = self.vae.decode(z)
        primary = self.primary.log_prob(x, self.context(f if joint else torch.zeros_like(f)))
        return BoundTerms(primary, target.log_prob(f, target.target(x)), kl)

    def bound(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """A lower bound of log p(x), [N] in nats: primary − KL. Arguments as for `loss_terms`."""
        terms = self.loss_terms(x, generator=generator, key=key, first=first)
        return terms.primary - terms.kl

    def iw_bound(
        self,
        x: Tensor,
        k: int = 150,
        *,
        chunk: int = 512,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """The importance-weighted bound (2.64) of log p(x), [N] in nats.

        Args:
            x: levels [N, C, H, W].
            k: latents an image; the more, the tighter.
            chunk: latents that are decoded at once.
            generator, key, first: as for `loss_terms`.
        """

        def log_likelihood(f: Tensor, number: Tensor) -> Tensor:
            return self.primary.log_prob(x[number], self.context(f))

        weights = self.vae.log_weights(
            x, k, log_likelihood, chunk=chunk, generator=generator, key=key, first=first
        )
        return log_mean_exp(weights, 1)

    def context(self, f: Tensor) -> Tensor:
        """What the pixels are given, [N, K, H, W], of f(z) [N, *target.shape]."""
        context: Tensor = self.stack(self.vae.target.context(f))
        return context

    def encode(self, x: Tensor) -> Tensor:
        """The latent [N, L] in the middle of q(z | x)."""
        return self.vae.encode(x)

    @torch.no_grad()
    def decode(
        self,
        z: Tensor,
        *,
        method: SamplingMethod = "incremental",
        generator: Generator | None = None,
    ) -> AuxiliarySample:
        """Images x ~ p(x | f(z)) of latents [N, L], and f(z).

        Args:
            z: latents.
            method: of drawing pixels, as of `AutoregressiveImageModel.sample`.
            generator: of the pixels.
        """
        f = self.vae.decode(z)
        x = self.primary.sample(len(z), self.context(f), method=method, generator=generator)
        return AuxiliarySample(x, f)

    def sample(
        self,
        num: int,
        *,
        return_aux: bool = False,
        method: SamplingMethod = "incremental",
        generator: Generator | None = None,
    ) -> Tensor | AuxiliarySample:
        """Images x ~ p(x | f(z)) of latents z ~ N(0, I).

        Args:
            num: of images.
            return_aux: whether f(z) is returned as well.
            method: of drawing pixels, as of `AutoregressiveImageModel.sample`.
            generator: of latents and pixels.
        """
        z = self.vae.sample_latents(num, generator=generator)
        sample = self.decode(z, method=method, generator=generator)
        return sample if return_aux else sample.x

    def reconstruct(
        self,
        x: Tensor,
        *,
        method: SamplingMethod = "incremental",
        generator: Generator | None = None,
    ) -> AuxiliarySample:
        """Images of the latents of images: f(z) has what z holds of x, and the pixels are drawn
        given it. Arguments as for `sample`."""
        return self.decode(self.encode(x), method=method, generator=generator)

    def interpolate(
        self,
        x1: Tensor,
        x2: Tensor,
        steps: int,
        *,
        method: SamplingMethod = "incremental",
        generator: Generator | None = None,
    ) -> AuxiliarySample:
        """Images of latents on the line from those of x1 to those of x2.

        Args:
            x1, x2: levels [N, C, H, W].
            steps: points of the line, its ends among them.
            method, generator: as for `sample`.

        Returns:
            N · steps images, line after line.
        """
        check_count("AGAVE.interpolate", "steps", steps, least=2)
        if x1.shape != x2.shape:
            raise ValueError(
                f"AGAVE.interpolate: x1 and x2 have shapes {list(x1.shape)} and "
                f"{list(x2.shape)}; expected the same"
            )
        ends = self.encode(x1).unsqueeze(1), self.encode(x2).unsqueeze(1)
        weight = torch.linspace(0, 1, steps, device=x1.device, dtype=ends[0].dtype).view(1, -1, 1)
        z = torch.lerp(*ends, weight).flatten(0, 1)
        return self.decode(z, method=method, generator=generator)
