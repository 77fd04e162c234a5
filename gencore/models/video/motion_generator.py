"""A generator of films that moves a first image and adds what motion does not explain."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.inference import Latents, LatentShapes
from gencore.models.video.film_generator import FilmGenerator
from gencore.nn import DCGANGenerator, DisplacementDecoder, StateTransition
from gencore.nn.networks.displacement_decoder import start_variance_preserving
from gencore.objectives.tracking import (
    ResidualPenalty,
    displacement_roughness,
    residual_penalty,
)
from gencore.ops import warp_chain
from gencore.ops._support.checks import number
from gencore.sizes import check_positive, check_whole

__all__ = ["MotionFilm", "MotionGenerator", "MotionLoss", "transfer_motion"]


class MotionFilm(NamedTuple):
    """Films of N sequences of T + 1 frames, taken apart."""

    frames: Tensor
    """X_t without the noise of the pixels, I_t + R_t, [N, T + 1, C, H, W]."""

    trackable: Tensor
    """I_t, the first image and what its movements make of it, like the frames."""

    residuals: Tensor
    """R_t, like the frames."""

    motion: Tensor
    """M_t for t = 1 … T, [N, T, 2, H, W], in pixels to the right and down: where the pixel of I_t
    comes from in the image before, so that what moves by v has the displacement minus v."""


class MotionLoss(NamedTuple):
    """The terms of the objective, means over sequences."""

    loss: Tensor
    """Minus log p(X | latents), and the penalties."""

    error: Tensor
    """Minus log p(X | latents) up to a constant, from the squared error."""

    residual: Tensor
    """The penalty of the residuals, without its weight."""

    roughness: Tensor
    """That of the displacements, without its weight."""


class MotionGenerator(FilmGenerator):
    r"""The motion-based dynamic generator: appearance, trackable motion and residuals of a film.

    .. math::
        s_t = (s_t^M, s_t^R) &= f_1(s_{t-1}, h_t) \qquad & (3.15) \\
        M_t &= f_2(s_t^M, a^M) & (3.16) \\
        R_t &= f_3(s_t^R, a^R) & (3.17) \\
        I_t &= \mathrm{warp}(I_{t-1}, M_t) & (3.18) \\
        X_t &= I_t + R_t + \varepsilon_t & (3.19) \\
        I_0 = f_0(c), \quad R_0 &= f_3(s_0^R, a^R), \quad X_0 = I_0 + R_0 + \varepsilon_0 & (3.20)

    for t = 1 … T, with c, s_0, h_t, a^M and a^R from N(0, I) and ε_t from N(0, σ²I). The codes a
    belong to a sequence and tell it from others.

    It is learned by Langevin chains over the latents of each sequence
    (:class:`gencore.inference.LatentChains`) and steps of the weights, both on

    .. math:: E = \sum_t \frac{\lVert X_t - I_t - R_t \rVert^2}{2\sigma^2}
              + \lambda_1 \sum_t \lVert R_t \rVert + \lambda_2 \sum_t \mathrm{rough}(M_t)

    beside the latents' prior. The source prints no penalised objective: where the weights stand in
    it, and the forms of both penalties, are ours.

    Args:
        image_shape: [C, H, W], with sides above 4.
        motion_size: of s^M.
        residual_size: of s^R.
        noise_size: of h_t.
        appearance_size: of c.
        motion_code_size: of a^M; 0 for none, as for a single sequence.
        residual_code_size: of a^R; 0 for none.
        hidden_widths: of f_1, a :class:`gencore.nn.StateTransition`.
        width: channels of the finest hidden maps of f_0, f_2 and f_3.
        max_displacement: bound of a displacement along each axis, in pixels a frame.
        noise_std: σ.
        residual_weight: λ₁.
        residual_form: "norm", or "square" for λ₁‖R_t‖².
        roughness_weight: λ₂, of :func:`gencore.objectives.displacement_roughness`.

    Raises:
        TypeError, ValueError: for sizes and weights that do not fit, and on a call for latents or
            frames that do not.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §3.4. Xie, Gao, Zheng, Zhu and Wu, "Motion-based
        generator model: unsupervised disentanglement of appearance, trackable and intrackable
        motions in dynamic patterns", 2020.

    Example:
        >>> import torch
        >>> from gencore.models import MotionGenerator
        >>> model = MotionGenerator((1, 16, 16), width=4)
        >>> film = model(model.prior_latents(2, num_frames=6))
        >>> film.frames.shape, film.motion.shape
        (torch.Size([2, 6, 1, 16, 16]), torch.Size([2, 5, 2, 16, 16]))
        >>> bool((film.frames == film.trackable + film.residuals).all())
        True
    """

    code_names = ("appearance", "motion_code", "residual_code")

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        motion_size: int = 10,
        residual_size: int = 10,
        noise_size: int = 10,
        appearance_size: int = 10,
        motion_code_size: int = 0,
        residual_code_size: int = 0,
        hidden_widths: Sequence[int] = (20, 20),
        width: int = 16,
        max_displacement: float = 4.0,
        noise_std: float = 1.0,
        residual_weight: float = 1.0,
        residual_form: ResidualPenalty = "norm",
        roughness_weight: float = 0.005,
    ) -> None:
        super().__init__(noise_std=noise_std)
        owner = "MotionGenerator"
        check_positive(
            owner, motion_size=motion_size, residual_size=residual_size,
            appearance_size=appearance_size,
        )  # fmt: skip
        check_whole(owner, motion_code_size=motion_code_size, residual_code_size=residual_code_size)
        if min(motion_code_size, residual_code_size) < 0:
            raise ValueError(
                f"{owner}: motion_code_size is {motion_code_size} and residual_code_size "
                f"{residual_code_size}; expected 0 or more"
            )
        check_choice(owner, "residual_form", residual_form, get_args(ResidualPenalty))
        self.residual_weight = number(owner, "residual_weight", residual_weight)
        self.roughness_weight = number(owner, "roughness_weight", roughness_weight)
        self.residual_form: ResidualPenalty = residual_form
        self.image_shape = tuple(image_shape)
        self.motion_size = motion_size
        self.codes: dict[str, int] = {
            "motion_code": motion_code_size,
            "residual_code": residual_code_size,
        }
        self.appearance = DCGANGenerator(
            appearance_size, image_shape, width=width, normalization="none"
        )  # f_0
        self.transition = StateTransition(
            motion_size + residual_size, noise_size, hidden_widths
        )  # f_1
        self.displacement = DisplacementDecoder(
            motion_size + motion_code_size, self.image_shape[1:],
            max_displacement=max_displacement, width=width,
        )  # f_2  # fmt: skip
        self.residual = DCGANGenerator(
            residual_size + residual_code_size, image_shape, width=width, normalization="none",
            pixel_range="free",
        )  # f_3  # fmt: skip
        start_variance_preserving(self.appearance)
        # Close to zero, as the displacements: what motion explains is then learned as motion.
        start_variance_preserving(self.residual, last_std=1e-3)

    def latent_shapes(self, num_frames: int) -> LatentShapes:
        """The latents of a film of T + 1 frames: "appearance", c; "start", s_0; "noise", h [T, Z];
        and where they have a size "motion_code", a^M, and "residual_code", a^R.
        """
        check_positive("MotionGenerator.latent_shapes", num_frames=num_frames)
        transition = self.transition
        return LatentShapes({
            "appearance": (self.appearance.latent_size,),
            "start": (transition.state_size,),
            "noise": (num_frames - 1, transition.noise_size),
            **{name: (size,) for name, size in self.codes.items() if size},
        })  # fmt: skip

    def forward(self, latents: Mapping[str, Tensor]) -> MotionFilm:
        """The films of latents, taken apart."""
        return self._film(self._states(latents), latents)

    def decode(self, latents: Mapping[str, Tensor]) -> Tensor:
        return self(latents).frames

    def _decode_end(self, latents: Mapping[str, Tensor], num_frames: int) -> Tensor:
        # The image of c is the first frame after a burn-in of the states.
        return self._film(self._states(latents)[:, -num_frames:], latents).frames

    def _states(self, latents: Mapping[str, Tensor]) -> Tensor:
        """s_0 … s_T, [N, T + 1, S] (3.15)."""
        for name in ("appearance", "start", "noise", *filter(self.codes.get, self.codes)):
            if name not in latents:
                raise ValueError(
                    f"MotionGenerator: latents have no {name!r}; expected those of latent_shapes, "
                    f"got {sorted(latents)}"
                )
        start = latents["start"]
        return torch.cat([start.unsqueeze(1), self.transition.unroll(start, latents["noise"])], 1)

    def _film(self, states: Tensor, latents: Mapping[str, Tensor]) -> MotionFilm:
        s_motion, s_residual = states.split(
            [self.motion_size, states.shape[2] - self.motion_size], 2
        )
        motion = self._decode(self.displacement, s_motion[:, 1:], latents, "motion_code")  # (3.16)
        residuals = self._decode(self.residual, s_residual, latents, "residual_code")  # (3.17)
        trackable = transfer_motion(self.appearance(latents["appearance"]), motion)  # (3.18, 3.20)
        return MotionFilm(trackable + residuals, trackable, residuals, motion)  # (3.19)

    def _decode(
        self, decoder: nn.Module, states: Tensor, latents: Mapping[str, Tensor], code: str
    ) -> Tensor:
        """What a decoder makes of the states of each frame and of the code of each sequence."""
        if self.codes[code]:
            same = latents[code].unsqueeze(1).expand(-1, states.shape[1], -1)
            states = torch.cat([states, same], 2)
        fields: Tensor = decoder(states.flatten(0, 1))
        return fields.unflatten(0, states.shape[:2])

    def energy(
        self, frames: Tensor, latents: Mapping[str, Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """E [N] of observed films and latents, without the latents' prior.

        Args:
            frames: [N, T + 1, C, H, W].
            latents: of these films.
            mask: where pixels are visible, as of `log_likelihood`.
        """
        error, residual, roughness = self._terms(frames, latents, mask)
        return error + self.residual_weight * residual + self.roughness_weight * roughness

    def posterior_energy(
        self, frames: Tensor, mask: Tensor | None = None
    ) -> Callable[[Latents], Tensor]:
        """E as a function of latents alone, with the penalties that the weights learn by."""
        return lambda latents: self.energy(frames, latents, mask)

    def loss(
        self, frames: Tensor, latents: Mapping[str, Tensor], mask: Tensor | None = None
    ) -> MotionLoss:
        """The mean of E over films, and its parts."""
        error, residual, roughness = (term.mean() for term in self._terms(frames, latents, mask))
        energy = error + self.residual_weight * residual + self.roughness_weight * roughness
        return MotionLoss(energy, error, residual, roughness)

    def _terms(
        self, frames: Tensor, latents: Mapping[str, Tensor], mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Minus log p(X | latents) and both penalties, each [N]."""
        film: MotionFilm = self(latents)
        return (
            -self._log_likelihood_of(film.frames, frames, mask),
            residual_penalty(film.residuals, self.residual_form),
            displacement_roughness(film.motion),
        )


