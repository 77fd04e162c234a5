"""Films as functions of latents, seen through Gaussian noise."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import get_args

import torch
from torch import Generator, Tensor

from gencore.choices import check_choice
from gencore.models.starts import like
from gencore.models.video.latent_film import LatentFilmModel
from gencore.models.video.names import FrameReduction
from gencore.nn.evaluating import evaluating
from gencore.ops._support.checks import accumulation_dtype, number

__all__ = ["FilmGenerator"]


class FilmGenerator(LatentFilmModel):
    r"""A model of films x = (x_1, …, x_T) that are a function of latents, plus noise.

    .. math:: x = h_\theta(z) + \epsilon, \qquad z \sim N(0, I),
              \quad \epsilon \sim N(0, \sigma^2 I)

    Its log joint density is, up to a constant,

    .. math:: L = -\tfrac12 \bigl[\lVert x - h_\theta(z) \rVert^2 / \sigma^2 +
              \lVert z \rVert^2\bigr] \qquad (3.6)

    A subclass says which latents a film has, `latent_shapes`, and what they show, `decode`.

    Args:
        noise_std: σ, the standard deviation of a pixel around what is decoded.
        reduction: "sum" is (3.6), the sum of squared errors over all frames and pixels. "mean"
            divides it by the number of frames T, as the authors' published program does for one
            sequence: the prior then weighs T times as much.

    Raises:
        ValueError: for a deviation that is not positive or another reduction.
    """

    def __init__(self, *, noise_std: float = 1.0, reduction: FrameReduction = "sum") -> None:
        super().__init__()
        name = type(self).__name__
        if not number(name, "noise_std", noise_std) > 0:
            raise ValueError(f"{name}: noise_std is {noise_std}; expected a positive number")
        check_choice(name, "reduction", reduction, get_args(FrameReduction))
        self.noise_std, self.reduction = float(noise_std), reduction

    code_names: tuple[str, ...] = ()
    """Latents that are codes of a whole film, fixed over time."""

    @abstractmethod
    def decode(self, latents: Mapping[str, Tensor]) -> Tensor:
        """h_θ(z): frames [N, T, ...] of latents, differentiable in both latents and weights."""

    def log_likelihood(
        self, frames: Tensor, latents: Mapping[str, Tensor], mask: Tensor | None = None
    ) -> Tensor:
        r"""−‖x − h_θ(z)‖² / 2σ² over the pixels that are visible, [N], up to a constant.

        Args:
            frames: [N, T, ...].
            latents: of these films.
            mask: bool, where pixels are visible, of a shape that broadcasts to that of the frames:
                [N, T, 1, 1, 1] for whole frames that are missing. What the others hold has no
                effect, also if it is NaN.

        Raises:
            TypeError, ValueError: the frames are not like what is decoded, or the mask is not
                boolean or does not broadcast.
        """
        return self._log_likelihood_of(self.decode(latents), frames, mask)

    def _log_likelihood_of(self, decoded: Tensor, frames: Tensor, mask: Tensor | None) -> Tensor:
        """`log_likelihood` of what latents show."""
        frames = self._visible(frames, mask, decoded)
        dtype = accumulation_dtype(frames)
        error = frames.to(dtype) - decoded.to(dtype)
        if mask is not None:
            error = torch.where(mask, error, 0)
        squares = error.square().flatten(1).sum(1)
        if self.reduction == "mean":
            squares = squares / frames.shape[1]
        return squares * (-0.5 / self.noise_std**2)

    @torch.no_grad()
    def reconstruct(self, latents: Mapping[str, Tensor]) -> Tensor:
        """What latents show, of the model in evaluation mode, without a graph."""
        with evaluating(self):
            return self.decode(latents)

    def recover(self, frames: Tensor, mask: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """Films whose hidden pixels are those that latents show, [N, T, ...].

        Args:
            frames: [N, T, ...].
            mask: where they are visible, as for `log_likelihood`.
            latents: that `infer` found for the visible pixels.
        """
        decoded = self.reconstruct(latents)
        return torch.where(mask, self._visible(frames, mask, decoded), decoded)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        num_frames: int,
        *,
        burn_in: int = 0,
        latents: Mapping[str, Tensor] | None = None,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """New films [num, T, ...], without the noise ε of their pixels.

        Args:
            num: number of films.
            num_frames: T.
            burn_in: frames that are made before these, and thrown away: where the states start is
                then forgotten.
            latents: some of the latents by name, in the place of draws from the prior: the
                appearance of a known film, say. Noise is that of all `burn_in` + T frames.
            generator: draws the key where none is given.
            key: int64 [seed, offset].
            first: number of films before these, of other processes.

        Raises:
            ValueError: for latents of other names or shapes, no frames, or a negative burn-in.
        """
        name = type(self).__name__
        if num_frames < 1 or burn_in < 0:
            raise ValueError(
                f"{name}.sample: num_frames is {num_frames} and burn_in {burn_in}; expected at "
                "least 1 and 0"
            )
        shapes = self.latent_shapes(burn_in + num_frames)
        drawn = self.prior_latents(
            num, burn_in + num_frames, generator=generator, key=key, first=first
        )
        given = {name: latent.to(like(self)) for name, latent in (latents or {}).items()}
        whole = {**drawn, **given}
        shapes.pack(whole)  # raises for what does not fit
        with evaluating(self):
            return self._decode_end(whole, num_frames)

    @torch.no_grad()
    def interpolate(
        self, start: Mapping[str, Tensor], end: Mapping[str, Tensor], steps: int
    ) -> Tensor:
        """Films [N, steps, T, ...] between two of each row: codes of whole films lie evenly on the
        line between both, and what belongs to frames, and the first states, are those of `start`.

        Args:
            start: latents of the first films.
            end: latents of the last films; only their codes count.
            steps: films of a row, both ends among them; at least 2.

        Raises:
            ValueError: fewer than 2 steps, or a model without codes.
        """
        codes = [name for name in self.code_names if name in start]
        if steps < 2 or not codes:
            raise ValueError(
                f"{type(self).__name__}.interpolate: steps is {steps}, and codes are {codes}; "
                "expected at least 2, and a model with codes"
            )
        films = []
        for step in range(steps):
            moved = {name: torch.lerp(start[name], end[name], step / (steps - 1)) for name in codes}
            films.append(self.reconstruct({**start, **moved}))
        return torch.stack(films, 1)

    def _decode_end(self, latents: Mapping[str, Tensor], num_frames: int) -> Tensor:
        """The last frames of what is decoded; a subclass may spare the others."""
        return self.decode(latents)[:, -num_frames:]

    def _visible(self, frames: Tensor, mask: Tensor | None, decoded: Tensor) -> Tensor:
        """The frames with zeros where they are hidden, or raise."""
        name = type(self).__name__
        if frames.shape != decoded.shape or not frames.is_floating_point():
            raise ValueError(
                f"{name}: frames are {frames.dtype} {list(frames.shape)}; expected floating point "
                f"{list(decoded.shape)}, as the latents show"
            )
        if mask is None:
            return frames
        if mask.dtype != torch.bool:
            raise TypeError(f"{name}: mask is {mask.dtype}; expected bool, True where visible")
        try:
            fits = torch.broadcast_shapes(mask.shape, frames.shape) == frames.shape
        except RuntimeError:
            fits = False
        if not fits or mask.dim() != frames.dim():
            raise ValueError(
                f"{name}: mask has shape {list(mask.shape)}; expected one that broadcasts to that "
                f"of the frames, {list(frames.shape)}"
            )
        return torch.where(mask, frames, 0)

    def extra_repr(self) -> str:
        return f"noise_std={self.noise_std}, reduction={self.reduction!r}"
