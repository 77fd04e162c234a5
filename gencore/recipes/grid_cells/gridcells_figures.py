"""Pictures of grid cells: response maps, their autocorrelograms, a path that was integrated."""

from pathlib import Path

import torch
from torch import Tensor

from gencore.atomic import replacing
from gencore.extras import training_extra
from gencore.metrics import autocorrelogram
from gencore.train.figures import save_image_grid

__all__ = ["save_maps", "save_path"]


def save_maps(maps: Tensor, path: Path, *, columns: int, correlated: bool = False) -> None:
    """Draws maps [N, S, S] in colours, the first axis to the right and the second upwards.

    Args:
        maps: each is scaled by its own largest and smallest value.
        path: the PNG.
        columns: maps in a row.
        correlated: draw their autocorrelograms, from −1 to 1; black where there is none.
    """
    with training_extra():
        from matplotlib import colormaps

    shown = autocorrelogram(maps) if correlated else maps
    shown = shown.float().cpu().mT.flip(1)
    if correlated:
        level = (shown + 1) / 2
    else:
        low, high = shown.amin((1, 2), keepdim=True), shown.amax((1, 2), keepdim=True)
        level = (shown - low) / (high - low)
    colours = torch.from_numpy(colormaps["viridis"](level.nan_to_num(0).numpy())[..., :3])
    colours = torch.where(level.isnan()[..., None], 0, colours)
    save_image_grid(colours.permute(0, 3, 1, 2).float(), path, columns=columns, min_side=900)


def save_path(path: Tensor, found: Tensor, side: float, file: Path) -> None:
    """Draws a path [T + 1, 2], and the places [T, 2] that were decoded along it."""
    with training_extra():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlim=(0, side), ylim=(0, side), aspect=1)
    axes.set_xlabel("metres")
    axes.plot(*path.mT.numpy(), "k-", linewidth=1.2, label="true")
    axes.plot(*path[0].numpy(), "ko", label="start")
    decoded = torch.cat([path[:1], found])
    axes.plot(*decoded.mT.numpy(), "C1.--", linewidth=0.9, label="decoded, without re-encoding")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    with replacing(file) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
