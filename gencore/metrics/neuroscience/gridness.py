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
# Annuli are this many pixels wide at least, so that a turned ring has values to compare.
_MIN_WIDTH = 3


class GridScores(NamedTuple):
    """The scores of maps, [N] each; NaN where a map has no ring of fields that fits."""

    gridness: Tensor
    """From −2 to 2: above 1 for hexagons, below 0 for squares."""
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
    The spacing is the radius of the first maximum that follows, the orientation that of the sixth
    harmonic around it.

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
    size = maps.shape[1]
    rings = _polar(autocorrelogram(maps.detach().float()), size)  # [N, radii, angles]
    columns = [_score(each) for each in rings]
    gridness, radius, angle = (
        torch.tensor(column, dtype=maps.dtype, device=maps.device)
        for column in zip(*columns, strict=True)
    ) if columns else (maps.new_zeros(0),) * 3  # fmt: skip
    return GridScores(gridness, radius * pixel, angle)


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


def _score(ring: Tensor) -> tuple[float, float, float]:
    """Gridness, radius of the nearest fields in pixels, and their angle, of circles [R, A]."""
    nothing = (math.nan, math.nan, math.nan)
    profile = ring.mean(1)
    known = int(profile.isfinite().cumprod(0).sum())
    profile = profile[:known]
    start = _first_minimum(profile)
    if start is None or known - start < _MIN_WIDTH:
        return nothing
    falls = (profile[start + 1 :] < profile[start:-1]).nonzero()
    peak = start + int(falls[0]) if len(falls) else known - 1
    radius = torch.arange(known, dtype=ring.dtype, device=ring.device)
    best = -math.inf
    for end in range(start + _MIN_WIDTH, known + 1):
        best = max(best, _symmetry(ring[start:end], radius[start:end]))
    if not math.isfinite(best):
        return nothing
    around = ring[max(peak - 1, start) : peak + 2].mean(0)
    angles = torch.arange(_ANGLES, device=ring.device) * (2 * math.pi / _ANGLES)
    sine, cosine = ((around * part).sum() for part in ((6 * angles).sin(), (6 * angles).cos()))
    orientation = torch.atan2(sine, cosine).item() / 6 % (math.pi / 3)
    return best, _vertex(profile, peak), orientation


def _first_minimum(profile: Tensor) -> int | None:
    """The first radius from which the radial mean rises."""
    rises = (profile[1:] > profile[:-1]).nonzero()
    return int(rises[0]) if len(rises) else None


def _vertex(profile: Tensor, peak: int) -> float:
    """Where the parabola through the highest value and its neighbours has its top."""
    if not 0 < peak < len(profile) - 1:
        return float(peak)
    left, middle, right = profile[peak - 1 : peak + 2].tolist()
    curve = left - 2 * middle + right
    return peak + (left - right) / (2 * curve) if curve < 0 else float(peak)


def _symmetry(ring: Tensor, radius: Tensor) -> float:
    """min(r₆₀, r₁₂₀) − max(r₃₀, r₉₀, r₁₅₀) of circles [R, A], weighed by their radii."""
    weight = radius[:, None] / (radius.sum() * ring.shape[1])
    centred = ring - (ring * weight).sum()
    variance = (centred.square() * weight).sum()
    if not variance > 0:
        return -math.inf
    turns = [
        (centred * centred.roll(n * _ANGLES // 12, 1) * weight).sum() / variance
        for n in range(1, 6)
    ]
    r30, r60, r90, r120, r150 = torch.stack(turns).tolist()
    return min(r60, r120) - max(r30, r90, r150)
