"""Films from one image: a dynamic generator whose first state and appearance an encoder gives."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Generator, Tensor, nn

from gencore.inference import Latents, LatentShapes
from gencore.models.starts import like
from gencore.models.video.dynamic_generator import DynamicGenerator
from gencore.models.video.latent_film import LatentFilmModel
from gencore.nn.evaluating import evaluating
from gencore.sizes import check_positive, check_whole

__all__ = ["ImageToVideo", "ImageToVideoEncoder"]


class ImageToVideoEncoder(nn.Sequential):
    """The encoder e_γ: three convolutions and a linear layer.

    Channels are {1, 2, 4} · width, filters {5, 3, 3} wide and steps {2, 2, 1} pixels, with ReLU
    after each, as the thesis has them with a width of 64.

    Args:
        image_shape: [C, H, W].
        num_outputs: state and appearance together, S + A.
        width: channels of the first convolution.

    Shape:
        [N, C, H, W] → [N, S + A].

    References:
        Gao 2021, §3.3, "Learn to animate static image".

    Example:
        >>> import torch
        >>> ImageToVideoEncoder((3, 64, 64), 180, width=8)(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 180])
    """

    def __init__(self, image_shape: Sequence[int], num_outputs: int, *, width: int = 64) -> None:
        check_positive("ImageToVideoEncoder", num_outputs=num_outputs, width=width)
        check_whole("ImageToVideoEncoder", image_shape=list(image_shape))
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise ValueError(
                f"ImageToVideoEncoder: image_shape is {list(image_shape)}; expected [C, H, W]"
            )
        channels, *sides = image_shape
        coarse = [math.ceil(math.ceil(side / 2) / 2) for side in sides]
        super().__init__(
            nn.Conv2d(channels, width, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(4 * width * math.prod(coarse), num_outputs),
        )  # fmt: skip


class ImageToVideo(LatentFilmModel):
    r"""A film from its first frame x_0, by a dynamic generator that an encoder starts.

    .. math:: [s_0, a] = e_\gamma(x_0), \qquad s_t = f_\alpha(s_{t-1}, \xi_t), \qquad
              x_t = g_\beta(s_t, a) + \epsilon_t \qquad (3.12\text{–}3.14)

    The noise "noise" ξ [N, T, Z] of the frames x_1 … x_T is the only latent. Encoder and generator
    learn together, by alternating back-propagation through time: `log_likelihood` has a gradient to
    all three networks.

    Args:
        encoder: e_γ, from images [N, ...] to [N, S + A], states first.
        generator: f_α and g_β, without a motion code; σ and the reduction are its own.

    Raises:
        ValueError: for a generator with a motion code, or an encoder of another size; in a call,
            for shapes that do not fit.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, (3.12)–(3.14).

    Example:
        >>> import torch
        >>> from gencore.models import DynamicGenerator, ImageToVideo, ImageToVideoEncoder
        >>> from gencore.nn import DCGANGenerator, StateTransition
        >>> emission = DCGANGenerator(4 + 3, (1, 8, 8), width=8, normalization="none")
        >>> generator = DynamicGenerator(StateTransition(4, 2), emission, appearance_size=3)
        >>> model = ImageToVideo(ImageToVideoEncoder((1, 8, 8), 4 + 3, width=8), generator)
        >>> model.animate(torch.zeros(2, 1, 8, 8), 5).shape
        torch.Size([2, 5, 1, 8, 8])
    """

    num_given = 1

    def __init__(self, encoder: nn.Module, generator: DynamicGenerator) -> None:
        super().__init__()
        if generator.transition.code_size:
            raise ValueError(
                f"ImageToVideo: the generator has a motion code of "
                f"{generator.transition.code_size} numbers, which the encoder does not give; "
                "expected none"
            )
        self.encoder, self.generator = encoder, generator

    def latent_shapes(self, num_frames: int) -> LatentShapes:
        """The latents of a film of x_0 and T further frames: their noise alone."""
        return LatentShapes({"noise": (num_frames, self.generator.transition.noise_size)})

    def encode(self, image: Tensor) -> Latents:
        """[s_0, a] = e_γ(x_0): "start" [N, S] and, if the generator has any, "appearance" [N, A],
        of images [N, ...]."""
        state_size, size = self.generator.transition.state_size, self.generator.appearance_size
        code = self.encoder(image)
        if code.shape != (len(image), state_size + size):
            raise ValueError(
                f"ImageToVideo: the encoder gives {list(code.shape)}; expected "
                f"[{len(image)}, {state_size + size}], a state and an appearance"
            )
        start, appearance = code.split([state_size, size], 1)
        return {"start": start, "appearance": appearance} if size else {"start": start}

    def decode(self, latents: Mapping[str, Tensor], image: Tensor) -> Tensor:
        """Frames x_1 … x_T, [N, T, ...], of noise and of x_0 [N, ...]."""
        return self.generator.decode({**latents, **self.encode(image)})

    def log_likelihood(
        self, frames: Tensor, latents: Mapping[str, Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """−‖x − h(ξ; x_0)‖² / 2σ² of the frames after the first, [N], up to a constant.

        Args:
            frames: x_0, x_1 … x_T, [N, T + 1, ...].
            latents: noise [N, T, Z].
            mask: where x_1 … x_T are visible, as of :class:`FilmGenerator`.
        """
        codes = self.encode(frames[:, 0])
        return self.generator.log_likelihood(frames[:, 1:], {**latents, **codes}, mask)

    def posterior_energy(
        self, frames: Tensor, mask: Tensor | None = None
    ) -> Callable[[Latents], Tensor]:
        # State and appearance are not sampled: x_0 is encoded once, and not in each step.
        with torch.no_grad():
            codes = self.encode(frames[:, 0])
        later = frames[:, 1:]
        return lambda latents: -self.generator.log_likelihood(later, {**latents, **codes}, mask)

    @torch.no_grad()
    def animate(
        self,
        images: Tensor,
        num_frames: int,
        *,
        noise: Tensor | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """New films of T frames after given images, [N, T, ...].

        Args:
            images: x_0, [N, ...].
            num_frames: T.
            noise: ξ [N, T, Z], in the place of draws from the prior.
            generator: draws the key where none is given.
            key: int64 [seed, offset].
            first: number of films before these, of other processes.
        """
        if num_frames < 1:
            raise ValueError(
                f"ImageToVideo.animate: num_frames is {num_frames}; expected 1 or more"
            )
        if noise is None:
            latents = self.prior_latents(
                len(images), num_frames, generator=generator, key=key, first=first
            )
        else:
            latents = {"noise": noise.to(like(self))}
            self.latent_shapes(num_frames).pack(latents)  # raises for what does not fit
        with evaluating(self):
            return self.decode(latents, images)
