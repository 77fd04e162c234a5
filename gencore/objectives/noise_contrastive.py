"""Noise-contrastive estimation: a density learns to tell data from noise (Gao 2021, §4.2.1)."""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gencore.ops._support.checks import finite
from gencore.samplers.energy import check_energies

__all__ = ["NoiseContrast", "NoiseDensity", "noise_contrastive_loss", "noise_contrastive_value"]


class NoiseDensity(Protocol):
    """What is asked of the noise: its log-density, as distributions of torch and flows have it."""

    def log_prob(self, value: Tensor, /) -> Tensor:
        """log q of points [N, ...], [N]."""


class NoiseContrast(NamedTuple):
    """How well a density tells the data from noise."""

    value: Tensor
    """Scalar J or V, which the density ascends; with the graph of what it was made from."""
    accuracy: Tensor
    """Scalar, without a graph: how often u(x) > ½ says which of the two a point is, where the
    noise is `noise_ratio` times as frequent as the data."""

    @property
    def loss(self) -> Tensor:
        """−value, for an optimiser that descends."""
        return -self.value


def noise_contrastive_value(
    data_log_ratio: Tensor, noise_log_ratio: Tensor, *, noise_ratio: float = 1.0
) -> NoiseContrast:
    r"""The value of noise-contrastive estimation, from r = log p_θ − log q at data and at noise:

    .. math:: J = \operatorname{E}_{p_{data}} \log u(x) + \nu \operatorname{E}_q \log(1 - u(x)),
              \qquad u(x) = \frac{p_\theta(x)}{p_\theta(x) + \nu q(x)} = \sigma(r - \log\nu)

    (4.7) and (4.8) for ν = 1, where J = −2 log 2 + KL(p‖(p+q)/2) + KL(q‖(p+q)/2) at p_θ = p_data =
    p, so that it is at least −2 log 2, its value for p = q. (The source writes the sum of the two
    divergences as JSD (4.11), which is twice the usual one.) A larger ν asks for more noise, and
    its estimate of θ has a smaller variance.

    Args:
        data_log_ratio: r at data, [N].
        noise_log_ratio: r at samples of the noise, [M].
        noise_ratio: ν, noise per data point. M/N where both were drawn so; any other ν > 0 has the
            same optimum p_θ = p_data.

    Returns:
        The value, and the posterior's accuracy; a tie u = ½ counts one half.

    Raises:
        ValueError: for tensors that are not [N] and [M], not empty, and for a ν that is not
            positive.

    Example:
        >>> noise_contrastive_value(torch.zeros(3), torch.zeros(2))
        NoiseContrast(value=tensor(-1.3863), accuracy=tensor(0.5000))

    References:
        Gutmann and Hyvärinen, "Noise-contrastive estimation of unnormalized statistical models",
        2012; Gao, "Effective Learning of Descriptive and Generator Models and Learning
        Representations for Grid Cells and V1 Cells", 2021, whose equation numbers are used.
    """
    name = "noise_contrastive_value"
    for which, ratio in (("data_log_ratio", data_log_ratio), ("noise_log_ratio", noise_log_ratio)):
        if ratio.dim() != 1 or not len(ratio) or not ratio.is_floating_point():
            raise ValueError(
                f"{name}: {which} is {ratio.dtype} of shape {list(ratio.shape)}; expected real "
                "numbers [N], at least one"
            )
    if not finite(name, "noise_ratio", noise_ratio) > 0:
        raise ValueError(f"{name}: noise_ratio is {noise_ratio}; expected a positive number")
    data = data_log_ratio - math.log(noise_ratio)
    noise = noise_log_ratio - math.log(noise_ratio)
    value = logsigmoid(data).mean() + noise_ratio * logsigmoid(-noise).mean()
    with torch.no_grad():
        right = _fraction_positive(data) + noise_ratio * _fraction_positive(-noise)
        return NoiseContrast(value, right / (1 + noise_ratio))


def noise_contrastive_loss(
    log_prob: Callable[[Tensor], Tensor],
    noise: NoiseDensity,
    x: Tensor,
    samples: Tensor,
    *,
    noise_ratio: float = 1.0,
) -> NoiseContrast:
    """The contrast (4.7) of data and of samples of a fixed noise; minimise its `loss`.

    Of an energy E with a learned logarithm c of its normaliser, log p_θ = −E − c. The loss then
    trains c like any other parameter, and at its optimum c = log Z (4.9). Nothing here asks the
    density to integrate to 1; in a finite sample it nearly does.

    Args:
        log_prob: log p_θ, [N, ...] → [N], such as that of `gencore.models.EnergyDensity` with a
            learned `log_z`. It is called once, with data and samples together.
        noise: log q, which gets no gradient; a distribution of torch or a flow.
        x: data, [N, ...].
        samples: of the noise, [M, ...]; they are held fixed.
        noise_ratio: ν, as for `noise_contrastive_value`.

    Raises:
        TypeError, ValueError: if the log-densities are not one real number a row, and as
            `noise_contrastive_value`.

    Example:
        >>> from gencore.models import CouplingFlow, EnergyDensity
        >>> from gencore.nn import MLPEnergy
        >>> density, noise = EnergyDensity(MLPEnergy(2), 0.0, learned=True), CouplingFlow(2)
        >>> x, samples = torch.rand(8, 2), noise.sample(8).detach()
        >>> noise_contrastive_loss(density.log_prob, noise, x, samples).loss.backward()
        >>> bool(density.log_z.grad != 0), next(noise.parameters()).grad
        (True, None)

    References:
        As for `noise_contrastive_value`.
    """
    if samples.shape[1:] != x.shape[1:]:
        raise ValueError(
            f"noise_contrastive_loss: samples have shape {list(samples.shape)} for x of shape "
            f"{list(x.shape)}; expected rows of the same shape, {list(x.shape[1:])}"
        )
    points = torch.cat([x, samples.detach()])
    with torch.no_grad():
        log_q = noise.log_prob(points)
    log_p = log_prob(points)
    check_energies("noise_contrastive_loss", "log_prob(x)", log_p, points)
    check_energies("noise_contrastive_loss", "noise.log_prob(x)", log_q, points)
    data, noisy = (log_p - log_q).split([len(x), len(samples)])
    return noise_contrastive_value(data, noisy, noise_ratio=noise_ratio)


def _fraction_positive(logits: Tensor) -> Tensor:
    """The share of positive numbers; a 0 counts one half."""
    return (0.5 * (logits.sign() + 1)).mean()
