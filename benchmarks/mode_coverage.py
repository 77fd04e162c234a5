"""Which spots of a density generators reach, by ten methods and over several seeds.

    python benchmarks/mode_coverage.py --out runs/coverage

trains the presets of the recipe `toygan` on eight spots on a ring and on twenty-five on a grid, as
often as there are seeds, where their runs are not there yet, and writes `table.md` and
`samples.png`. Beside the medians over seeds stand the least and the largest.
"""

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from statistics import median

import torch

from gencore.data.names import DensityName
from gencore.recipes.adversarial.toygan import ToyGANRecipe
from gencore.recipes.adversarial.toygan_experiment import ToyGANExperiment
from gencore.train import RunFolder, fit, load_experiment

METHODS = {
    "gan": "GAN", "wgan-gp": "WGAN-GP", "sn": "spectral norm", "ebgan": "EBGAN",
    "ebgan-pt": "EBGAN-PT", "bgan": "BGAN", "mbgan": "M-BGAN", "mixup": "mixup", "mmd": "MMD",
    "sinkhorn": "Sinkhorn",
}  # fmt: skip
DENSITIES: dict[DensityName, float] = {"eight_gaussians": 0.02, "twenty_five_gaussians": 0.05}
"""The densities and the standard deviations of their spots."""
_SHOWN = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500, help="of the generator")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--densities", nargs="+", choices=DENSITIES, default=list(DENSITIES))
    parser.add_argument("--workers", type=int, default=2, help="runs at the same time")
    options = parser.parse_args()
    runs = [
        (options.out, density, method, seed, options.steps)
        for seed, density, method in product(
            range(options.seeds), options.densities, options.methods
        )
    ]
    with ProcessPoolExecutor(options.workers) as pool:
        for folder in pool.map(train, *zip(*runs, strict=True)):
            print(folder, flush=True)
    table = "\n".join(
        tabulated(options.out, density, options.methods, options.seeds)
        for density in options.densities
    )
    (options.out / "table.md").write_text(table, encoding="utf-8")
    print(table)
    draw(options.out, options.densities, options.methods, options.steps)


def train(out: Path, density: DensityName, method: str, seed: int, steps: int) -> Path:
    """One run, unless it is there."""
    torch.set_num_threads(1)
    recipe = make_recipe(density, method, seed, steps)
    folder = run_folder(out, density, method, seed)
    if not RunFolder(folder).metrics.exists():
        fit(
            recipe,
            folder,
            accelerator="cpu",
            num_evaluate=2000,
            num_samples=0,
            loggers=(),
            overwrite=True,
        )
    return folder


def make_recipe(density: DensityName, method: str, seed: int, steps: int) -> ToyGANRecipe:
    return ToyGANRecipe.preset(
        method, density=density, spot_std=DENSITIES[density], seed=seed, steps=steps
    )


def run_folder(out: Path, density: str, method: str, seed: int) -> Path:
    return out / density / method / str(seed)


def tabulated(out: Path, density: str, methods: Sequence[str], seeds: int) -> str:
    """Medians and ranges over seeds, as Markdown."""
    text = (
        f"\n{density}\n\n| | spots | near a spot | KL to equal counts | energy distance |\n"
        "|---|---|---|---|---|\n"
    )
    for method in methods:
        runs = [
            json.loads(RunFolder(run_folder(out, density, method, seed)).metrics.read_text())
            for seed in range(seeds)
        ]
        cells = [
            spread([run["modes"] for run in runs], "{:.0f}"),
            spread([100 * run["high_quality"] for run in runs], "{:.0f} %"),
            spread([run["kl_to_uniform"] for run in runs], "{:.2f}"),
            spread([run["energy_distance/samples"] for run in runs], "{:.3f}"),
        ]
        text += f"| {METHODS[method]} | {' | '.join(cells)} |\n"
    return text


def spread(values: Sequence[float], form: str) -> str:
    """The median, and the range in brackets."""
    least, most = (form.format(end(values)) for end in (min, max))
    return f"{form.format(median(values))} ({least} to {most})"


def draw(out: Path, densities: Sequence[DensityName], methods: Sequence[str], steps: int) -> None:
    """Samples of the first seed of each method, a density a row."""
    import matplotlib.pyplot as plt

    size = (1.6 * len(methods), 1.8 * len(densities))
    figure, axes = plt.subplots(
        len(densities), len(methods), figsize=size, layout="constrained", squeeze=False
    )
    for row, density in zip(axes, densities, strict=True):
        for axis, method in zip(row, methods, strict=True):
            folder = run_folder(out, density, method, 0)
            recipe = make_recipe(density, method, 0, steps)
            experiment, _, _ = load_experiment(folder, recipe, accelerator="cpu")
            assert isinstance(experiment, ToyGANExperiment)
            points = experiment.sample(_SHOWN, torch.Generator().manual_seed(0))
            half = 1.2 * experiment.density.extent
            axis.scatter(*points.T, s=1, alpha=0.3, color="tab:blue")
            axis.set(xlim=(-half, half), ylim=(-half, half), xticks=[], yticks=[], aspect="equal")
            axis.set_title(METHODS[method], fontsize=8)
    figure.savefig(out / "samples.png", dpi=110)


if __name__ == "__main__":
    main()
