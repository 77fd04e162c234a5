"""What models of images by a conditional distribution a pixel share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Generator, Tensor, nn

from gencore.choices import check_choice
from gencore.models.autoregressive.coding import CodingSession
from gencore.models.autoregressive.levels import check_levels
from gencore.models.autoregressive.sampling import Known, draw_naively, draw_with_plan
from gencore.nn.causal.plan import PixelPlan
from gencore.nn.evaluating import evaluating
from gencore.sizes import check_whole

if TYPE_CHECKING:
    from gencore.nn.likelihoods import PixelLikelihood

__all__ = ["AutoregressiveImageModel", "SamplingMethod"]

SamplingMethod = Literal["incremental", "naive"]


class AutoregressiveImageModel(nn.Module):
    r"""Images of levels, as a product of conditional distributions in raster order.

    .. math:: p(x) = \prod_{i = 1}^{H W} \prod_{c = 1}^{C}
              p(x_{i,c} \mid x_{<i}, x_{i,<c}, \text{context})

    A subclass has a network that gives the parameters of all of them in one pass, :meth:`forward`.
    It is compiled for sampling (`gencore.nn.causal`) where it is made of causal convolutions,
    additions, products, activations, concatenations and parts of channels.

    Args:
        image_shape: [C, H, W].
        likelihood: the conditional distribution of a pixel.
        channel_groups: C where the parameters of a channel depend on the pixel's channels before
            it, which the network then sees one by one; 1 where it sees earlier pixels alone.

    Attributes:
        image_shape, likelihood, channel_groups: as given.

    References:
        Van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel recurrent neural networks", 2016,
        eqs. (1) and (2).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        likelihood: "PixelLikelihood",
        *,
        channel_groups: int = 1,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_whole(name, image_shape=image_shape, channel_groups=channel_groups)
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise ValueError(f"{name}: image_shape is {image_shape}; expected [C, H, W]")
        if channel_groups not in (1, image_shape[0]):
            raise ValueError(
                f"{name}: channel_groups is {channel_groups}; expected 1 or {image_shape[0]}"
            )
        self.image_shape = (image_shape[0], image_shape[1], image_shape[2])
        self.likelihood = likelihood
        self.channel_groups = channel_groups

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Parameters [N, P, H, W] of the conditional distributions at x.

        Args:
            x: levels [N, C, H, W], uint8 or int64.
            context: what the images are conditioned on, as the model has it.
        """
        raise NotImplementedError

    def log_prob(self, x: Tensor, context: Tensor | None = None, *, first_pixel: int = 0) -> Tensor:
        """log p(x) [N] in nats; of the pixels from number `first_pixel` on, given those before.

        Args:
            x: levels [N, C, H, W], uint8 or int64.
            context: what the images are conditioned on.
            first_pixel: pixels in raster order that are given.

        Raises:
            TypeError: for x of another dtype.
            ValueError: for x of another shape, or with levels that there are none of; for a context
                of another number of rows, or a pixel that there is none of.
        """
        self.check_levels("log_prob", x)
        self._check_context("log_prob", len(x), context)
        pixels = self.likelihood.log_prob(self(x, context), x).flatten(1)
        if not 0 <= first_pixel <= pixels.shape[1]:
            raise ValueError(
                f"{type(self).__name__}.log_prob: first_pixel is {first_pixel}; expected 0 to "
                f"{pixels.shape[1]}"
            )
        return pixels[:, first_pixel:].sum(1)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        context: Tensor | None = None,
        *,
        method: SamplingMethod = "incremental",
        given: Tensor | None = None,
        known: Tensor | None = None,
        generator: Generator | None = None,
        progress: Callable[[int, int], None] | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """Images drawn pixel by pixel, or completed.

        The incremental method keeps the features of every layer, and computes those of the new
        pixel alone. The naive one runs the whole network for each. They make the same choices from
        the same uniforms, but for a uniform that lies within rounding of where two levels meet.

        Args:
            num: images N.
            context: what they are conditioned on.
            method: ``"incremental"`` or ``"naive"``.
            given: levels [N, C, H, W] of pixels that are known.
            known: where they are: bool [H, W], [C, H, W] or [N, C, H, W]. The others are drawn
                given all known ones that come before them in raster order.
            generator: of the uniforms, on the model's device.
            progress: called after each row with the rows that are done and those there are.
            out: int64 [N, C, H, W], written row by row and returned, so that an interrupt leaves
                what is done.

        Returns:
            Levels [N, C, H, W], int64.

        Raises:
            TypeError: for arguments of another kind.
            ValueError: for shapes or values that do not fit, a context that is not finite, or for
                a network that cannot be compiled, of which the naive method draws.
        """
        name = type(self).__name__
        check_choice(f"{name}.sample", "method", method, ("incremental", "naive"))
        if num < 0:
            raise ValueError(f"{name}.sample: num is {num}; expected at least 0")
        self._check_context("sample", num, context)
        if isinstance(context, Tensor) and not bool(context.isfinite().all()):
            raise ValueError(f"{name}.sample: the context has values that are not finite")
        place = next(self.parameters())
        images = Known.of(f"{name}.sample", self, num, given, known, out, place.device)
        size = (num, self.likelihood.num_uniforms(self.image_shape[0]), *self.image_shape[1:])
        uniforms = torch.rand(size, generator=generator, dtype=torch.float32, device=place.device)
        with evaluating(self):
            self.draw(method, images, context, uniforms, progress)
        return images.x

    def draw(
        self,
        method: SamplingMethod,
        images: Known,
        context: Tensor | None,
        uniforms: Tensor,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Draw the pixels in place; a subclass has its own way where it is not a causal network of
        convolutions.

        Args:
            method: of `sample`.
            images: in the making.
            context: of the model.
            uniforms: [N, U, H, W].
            progress: of `sample`.
        """
        by_method = draw_naively if method == "naive" else draw_with_plan
        by_method(self, images, context, uniforms, progress)

    def plan(self, num: int, context: Tensor | None = None, *, keep_all: bool = False) -> PixelPlan:
        """The network as what computes the features of `num` images pixel by pixel.

        Args:
            num: images N.
            context: what they are conditioned on.
            keep_all: whether the features of all layers are kept, to be looked at.

        Raises:
            ValueError: for a network that is not causal, or has an operation that is not compiled.
        """
        self._check_context("plan", num, context)
        with evaluating(self):
            return PixelPlan(
                self,
                self.image_shape,
                self.likelihood.spec,
                num,
                context,
                channel_groups=self.channel_groups,
                keep_all=keep_all,
            )

    @torch.no_grad()
    def coding_session(self, num: int, context: Tensor | None = None) -> CodingSession:
        """What an entropy coder asks for the probabilities of the levels of `num` images.

        Raises:
            ValueError: for a network that cannot be compiled, or a likelihood without a draw.
            TypeError: for weights that are not float32.
        """
        return CodingSession(self.plan(num, context), num)

    def _check_context(self, method: str, num: int, context: Tensor | None) -> None:
        if isinstance(context, Tensor) and context.dim() > 0 and len(context) != num:
            raise ValueError(
                f"{type(self).__name__}.{method}: the context has {len(context)} rows; expected "
                f"one for each of {num} images"
            )

    def check_levels(self, method: str, x: Tensor) -> None:
        """Raise unless x holds images of the model's shape and levels."""
        owner = f"{type(self).__name__}.{method}"
        check_levels(owner, x, self.image_shape, self.likelihood.levels)
