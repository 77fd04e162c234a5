"""The dynamic generator model: a state that noise drives, and a network that shows it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gencore.inference import LatentShapes
from gencore.models.shapes import output_shape
from gencore.models.video.film_generator import FilmGenerator
from gencore.models.video.names import FrameReduction
from gencore.nn import StateTransition
from gencore.sizes import check_whole

__all__ = ["DynamicGenerator"]


class DynamicGenerator(FilmGenerator):
    r"""The dynamic generator model of films.

    .. math:: s_t = f_\alpha(s_{t-1}, \xi_t, m), \qquad
              x_t = g_\beta(s_t, a) + \epsilon_t \qquad (3.1, 3.2, 3.10, 3.11)

    Its latents are "noise" ξ [N, T, Z] and "start" s_0 [N, S], and with several sequences the
    codes "appearance" a [N, A] and "motion" m [N, K], which are fixed over time; each is N(0, I).
    The film is a deterministic function of them.

    Learning is alternating back-propagation through time (Algorithm 4): for a batch of films,
    move their latents on by l steps of Langevin dynamics from where they stand, and then the
    weights a step up the gradient of :meth:`log_likelihood`:

        chains = LatentChains(model.prior_latents(len(films), num_frames))
        for step in range(num_steps):
            latents = chains.advance(
                lambda z: -model.log_likelihood(films, z), torch.arange(len(films)), langevin
            )
            optimizer.zero_grad()
            (-model.log_likelihood(films, latents).mean()).backward()
            optimizer.step()

    Args:
        transition: f_α. Its `code_size` is K.
        emission: g_β, from [N, S + A], states before appearances, to frames [N, ...].
        appearance_size: A; 0 for films of one appearance.
        noise_std: σ.
        reduction: see :class:`FilmGenerator`.

    Raises:
        TypeError, ValueError: for sizes that do not fit.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §3.2. Xie, Gao, Zheng, Zhu and Wu, "Learning dynamic
        generator model by alternating back-propagation through time", 2019.

    Example:
        >>> import torch
        >>> from gencore.models import DynamicGenerator
        >>> from gencore.nn import DCGANGenerator, StateTransition
        >>> model = DynamicGenerator(
        ...     StateTransition(4, 2), DCGANGenerator(4 + 3, (1, 8, 8), width=8,
        ...     normalization="none", pixel_range="symmetric"), appearance_size=3)
        >>> film = model.sample(2, 5, burn_in=10)
        >>> latents = model.infer(film)
        >>> film.shape, {name: list(latent.shape) for name, latent in latents.items()}
        (torch.Size([2, 5, 1, 8, 8]), {'noise': [2, 5, 2], 'start': [2, 4], 'appearance': [2, 3]})
    """

    code_names = ("appearance", "motion")

    def __init__(
        self,
        transition: StateTransition,
        emission: nn.Module,
        *,
        appearance_size: int = 0,
        noise_std: float = 1.0,
        reduction: FrameReduction = "sum",
    ) -> None:
        super().__init__(noise_std=noise_std, reduction=reduction)
        check_whole("DynamicGenerator", appearance_size=appearance_size)
        if appearance_size < 0:
            raise ValueError(
                f"DynamicGenerator: appearance_size is {appearance_size}; expected 0 or more"
            )
        self.transition, self.emission = transition, emission
        self.appearance_size = appearance_size
        output_shape(
            "DynamicGenerator", "the emission network", emission,
            (1, transition.state_size + appearance_size),
        )  # fmt: skip

    def latent_shapes(self, num_frames: int) -> LatentShapes:
        codes = {"appearance": self.appearance_size, "motion": self.transition.code_size}
        return LatentShapes({
            "noise": (num_frames, self.transition.noise_size),
            "start": (self.transition.state_size,),
            **{name: (size,) for name, size in codes.items() if size},
        })  # fmt: skip

    def states(self, latents: Mapping[str, Tensor]) -> Tensor:
        """s_1 … s_T, [N, T, S]."""
        return self.transition.unroll(latents["start"], latents["noise"], latents.get("motion"))

    def emit(self, states: Tensor, appearance: Tensor | None = None) -> Tensor:
        """g_β: frames [N, T, ...] of states [N, T, S] and appearances [N, A]."""
        if self.appearance_size:
            if appearance is None or appearance.shape != (len(states), self.appearance_size):
                given = "missing" if appearance is None else f"{list(appearance.shape)}"
                raise ValueError(
                    f"DynamicGenerator: appearances are {given}; expected "
                    f"[{len(states)}, {self.appearance_size}]"
                )
            fixed = appearance.unsqueeze(1).expand(-1, states.shape[1], -1)
            states = torch.cat([states, fixed], 2)
        frames: Tensor = self.emission(states.flatten(0, 1))
        return frames.unflatten(0, states.shape[:2])

    def decode(self, latents: Mapping[str, Tensor]) -> Tensor:
        return self.emit(self.states(latents), latents.get("appearance"))

    def _decode_end(self, latents: Mapping[str, Tensor], num_frames: int) -> Tensor:
        return self.emit(self.states(latents)[:, -num_frames:], latents.get("appearance"))