def transfer_motion(images: Tensor, motion: Tensor) -> Tensor:
    r"""Move images as the pixels of a film have moved (3.18).

    .. math:: I_0 = \text{image}, \qquad I_t = \mathrm{warp}(I_{t-1}, M_t)

    Outside of an image is its nearest pixel.

    Args:
        images: [N, C, H, W].
        motion: M, in pixels, [N, T, 2, H, W], or of one film for all images [1, T, 2, H, W].

    Returns:
        I_0 … I_T, [N, T + 1, C, H, W]; the first is the image, bit for bit.

    Raises:
        TypeError, ValueError: as :func:`gencore.ops.warp_chain`.

    References:
        Gao 2021, §3.4.1.

    Example:
        >>> import torch
        >>> from gencore.models import transfer_motion
        >>> motion = torch.zeros(1, 2, 2, 1, 3)
        >>> motion[:, :, 0] = -1.0  # each pixel comes from its left: the image moves to the right
        >>> transfer_motion(torch.tensor([[[[1.0, 2.0, 3.0]]]]), motion)[0, :, 0, 0]
        tensor([[1., 2., 3.],
                [1., 1., 2.],
                [1., 1., 1.]])
    """
    if motion.dim() == 5 and motion.shape[0] == 1 != images.shape[0]:
        motion = motion.expand(images.shape[0], -1, -1, -1, -1)
    moved = warp_chain(images, motion, padding="border")
    return torch.cat([images.unsqueeze(1), moved], 1)
