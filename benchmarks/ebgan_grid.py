"""How reliably GANs and energy-based GANs train, over a grid of networks and optimisers.

    python benchmarks/ebgan_grid.py --out runs/grid

trains the fully connected networks of the recipe `gan` on digits of 8×8 pixels with every setting
of a small grid, where the runs are not there yet, and writes `table.md` and
`histogram.png`: the tweaked inception score of each run, 0 for samples of one class. It is the
counterpart of figure 6.2 of Mathieu 2017, whose grid of 512 settings is `EBGAN_SPACE` of
`gencore.recipes.adversarial.mathieu_spaces`.
"""

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from gencore.recipes.adversarial.gan import GANRecipe
from gencore.train import RunFolder, fit, recipe_grid
from gencore.train.grid import Space

_RATES = ("learning_rate", "discriminator_learning_rate")
_OPTIMISERS = ("optimizer", "discriminator_optimizer", *_RATES)
NETWORKS: Space = {
    "generator_widths": [(64,), (256, 256, 256)],
    "discriminator_widths": [(64,), (128, 128, 128)],
    "dropout": [0.0, 0.5],
}
ADAM: Space = {_OPTIMISERS: [("adam", "adam", 1e-3, 1e-3)]}
SPACES: dict[str, Space] = {
    "GAN": {
        **NETWORKS,
        _OPTIMISERS: [("adam", "adam", 1e-3, 1e-3), ("sgd", "sgd", 1e-2, 1e-2)],
    },
    "EBGAN": {"method": ["ebgan"], "margin": [10.0], **NETWORKS, **ADAM},
    "EBGAN-PT": {
        "method": ["ebgan"], "margin": [10.0], "pulling_away": [0.1], **NETWORKS, **ADAM,
    },
}  # fmt: skip
"""The settings of each kind of generator: networks, optimisers with their learning rates."""


class Run(NamedTuple):
    """One setting."""

    kind: str
    recipe: GANRecipe
    folder: Path

    def measures(self) -> dict[str, float]:
        measures: dict[str, float] = json.loads(RunFolder(self.folder).metrics.read_text())
        return measures

    def train(self) -> None:
        """Trains and measures it, unless that was done."""
        torch.set_num_threads(1)
        if not RunFolder(self.folder).metrics.exists():
            fit(
                self.recipe, self.folder, accelerator="cpu", num_evaluate=359, num_samples=0,
                loggers=(),
            )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1000, help="of the generator")
    parser.add_argument("--workers", type=int, default=2, help="runs at the same time")
    options = parser.parse_args()
    runs = make_runs(options.out, options.seeds, options.steps)
    with ProcessPoolExecutor(options.workers) as pool:
        for run, _ in zip(runs, pool.map(Run.train, runs), strict=True):
            print(run.folder, flush=True)
    measures = [run.measures() for run in runs]
    of_test = median(each["tweaked_inception_score/test"] for each in measures)
    scores = [each["tweaked_inception_score/samples"] for each in measures]
    table = tabulated(runs, scores, of_test)
    (options.out / "table.md").write_text(table, encoding="utf-8")
    print(table)
    draw(runs, scores, of_test, options.out / "histogram.png")


def make_runs(out: Path, seeds: int, steps: int) -> list[Run]:
    return [
        Run(kind, recipe, out / kind / name_of(recipe))
        for kind, space in SPACES.items()
        for recipe in recipe_grid(
            GANRecipe, {**space, "seed": range(seeds)}, networks="mlp", steps=steps
        )
    ]


def name_of(recipe: GANRecipe) -> str:
    """Optimiser, widths of generator and discriminator, dropout and seed."""
    widths = "-".join(
        "x".join(map(str, each)) for each in (recipe.generator_widths, recipe.discriminator_widths)
    )
    return f"{recipe.optimizer}-{widths}-{recipe.dropout}-{recipe.seed}"


def tabulated(runs: Sequence[Run], scores: Sequence[float], of_test: float) -> str:
    """The scores of each kind, and its best setting, as Markdown."""
    text = (
        f"Test images: {of_test:.2f}\n\n"
        "| | runs | least | median | best | above half of the test images' | best run |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    for kind in SPACES:
        of_kind = {run: score for run, score in zip(runs, scores, strict=True) if run.kind == kind}
        found = of_kind.values()
        best = max(of_kind, key=of_kind.__getitem__)
        text += (
            f"| {kind} | {len(found)} | {min(found):.2f} | {median(found):.2f} | {max(found):.2f} "
            f"| {sum(score > of_test / 2 for score in found)} | `{best.folder.name}` |\n"
        )
    return text


def draw(runs: Sequence[Run], scores: Sequence[float], of_test: float, path: Path) -> None:
    """Histograms of the scores, in parts of each kind's runs, as in figure 6.2."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(SPACES), 1, figsize=(6, 5), sharex=True, sharey=True, layout="constrained"
    )
    bins = torch.linspace(0, of_test, 13).tolist()
    for axis, kind in zip(axes, SPACES, strict=True):
        found = [score for run, score in zip(runs, scores, strict=True) if run.kind == kind]
        clipped = [min(score, of_test) for score in found]
        axis.hist(clipped, bins, weights=[1 / len(found)] * len(found), color="tab:blue")
        axis.set_ylabel("part of runs")
        axis.set_title(f"{kind}, {len(found)} runs", fontsize=9)
    axes[-1].set_xlabel("tweaked inception score of samples, up to that of test images")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
