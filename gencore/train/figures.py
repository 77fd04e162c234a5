"""The pictures of a run: a grid of images, panels of the plane, and the curves of its log."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gencore.atomic import replacing
from gencore.data.images.grid import enlarge, image_grid, shown_levels
from gencore.extras import training_extra

__all__ = [
    "check_packages",
    "image_grid",
    "plot_log",
    "save_contact_sheet",
    "save_decision_regions",
    "save_image_grid",
    "save_image_panels",
    "save_plane_panels",
]


def check_packages() -> None:
    """Raises an ImportError unless what these functions draw with is installed."""
    with training_extra():
        import matplotlib  # noqa: F401
        import PIL  # noqa: F401


def save_image_grid(
    images: Tensor,
    path: str | Path,
    *,
    columns: int | None = None,
    above: Tensor | None = None,
    min_side: int = 640,
) -> None:
    """Writes images as one PNG, enlarged by whole pixels so that small images can be seen.

    Args:
        images: float [N, C, H, W] in [0, 1] (values outside are clipped) or uint8, C = 1 or 3.
        path: the file.
        columns: images in a row.
        above: further images, uint8 of the same shape, of which some, evenly spaced, fill a row on
            top, with a wider gap below.
        min_side: the enlargement is the smallest whole number that makes the longer side this big.
    """
    with training_extra():
        from PIL import Image

    if images.shape[1:2] not in ((1,), (3,)):
        raise ValueError(
            f"save_image_grid: expected 1 or 3 channels, got images {tuple(images.shape)}"
        )
    pixels = image_grid(shown_levels(images), columns=columns)
    if above is not None:
        across = min(columns or math.ceil(math.sqrt(len(images))), len(above))
        # Evenly spaced: data sets are often sorted by class.
        chosen = above[torch.arange(across) * len(above) // across]
        row = image_grid(chosen.cpu(), columns=across)
        row = torch.nn.functional.pad(row, (0, pixels.shape[2] - row.shape[2], 0, 1), value=128)
        pixels = torch.cat([row, pixels], 1)
    pixels = enlarge(pixels, max(1, math.ceil(min_side / max(pixels.shape[1:]))))
    array = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
    with replacing(Path(path)) as temporary:
        Image.fromarray(array.contiguous().numpy()).save(temporary, format="PNG")


def save_image_panels(
    panels: Mapping[str, Tensor], path: str | Path, *, columns: int = 1, across: int | None = None
) -> None:
    """Draws grids of images, each below its title.

    Args:
        panels: title → images, float [N, C, H, W] in [0, 1] (values outside are clipped) or uint8.
        path: the PNG.
        columns: images in a row of a grid.
        across: grids side by side; all of them by default.
    """
    with training_extra():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    grids = {
        title: image_grid(shown_levels(images), columns=columns).permute(1, 2, 0)
        for title, images in panels.items()
    }
    across = min(across or len(grids), len(grids))
    down = math.ceil(len(grids) / across)
    height, width = (max(grid.shape[axis] for grid in grids.values()) for axis in (0, 1))
    inches = 12 / (across * width)
    size = (12, down * (height * inches + 0.35))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, grid) in enumerate(grids.items(), start=1):
        axes = figure.add_subplot(down, across, number)
        axes.set_title(title, fontsize=10)
        axes.axis("off")
        pixels = grid.expand(-1, -1, 3).numpy()
        axes.imshow(pixels, interpolation="nearest")
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def save_contact_sheet(clips: Tensor, path: str | Path, *, min_side: int = 640) -> None:
    """Writes clips as one PNG: a row is a clip, and its columns are the frames in order.

    Args:
        clips: float [N, T, C, H, W] in [0, 1] (values outside are clipped) or uint8, C = 1 or 3.
        path: the file.
        min_side: as in `save_image_grid`.
    """
    if clips.ndim != 5 or clips.shape[2] not in (1, 3) or 0 in clips.shape:
        raise ValueError(
            f"save_contact_sheet: clips have shape {tuple(clips.shape)}, expected [N, T, C, H, W], "
            "not empty, with 1 or 3 channels"
        )
    save_image_grid(clips.flatten(0, 1), path, columns=clips.shape[1], min_side=min_side)


def save_plane_panels(
    panels: Mapping[str, Tensor], half_width: float, path: str | Path, *, rows: int = 1
) -> None:
    """Draws densities and points in squares of the plane, side by side with one scale of colours.

    Args:
        panels: title → a density on a grid [S, S], S > 2, its first axis x, or points [N, 2].
        half_width: half of the squares' side; their centre is the origin.
        path: the PNG.
        rows: with more than one, the panels fill one column after another, each with a scale of
            its own.
    """
    with training_extra():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    drawn = [(title, panel.detach().float().cpu()) for title, panel in panels.items()]
    columns = math.ceil(len(drawn) / rows)
    figure = Figure(figsize=(3.2 * columns, 3.5 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    square = (-half_width, half_width)
    height = None
    for index, (title, panel) in enumerate(drawn):
        column, row = divmod(index, rows)
        if rows > 1 and row == 0:
            height = None
        place = row * columns + column + 1
        axes = figure.add_subplot(rows, columns, place, xlim=square, ylim=square, aspect=1)
        axes.set_title(title)
        axes.set_xticks([])
        axes.set_yticks([])
        if panel.shape[1] != 2:
            # The first density sets the scale: the eye compares the others with it.
            height = panel.max().item() if height is None else height
            axes.imshow(panel.T.numpy(), origin="lower", extent=square * 2, vmin=0, vmax=height)
        else:
            axes.plot(*panel.T.numpy(), ",", color="black", alpha=0.8)
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def save_decision_regions(
    posterior: Tensor, x: Tensor, label: Tensor, half_width: float, path: str | Path
) -> None:
    """Draws where a classifier sees which class in a square of the plane: the paler a colour, the
    less sure it is.

    Args:
        posterior: class probabilities on a grid, [S, S, K], its first axis x.
        x: labelled points [N, 2], drawn in the colours of their classes.
        label: int64 [N].
        half_width: half of the square's side; its centre is the origin.
        path: the PNG.
    """
    with training_extra():
        from matplotlib import colormaps
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    posterior, x, label = (part.detach().cpu() for part in (posterior, x, label))
    colours = torch.tensor(colormaps["tab10"](range(10)))[:, :3].float()
    colours = colours[torch.arange(posterior.shape[2]) % len(colours)]
    picture = 1 - 0.7 * (1 - posterior.float() @ colours)
    figure = Figure(figsize=(3.6, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    square = (-half_width, half_width)
    axes = figure.add_subplot(xlim=square, ylim=square, aspect=1, xticks=[], yticks=[])
    axes.set_title("class regions and labelled points")
    axes.imshow(picture.transpose(0, 1).numpy(), origin="lower", extent=square * 2)
    axes.scatter(
        x[:, 0].numpy(),
        x[:, 1].numpy(),
        c=colours[label].numpy(),
        edgecolors="black",
        s=36,
        zorder=2,
    )
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def plot_log(columns: Mapping[str, Sequence[float]], path: str | Path) -> None:
    """Draws every column against "step", each in axes of its own since their scales differ: the
    rows of a long log pale, and their moving average over a fortieth of them.

    Args:
        columns: as `gencore.train.logs.read_log` returns them.
        path: the PNG.
    """
    with training_extra():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    names = [name for name in columns if name != "step"]
    if not names:
        return
    across = len(names) if len(names) <= 3 else math.ceil(math.sqrt(len(names)))
    down = math.ceil(len(names) / across)
    figure = Figure(figsize=(4.2 * across, 2.8 * down), layout="constrained")
    FigureCanvasAgg(figure)
    few = len(columns["step"]) < 30
    window = 1 if few else max(len(columns["step"]) // 40, 3)
    for index, name in enumerate(names):
        axes = figure.add_subplot(down, across, index + 1)
        axes.plot(
            columns["step"], columns[name], "C0", alpha=0.3 if window > 1 else 1, linewidth=1.2,
            marker="." if few else None,
        )  # fmt: skip
        if window > 1:
            axes.plot(columns["step"], _smooth(columns[name], window), "C0", linewidth=1.4)
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _smooth(values: Sequence[float], window: int) -> list[float]:
    """The averages of the numbers within half a window of each; fewer at the ends."""
    half = window // 2
    parts = (values[max(i - half, 0) : i + half + 1] for i in range(len(values)))
    return [sum(part) / len(part) for part in parts]
