"""The diagonal Gaussian of latents that an encoder gives: its parameters, and draws from it."""

import math
from typing import NamedTuple

from torch import Tensor, nn

from gencore.ops import philox_normal

__all__ = ["NormalParameters", "draw_latents", "encode_normal", "log_normal", "standard_normal_kl"]


class NormalParameters(NamedTuple):
    """A diagonal Gaussian a row."""

    mean: Tensor
    """[N, L]."""
    log_std: Tensor
    """[N, L]."""


def encode_normal(
    owner: str, encoder: nn.Module, x: Tensor, latent_size: int, what: str = "data"
) -> NormalParameters:
    """q(z | x) of data [N, ...], whose encoder gives means and logarithms of standard deviations.

    Args:
        owner: the model, for the error's text.
        encoder: data → [N, 2L].
        x: data.
        latent_size: L.
        what: x, in the error's text.

    Raises:
        ValueError: the encoder gives another shape.
    """
    parameters: Tensor = encoder(x)
    if parameters.shape != (len(x), 2 * latent_size):
        raise ValueError(
            f"{owner}: the encoder gives {list(parameters.shape)} for {what} {list(x.shape)}; "
            f"expected {[len(x), 2 * latent_size]}"
        )
    return NormalParameters(*parameters.to(x.dtype).chunk(2, 1))


def draw_latents(
    posterior: NormalParameters, num: int, key: Tensor, first: int = 0
) -> tuple[Tensor, Tensor]:
    """`num` latents z of each row [N, num, L], and log q(z | x), [N, num].

    Args:
        posterior: of N rows.
        num: latents of each.
        key: int64 [seed, offset].
        first: number of rows before these.
    """
    rows, size = posterior.mean.shape
    epsilon = philox_normal(
        (rows, num, size), key, first_element=first * num * size, dtype=posterior.mean.dtype
    )
    mean, log_std = (part.unsqueeze(1) for part in posterior)
    return mean + log_std.exp() * epsilon, log_normal(epsilon) - log_std.sum(2)


def log_normal(values: Tensor) -> Tensor:
    """log N(·; 0, I) over the last dimension."""
    return -0.5 * (values.square().sum(-1) + values.shape[-1] * math.log(2 * math.pi))


def standard_normal_kl(posterior: NormalParameters) -> Tensor:
    """KL(q(z | x) ‖ N(0, I)) = ½ Σ (σ² + μ² − 1) − log σ, [N]."""
    mean, log_std = posterior
    return (0.5 * ((2 * log_std).exp() + mean.square() - 1) - log_std).sum(1)
