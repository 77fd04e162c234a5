"""Two-dimensional densities to try generative models on, with exact log-densities."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np
import torch
from torch import Generator, Tensor

from gencore.choices import check_choice
from gencore.data.names import DensityName
from gencore.ops import philox_normal, philox_words, random_key, split_key
from gencore.ops.random import stream_key

__all__ = [
    "Checkerboard",
    "Density",
    "DensityName",
    "NoisyCurves",
    "PinwheelDensity",
    "SpotDensity",
    "load_density",
]


# Terms [rows, components] that a mixture's log-density holds at once.
_TERMS_AT_ONCE = 2**22


class Density(ABC):
    """A density on the plane that can be sampled and evaluated.

    Args:
        extent: half the side of a square around the origin outside which there is no mass to speak
            of (less than 10⁻⁶).
        num_components: equally likely parts: spots, curves, arms or squares.
    """

    def __init__(self, extent: float, num_components: int) -> None:
        self.extent, self.num_components = extent, num_components

    def sample(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Independent points, float32 [num, 2].

        Args:
            num: number of points.
            generator: draws the key where none is given.
            key: int64 [seed, offset]; it fixes the points.
            first: number of points before these. With one key, `sample(a)` and `sample(b, first=a)`
                are the two parts of `sample(a + b)`.

        Raises:
            ValueError: for a negative number.
        """
        return self.sample_labelled(num, generator=generator, key=key, first=first)[0]

    def sample_labelled(
        self,
        num: int,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """The points of `sample` and the component that each is from, int64 [num]; arguments and
        errors are those of `sample`."""
        key = stream_key(random_key(generator) if key is None else key, "density")
        uniform_key, noise_key = split_key(key, 2)
        words = philox_words((num, 2), uniform_key, first_element=2 * first)
        # The middle of one of 2³² equal parts of [0, 1], in float64: never 1.
        uniform = (words.double() + 0.5) * 2.0**-32
        noise = philox_normal((num, 2), noise_key, first_element=2 * first, dtype=torch.float64)
        choice, place = uniform.unbind(1)
        label = (choice * self.num_components).long()
        return self._from_noise(choice, place, noise).float(), label

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of points [N, 2], in nats, [N]."""

    @abstractmethod
    def _from_noise(self, choice: Tensor, place: Tensor, noise: Tensor) -> Tensor:
        """Points from uniform numbers [N] twice and standard normals [N, 2], all float64."""


class _IsotropicMixture:
    """log Σⱼ wⱼ N(x; cⱼ, s²I): centres [J, 2], log-weights [J], a standard deviation s."""

    def __init__(self, centres: Tensor, log_weights: Tensor, std: float) -> None:
        self.centres, self.log_weights, self.std = centres, log_weights, std

    def log_prob(self, x: Tensor) -> Tensor:
        _check_points(x)
        centres, log_weights = (part.to(x) for part in (self.centres, self.log_weights))
        rows = max(1, _TERMS_AT_ONCE // len(centres))
        parts = [
            torch.logsumexp(
                log_weights - (part[:, None] - centres).square().sum(2) / (2 * self.std**2),
                dim=1,
            )
            for part in x.split(rows)
        ]
        return torch.cat(parts) - math.log(2 * math.pi * self.std**2)


class SpotDensity(Density):
    """Equal Gaussian spots N(cₖ, s²I).

    Args:
        centres: K points.
        std: s.

    Example:
        >>> density = SpotDensity([(0.0, 0.0)], std=1.0)
        >>> round(density.log_prob(torch.zeros(1, 2)).exp().item() * 2 * math.pi, 4)
        1.0
    """

    def __init__(self, centres: Sequence[tuple[float, float]], std: float) -> None:
        self.centres = torch.tensor(centres, dtype=torch.float64)
        super().__init__(self.centres.abs().max().item() + 6 * std, len(centres))
        self.std = std
        weights = torch.full((len(centres),), -math.log(len(centres)), dtype=torch.float64)
        self._mixture = _IsotropicMixture(self.centres, weights, std)

    def log_prob(self, x: Tensor) -> Tensor:
        return self._mixture.log_prob(x)

    def _from_noise(self, choice: Tensor, place: Tensor, noise: Tensor) -> Tensor:
        centres = self.centres.to(noise.device)
        return centres[(choice * len(centres)).long()] + self.std * noise


class NoisyCurves(Density):
    """Points cₖ(t) on equally likely curves, t uniform, with isotropic Gaussian noise.

        p(x) = (1/K) Σₖ ∫ N(x; cₖ(t), s²I) dt/(b − a)

    The integral is a Gauss–Legendre rule on pieces of a curve no longer than the noise is wide,
    whose error is far below that of float32.

    Args:
        curves: functions of t [M] → points [M, 2].
        interval: a and b.
        std: s.

    Example:
        >>> circle = NoisyCurves([lambda t: torch.stack([t.cos(), t.sin()], 1)], (0.0, 6.28), 0.1)
        >>> circle.sample(3).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        curves: Sequence[Callable[[Tensor], Tensor]],
        interval: tuple[float, float],
        std: float,
    ) -> None:
        self.curves, self.interval, self.std = tuple(curves), interval, std
        centres, weights = zip(*(self._nodes(curve) for curve in self.curves), strict=True)
        mixture = _IsotropicMixture(torch.cat(centres), torch.cat(weights).log(), std)
        super().__init__(mixture.centres.abs().max().item() + 6 * std, len(self.curves))
        self._mixture = mixture

    def log_prob(self, x: Tensor) -> Tensor:
        return self._mixture.log_prob(x)

    def _from_noise(self, choice: Tensor, place: Tensor, noise: Tensor) -> Tensor:
        low, high = self.interval
        t = low + (high - low) * place
        points = torch.stack([curve(t) for curve in self.curves])
        number = (choice * len(self.curves)).long()
        return points[number, torch.arange(len(t), device=t.device)] + self.std * noise

    def _nodes(self, curve: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Points [M, 2] on a curve and their weights [M], of sum 1/K."""
        low, high = self.interval
        fine = curve(torch.linspace(low, high, 10_001, dtype=torch.float64))
        longest = (fine[1:] - fine[:-1]).norm(dim=1).max().item() * 10_000
        pieces = math.ceil(longest / self.std)
        places, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(4))
        t = (torch.arange(pieces)[:, None] + (places + 1) / 2).flatten() / pieces
        weight = (weights / 2).repeat(pieces) / pieces
        return curve(low + (high - low) * t), weight / len(self.curves)


class PinwheelDensity(Density):
    """Gaussian arms that a rotation by an angle growing with the radius bends.

        x = scale · R(2πk/K + rate·e^r) y,   y ~ N((1, 0), diag(s_r², s_t²)),   r = ‖y‖

    A rotation by an angle that depends on nothing but the radius keeps areas, so the density is
    that of the Gaussian mixture at the points rotated back. (Johnson et al. take the angle from y's
    first coordinate, which is close to r, but does not keep areas.)

    Args:
        arms: K.
        radial_std, tangential_std: s_r and s_t.
        rate: of the rotation.
        scale: of the whole.

    References:
        Johnson et al., "Composing graphical models with neural networks", 2016.
    """

    def __init__(
        self,
        arms: int = 5,
        radial_std: float = 0.3,
        tangential_std: float = 0.1,
        rate: float = 0.25,
        scale: float = 1.0,
    ) -> None:
        super().__init__(scale * (1 + 6 * radial_std), arms)
        self.arms, self.rate, self.scale = arms, rate, scale
        self.stds = torch.tensor([radial_std, tangential_std], dtype=torch.float64)
        self._mean = torch.tensor([1.0, 0.0], dtype=torch.float64)

    def log_prob(self, x: Tensor) -> Tensor:
        _check_points(x)
        stds, mean = self.stds.to(x), self._mean.to(x)
        arms = torch.arange(self.arms, device=x.device)[:, None]
        straight = _rotate(x / self.scale, -self._angle(arms, (x / self.scale).norm(dim=1)))
        squares = ((straight - mean) / stds).square().sum(2)  # [K, N]
        area = 2 * math.pi * stds.prod() * self.scale**2 * self.arms
        return torch.logsumexp(-0.5 * squares, dim=0) - area.log()

    def _from_noise(self, choice: Tensor, place: Tensor, noise: Tensor) -> Tensor:
        straight = self._mean.to(noise) + self.stds.to(noise) * noise
        angle = self._angle((choice * self.arms).long(), straight.norm(dim=1))
        return self.scale * _rotate(straight, angle)

    def _angle(self, arm: Tensor, radius: Tensor) -> Tensor:
        return 2 * math.pi / self.arms * arm.to(radius) + self.rate * radius.exp()


class Checkerboard(Density):
    """The dark squares of a board of n × n unit squares, with isotropic Gaussian noise.

        p(x) = (2/n²) Σₖ Πᵢ [Φ((xᵢ − cₖᵢ + ½)/s) − Φ((xᵢ − cₖᵢ − ½)/s)]

    Args:
        side: n, an even number.
        std: s.

    Example:
        >>> board = Checkerboard(2, 0.05)
        >>> board.log_prob(torch.tensor([[-0.5, -0.5]])).exp()
        tensor([0.5000])
    """

    def __init__(self, side: int = 4, std: float = 0.05) -> None:
        dark = [(x, y) for x, y in _grid(side) if (x + y) % 2 == (1 - side) % 2]
        self.centres = torch.tensor(dark, dtype=torch.float64)
        super().__init__(side / 2 + 6 * std, len(dark))
        self.std = std

    def log_prob(self, x: Tensor) -> Tensor:
        _check_points(x)
        from_centres = (x.double()[:, None] - self.centres.to(x.device)).abs()
        # log(Φ(b) − Φ(a)) in the left tail, where the two are small and keep their digits
        high, low = ((side - from_centres) / self.std for side in (0.5, -0.5))
        high, low = (torch.special.log_ndtr(end) for end in (high, low))
        sides = high + torch.log1p(-torch.exp(low - high))
        return (sides.sum(2).logsumexp(1) - math.log(self.num_components)).to(x.dtype)

    def _from_noise(self, choice: Tensor, place: Tensor, noise: Tensor) -> Tensor:
        scaled = choice * self.num_components
        number = scaled.long()
        corner = self.centres.to(noise.device)[number] - 0.5
        return corner + torch.stack([scaled - number, place], 1) + self.std * noise


def load_density(name: str) -> Density:
    """One of the densities by name.

    | name | what it is | −H, nats |
    |---|---|---|
    | `"swiss_roll"` | (t cos t, t sin t)/10, t in [1.5π, 4.5π], noise 0.05 | −0.58 |
    | `"grid9"` | 3×3 spots at distance 1, of standard deviation 0.15 | −1.24 |
    | `"eight_gaussians"` | 8 spots of standard deviation 0.2 on a circle of radius 2 | −1.70 |
    | `"twenty_five_gaussians"` | 5×5 spots at distance 1, of standard deviation 0.1 | −1.45 |
    | `"pinwheel"` | 5 bent arms | −0.93 |
    | `"two_moons"` | two interleaved half circles of radius 1, noise 0.1 | −1.01 |
    | `"two_spirals"` | ±(t cos t, t sin t)/3, t in [π/2, 3π], noise 0.1 | −2.43 |
    | `"checkerboard"` | 8 of 4×4 unit squares, noise 0.05 | −2.25 |

    Args:
        name: as above.

    Raises:
        ValueError: there is no such density.

    Example:
        >>> density = load_density("grid9")
        >>> x = density.sample(2000, key=torch.tensor([0, 0]))
        >>> round(density.log_prob(x).mean().item(), 1)
        -1.2
    """
    check_choice("load_density", "name", name, get_args(DensityName))
    return _DENSITIES[name]()


def _grid(side: int) -> list[tuple[float, float]]:
    places = [place - (side - 1) / 2 for place in range(side)]
    return [(x, y) for x in places for y in places]


def _circle(num: int, radius: float) -> list[tuple[float, float]]:
    angles = [2 * math.pi * k / num for k in range(num)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def _spiral(t: Tensor) -> Tensor:
    return torch.stack([t * t.cos(), t * t.sin()], 1) / 10


def _arm(t: Tensor) -> Tensor:
    return torch.stack([t * t.cos(), t * t.sin()], 1) / 3


def _outer_moon(t: Tensor) -> Tensor:
    return torch.stack([t.cos() - 0.5, t.sin() - 0.25], 1)


def _inner_moon(t: Tensor) -> Tensor:
    return torch.stack([0.5 - t.cos(), 0.25 - t.sin()], 1)


_DENSITIES: dict[str, Callable[[], Density]] = {
    "swiss_roll": lambda: NoisyCurves([_spiral], (1.5 * math.pi, 4.5 * math.pi), 0.05),
    "grid9": lambda: SpotDensity(_grid(3), 0.15),
    "eight_gaussians": lambda: SpotDensity(_circle(8, 2.0), 0.2),
    "twenty_five_gaussians": lambda: SpotDensity(_grid(5), 0.1),
    "pinwheel": PinwheelDensity,
    "two_moons": lambda: NoisyCurves([_outer_moon, _inner_moon], (0.0, math.pi), 0.1),
    "two_spirals": lambda: NoisyCurves(
        [_arm, lambda t: -_arm(t)], (0.5 * math.pi, 3 * math.pi), 0.1
    ),
    "checkerboard": Checkerboard,
}


def _rotate(points: Tensor, angle: Tensor) -> Tensor:
    """Points [N, 2] by angles [..., N], [..., N, 2]."""
    x, y = points.unbind(1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * x - sin * y, sin * x + cos * y], -1)


def _check_points(x: Tensor) -> None:
    if x.dim() != 2 or x.shape[1] != 2 or not x.is_floating_point():
        raise ValueError(
            f"log_prob: got {x.dtype} of shape {list(x.shape)}; expected points [N, 2]"
        )
