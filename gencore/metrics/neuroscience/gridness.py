"""Grid scores of response maps: how hexagonal they are, how far apart their fields, how turned."""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from gencore.metrics.neuroscience.autocorrelogram import autocorrelogram
from gencore.sizes import check_positive

__all__ = ["GRID_CELL_THRESHOLD", "GridScores", "grid_scores", "null_grid_rate"]

GRID_CELL_THRESHOLD = 0.37
"""Gridness from which Banino et al. (2018), and Gao after them, call a unit a grid cell."""

_ANGLES = 180  # of a circle in the autocorrelogram
# The radial mean of three plane waves of ‖a‖ is the Bessel function J₀(‖a‖ r), whose first maximum
# beyond 0 is at 7.0156/‖a‖; their fields are 4π/(√3 ‖a‖) apart.
_SPACING_A_RADIUS = 4 * math.pi / math.sqrt(3) / 7.015587
# Annuli are this many pixels wide at least, so that a turned ring has values to compare.
_MIN_WIDTH = 3


class GridScores(NamedTuple):
    """The scores of maps, [N] each; NaN where a map has no ring of fields that fits."""

    gridness: Tensor
    """From -2 to 2: above 1 for hexagons, below 0 for squares."""
    spacing: Tensor
    """Distance between neighbouring fields, in metres."""
    orientation: Tensor
    """Of the fields' nearest neighbours, in radians from 0 to π/3."""


def grid_scores(maps: Tensor, pixel: float) -> GridScores:
    r"""Hexagonality, spacing and orientation of maps from rings of their autocorrelograms.

    .. math:: g = \max_{\text{rings}} \Bigl[\min(r_{60}, r_{120}) - \max(r_{30}, r_{90}, r_{150})
              \Bigr]

    r_φ is the correlation of a ring of the autocorrelogram with itself turned by φ. Rings leave out
    the central peak, up to the first minimum of the radial mean, and end at every radius beyond it.
    The spacing is 1.034 times the radius of the first maximum that follows, as it is of hexagons of
    three plane waves, and the orientation that of the sixth harmonic around it.

    The best of several rings is above 0 for noise, too: report what share of maps without structure
    passes (:func:`null_grid_rate`) beside any share of grid cells.

    Args:
        maps: [N, H, W], the first axis x and the second y.
        pixel: metres from one pixel to the next.

    Raises:
        ValueError: for maps of another shape, below 8×8 or not square, and a pixel that is not
            positive.

    References:
        Sargolini et al., "Conjunctive representation of position, direction, and velocity in
        entorhinal cortex", 2006; Langston et al., "Development of the spatial representation system
        in the rat", 2010; Banino et al., "Vector-based navigation using grid-like representations
        in artificial agents", 2018, for the threshold.

    Example:
        >>> import torch
        >>> from gencore.data import PlaceLattice
        >>> from gencore.metrics import grid_scores
        >>> from gencore.models import HexagonCode
        >>> code = HexagonCode(PlaceLattice(40), [0.4])
        >>> scores = grid_scores(code.code[:, 0, :3].T.reshape(3, 40, 40), pixel=1 / 39)
        >>> bool((scores.gridness > 1.3).all()), round(scores.spacing[0].item(), 1)
        (True, 0.4)
    """
    if maps.ndim != 3 or maps.shape[1] != maps.shape[2] or maps.shape[1] < 8:
        raise ValueError(
            f"grid_scores: maps have shape {list(maps.shape)}; expected [N, S, S] with S ≥ 8"
        )
    if not 0 < pixel < math.inf:
        raise ValueError(f"grid_scores: pixel is {pixel}; expected a positive length")
    if not len(maps):
        return GridScores(*maps.new_zeros(3, 0))
    size = maps.shape[1]
    rings = _polar(autocorrelogram(maps.detach().double()), size)  # [N, radii, angles]
    profile = rings.mean(2)
    known = profile.isfinite().cumprod(1).sum(1).clamp(min=1)
    start, peak = _first_ring(profile, known)
    gridness = _best_annulus(rings, start, known)
    found = gridness.isfinite()
    spacing = pixel * _SPACING_A_RADIUS * _vertex(profile, peak)
    scores = gridness, spacing, _orientation(rings, peak)
    return GridScores(*(torch.where(found, each, torch.nan).to(maps.dtype) for each in scores))


def null_grid_rate(
    maps: Tensor,
    pixel: float,
    *,
    num: int = 200,
    threshold: float = GRID_CELL_THRESHOLD,
    generator: Generator | None = None,
) -> float:
    """The share of maps without structure that would pass for grid cells.

    Such a map has the radial power spectrum of one of the maps, and random phases in a random
    direction: as smooth as it and as periodic, but of no symmetry.

    Args:
        maps: [N, S, S], as of :func:`grid_scores`.
        pixel: metres from one pixel to the next.
        num: maps without structure.
        threshold: of the gridness.
        generator: of their phases.

    Raises:
        ValueError: as of :func:`grid_scores`, and for no maps at all.
    """
    check_positive("null_grid_rate", num=num, maps=len(maps))
    surrogates = _surrogates(maps.detach().float(), num, generator)
    gridness = grid_scores(surrogates, pixel).gridness
    return (gridness >= threshold).double().mean().item()


