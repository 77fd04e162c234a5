"""Diffusion recovery likelihood beside the short-run energy, on the same images.

    python benchmarks/image_energies.py --out runs/energies --data digits
    python benchmarks/image_energies.py --out runs/energies --data mnist

trains the recipes `ebm` and `drl` with their default settings, equally many steps of equal batches,
where their runs are not there yet, and writes `table.md` and `samples.png`. Times are of the
process on one core, so that other work on the machine does not count.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gencore.recipes.diffusion.drl import DRLRecipe
from gencore.recipes.diffusion.drl_experiment import DRLExperiment
from gencore.recipes.ebm.ebm import EBMRecipe
from gencore.train import ImageExperiment, ImageRecipe, RunFolder, fit, load_experiment
from gencore.train.figures import image_grid

# What both recipes have in common; of MNIST, the images at 16x16 that a CPU can afford.
SHARED: Mapping[str, Mapping[str, Any]] = {
    "digits": {"data": "digits", "steps": 1500, "batch_size": 32},
    "mnist": {"data": "mnist", "image_size": 16, "steps": 1000, "batch_size": 16},
}
RECIPES: Mapping[str, type[ImageRecipe]] = {"ebm": EBMRecipe, "drl": DRLRecipe}
TITLES = {"ebm": "short-run energy", "drl": "diffusion recovery likelihood"}
_SHOWN, _PATHS, _TIMED = 36, 4, 32  # samples of a model, on their way, and to take the time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", choices=SHARED, default="digits")
    parser.add_argument("--samples", type=int, default=256, help="samples that are measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    out = options.out / options.data
    experiments = {
        name: trained(name, SHARED[options.data], out / name, options.samples) for name in RECIPES
    }
    measures = {name: json.loads(RunFolder(out / name).metrics.read_text()) for name in experiments}
    table = tabulated(experiments, measures)
    (out / "table.md").write_text(table, encoding="utf-8")
    print(table)
    draw(experiments, out / "samples.png")


def trained(name: str, shared: Mapping[str, Any], folder: Path, samples: int) -> ImageExperiment:
    """The model, trained unless its run is there."""
    recipe = RECIPES[name](**shared)
    if not RunFolder(folder).checkpoint.exists():
        fit(recipe, folder, accelerator="cpu", num_evaluate=samples, loggers=())
    experiment, step, _ = load_experiment(folder, recipe, accelerator="cpu")
    if step != recipe.steps:
        raise SystemExit(f"{folder} is at step {step} of {recipe.steps}: remove it")
    assert isinstance(experiment, ImageExperiment)
    return experiment


def tabulated(
    experiments: Mapping[str, ImageExperiment], measures: Mapping[str, Mapping[str, float]]
) -> str:
    """Fréchet distances, and milliseconds of a training step and of a sample, as Markdown."""
    text = "| | pixels | classifier | ms a step | ms a sample |\n|---|---|---|---|---|\n"
    first = next(iter(measures.values()))
    for kind, title in (("train", "training images"), ("independent_pixels", "independent pixels")):
        values = [first[f"frechet_{feature}/{kind}"] for feature in ("pixels", "classifier")]
        text += f"| {title} | {values[0]:.2f} | {values[1]:.1f} | | |\n"
    for name, experiment in experiments.items():
        values = [
            measures[name][f"frechet_{feature}/samples"] for feature in ("pixels", "classifier")
        ]
        sample = milliseconds(partial(experiment.sample, _TIMED), 3) / _TIMED
        step = milliseconds(stepping(experiment))
        text += (
            f"| {TITLES[name]} | {values[0]:.2f} | {values[1]:.1f} | {step:.0f} | {sample:.1f} |"
        )
        text += "\n"
    return text


def stepping(experiment: ImageExperiment) -> Callable[[], object]:
    """A training step on the run's first batch."""
    batch = experiment.recipe.batches(experiment.fabric, experiment.dataset)[0]
    return lambda: experiment.step(batch)


def milliseconds(function: Callable[[], object], repeats: int = 5) -> float:
    """The median time of this process in a call, after one call that does not count."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        function()
        times.append(1e3 * (time.process_time() - start))
    return sorted(times[1:])[repeats // 2]


def draw(experiments: Mapping[str, ImageExperiment], path: Path) -> None:
    """Real images beside samples of both models, and samples on their way from noise."""
    import matplotlib.pyplot as plt

    drl = experiments["drl"]
    assert isinstance(drl, DRLExperiment)
    real = drl.test.images[torch.arange(_SHOWN) * len(drl.test.images) // _SHOWN] / 255
    panels = {"real images": real}
    for name, experiment in experiments.items():
        panels[TITLES[name]] = experiment.sample(_SHOWN, torch.Generator().manual_seed(0))
    ways = drl.paths(_PATHS, torch.Generator().manual_seed(0))  # [T + 1, num, C, H, W]
    figure = plt.figure(figsize=(10, 6.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(3.4, 3.2))
    for axis, (title, images) in zip(above.subplots(1, 3), panels.items(), strict=True):
        show(axis, images)
        axis.set_title(title)
    below.suptitle("samples of diffusion recovery likelihood on their way from noise")
    levels = below.subplots(1, len(ways))
    for number, (axis, images) in enumerate(zip(levels, ways, strict=True)):
        show(axis, images, columns=1)
        axis.set_title(f"$x_{{{len(ways) - 1 - number}}}$")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def show(axis: Any, images: Tensor, columns: int | None = None) -> None:
    levels = (255 * images.clamp(0, 1)).round().to(torch.uint8)
    axis.imshow(image_grid(levels, columns=columns)[0], cmap="gray", vmin=0, vmax=255)
    axis.set(xticks=[], yticks=[])


if __name__ == "__main__":
    main()
