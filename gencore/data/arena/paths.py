"""Paths through a square: on its lattice, free ones, and those of rats."""

import math

import numpy as np
import torch
from torch import Generator, Tensor

from gencore.data.arena.place_lattice import PlaceLattice
from gencore.data.packaged import packaged_file
from gencore.sizes import check_positive

__all__ = ["free_walks", "lattice_walks", "rat_paths"]


def lattice_walks(
    lattice: PlaceLattice,
    num: int,
    num_steps: int,
    *,
    max_step: float = 3.0,
    generator: Generator | None = None,
) -> Tensor:
    """Walks from place to place: each step is drawn evenly from those that stay in the square.

    Args:
        lattice: of the places.
        num: N walks.
        num_steps: T.
        max_step: the longest step, in lattice spacings; a walk never stands still.
        generator: of the draws.

    Returns:
        Positions of places, [N, T + 1, 2], in metres.

    Raises:
        ValueError: for sizes that are not positive, and steps that reach no place.

    Example:
        >>> walk = lattice_walks(PlaceLattice(5), 2, 3)
        >>> walk.shape, bool((walk == walk.mul(4).round() / 4).all())
        (torch.Size([2, 4, 2]), True)
    """
    check_positive("lattice_walks", num=num, num_steps=num_steps)
    if not max_step >= 1:
        raise ValueError(f"lattice_walks: max_step is {max_step}; expected at least a spacing, 1")
    reach = torch.arange(-int(max_step), int(max_step) + 1)
    steps = torch.cartesian_prod(reach, reach)
    length = steps.double().norm(dim=1)
    steps = steps[(length > 0) & (length <= max_step)]
    place = torch.randint(lattice.size, (num, 2), generator=generator)
    places = [place]
    for _ in range(num_steps):
        ends = place[:, None] + steps
        inside = ((ends >= 0) & (ends < lattice.size)).all(-1)
        choice = torch.multinomial(inside.double(), 1, generator=generator)
        place = ends.gather(1, choice[..., None].expand(-1, -1, 2)).squeeze(1)
        places.append(place)
    table = torch.arange(lattice.size, dtype=torch.float64) * lattice.spacing
    return table[torch.stack(places, 1)].float()


def free_walks(
    lattice: PlaceLattice,
    num: int,
    num_steps: int,
    *,
    max_step: float = 3.0,
    generator: Generator | None = None,
) -> Tensor:
    """Walks with any steps: each is drawn evenly from the part of a disc that is in the square.

    Args and raises as of :func:`lattice_walks`.

    Returns:
        Positions [N, T + 1, 2], in metres; the starts are drawn evenly from the square.

    Example:
        >>> free_walks(PlaceLattice(40), 2, 3).diff(dim=1).norm(dim=2).max() < 3 / 39 + 1e-6
        tensor(True)
    """
    check_positive("free_walks", num=num, num_steps=num_steps)
    radius = max_step * lattice.spacing
    if not 0 < radius < lattice.side:
        raise ValueError(
            f"free_walks: max_step is {max_step}, {radius:.3g} metres; expected positive, and "
            f"below the side of {lattice.side}"
        )
    place = torch.rand(num, 2, generator=generator) * lattice.side
    places = [place]
    for _ in range(num_steps):
        end = torch.full_like(place, math.inf)
        while (outside := ~lattice.contains(end)).any():
            where = outside.nonzero().squeeze(1)
            uniform = torch.rand(len(where), 2, generator=generator)
            length, angle = radius * uniform[:, 0].sqrt(), 2 * math.pi * uniform[:, 1]
            move = length[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
            end[where] = place[where] + move
        place = end
        places.append(place)
    return torch.stack(places, 1)


def rat_paths(
    num: int,
    num_steps: int,
    *,
    interval: float = 0.2,
    side: float = 1.0,
    generator: Generator | None = None,
) -> Tensor:
    """Parts of the path of a rat that foraged for ten minutes in a box of a metre a side.

    The recording, 50 times a second, comes with the package ratinabox.

    Args:
        num: N parts, which may overlap.
        num_steps: T.
        interval: seconds a step; between recorded times positions are interpolated.
        side: of the square that the box is scaled to, in metres.
        generator: of the parts' starts.

    Returns:
        Positions [N, T + 1, 2], in metres.

    Raises:
        ValueError: for sizes that are not positive, and parts longer than the recording.
        ModuleNotFoundError: without the package: ``pip install 'gencore[data]'``.

    References:
        Sargolini, Fyhn, Hafting, McNaughton, Witter, Moser and Moser, "Conjunctive representation
        of position, direction, and velocity in entorhinal cortex", 2006.
    """
    check_positive("rat_paths", num=num, num_steps=num_steps)
    if not (interval > 0 and side > 0):
        raise ValueError(
            f"rat_paths: interval is {interval} and side {side}; expected positive numbers"
        )
    with np.load(packaged_file("rat_paths", "ratinabox", "data", "sargolini.npz")) as recording:
        time, position = recording["t"], recording["pos"]
    rest = (time[-1] - time[0]) - num_steps * interval
    if rest < 0:
        raise ValueError(
            f"rat_paths: {num_steps} steps of {interval} seconds; expected at most the recording's "
            f"{time[-1] - time[0]:.0f} seconds"
        )
    start = time[0] + rest * torch.rand(num, generator=generator, dtype=torch.float64).numpy()
    at = start[:, None] + interval * np.arange(num_steps + 1)
    axes = [np.interp(at, time, position[:, axis]) for axis in range(2)]
    return torch.from_numpy(np.stack(axes, -1) * side).float().clamp(0, side)