def _surrogates(maps: Tensor, num: int, generator: Generator | None) -> Tensor:
    """Noise with the radial spectra of maps that are drawn with replacement, [num, S, S]."""
    size = maps.shape[-1]
    chosen = maps[torch.randint(len(maps), (num,), generator=generator).to(maps.device)]
    power = torch.fft.fft2(chosen - chosen.mean((1, 2), keepdim=True)).abs().square()
    frequency = torch.fft.fftfreq(size, 1 / size, device=maps.device)
    ring = torch.cartesian_prod(frequency, frequency).norm(dim=1).round().long()
    count = torch.zeros(int(ring.max()) + 1, device=maps.device).index_add_(
        0, ring, torch.ones_like(ring, dtype=torch.float32)
    )
    radial = maps.new_zeros(num, len(count)).index_add_(1, ring, power.flatten(1)) / count
    noise = torch.randn(num, size, size, generator=generator).to(maps.device)
    amplitude = radial[:, ring].view(num, size, size).sqrt()
    return torch.fft.ifft2(torch.fft.fft2(noise) * amplitude).real


def _polar(r: Tensor, size: int) -> Tensor:
    """Autocorrelograms on circles of the radii 0, 1, … size − 1 pixels, [N, size, _ANGLES]."""
    angle = torch.arange(_ANGLES, dtype=r.dtype, device=r.device) * (2 * math.pi / _ANGLES)
    radius = torch.arange(size, dtype=r.dtype, device=r.device)[:, None]
    # grid_sample wants (last axis, first axis), scaled so that the outermost pixels are at ±1.
    grid = torch.stack([radius * angle.sin(), radius * angle.cos()], -1) / (size - 1)
    return torch.nn.functional.grid_sample(
        r[:, None], grid.expand(len(r), -1, -1, -1), align_corners=True
    ).squeeze(1)


def _first_ring(profile: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The radius from which the radial mean [N, R] rises, and that from which it falls again; the
    last known one where it does not."""
    radius = torch.arange(profile.shape[1] - 1, device=profile.device)
    change = profile.diff(dim=1)
    last = known[:, None] - 1
    start = torch.where((change > 0) & (radius < last), radius, last).amin(1, keepdim=True)
    falls = (change < 0) & (radius > start) & (radius < last)
    return start.squeeze(1), torch.where(falls, radius, last).amin(1)


def _best_annulus(rings: Tensor, start: Tensor, known: Tensor) -> Tensor:
    """The largest min(r₆₀, r₁₂₀) − max(r₃₀, r₉₀, r₁₅₀) of the annuli that begin at a radius, [N];
    −infinity where there is none. Circles weigh as much as their radii."""
    f = rings.nan_to_num(0)
    radius = torch.arange(f.shape[1], dtype=f.dtype, device=f.device)
    step = _ANGLES // 12  # of 30 degrees
    products = [(f * f.roll(n * step, 2)).mean(2) for n in range(6)]
    # Sums over an annulus are differences of running sums, [8, N, R + 1].
    terms = torch.stack([torch.ones_like(f[..., 0]), f.mean(2), *products]) * radius
    sums = torch.nn.functional.pad(terms.cumsum(2), (1, 0))
    sums = sums - sums.gather(2, start.expand(8, -1)[..., None])
    weight, total = sums[:2]
    covariance = sums[2:] / weight.clamp(min=1) - (total / weight.clamp(min=1)).square()
    r = covariance[1:] / covariance[0].clamp(min=1e-12)
    score = torch.minimum(r[1], r[3]) - r[[0, 2, 4]].amax(0)
    end = torch.arange(f.shape[1] + 1, device=f.device)
    fits = (end >= start[:, None] + _MIN_WIDTH) & (end <= known[:, None])
    return torch.where(fits & (covariance[0] > 1e-12), score, -torch.inf).amax(1)


def _vertex(profile: Tensor, peak: Tensor) -> Tensor:
    """Where the parabola through the radial mean at a radius and its neighbours has its top."""
    near = (peak[:, None] + torch.arange(-1, 2, device=peak.device)).clamp(0, profile.shape[1] - 1)
    left, middle, right = profile.gather(1, near).unbind(1)
    curve = left - 2 * middle + right
    return peak + torch.where(curve < 0, (left - right) / (2 * curve), 0).clamp(-0.5, 0.5)


def _orientation(rings: Tensor, peak: Tensor) -> Tensor:
    """The phase of the sixth harmonic around a circle, in radians from 0 to π/3."""
    circle = rings.gather(1, peak[:, None, None].expand(-1, 1, _ANGLES)).squeeze(1)
    sixth = torch.fft.fft(circle.nan_to_num(0), dim=1)[:, 6]
    return -sixth.angle() / 6 % (math.pi / 3)
