"""How reliably GANs and energy-based GANs train, over a grid of networks and optimisers.

    python benchmarks/ebgan_grid.py --out runs/grid

trains the fully connected networks of the recipe `gan` on digits of 8×8 pixels with every setting
of a small grid, where the runs are not there yet, and writes `table.md` and `histogram.png`: the
tweaked inception scores of the runs, 0 for samples of one class. Beside medians stand the least and
the largest. It is the counterpart of figure 6.2 of Mathieu 2017, whose grid of 512 settings is
`EBGAN_SPACE` of `gencore.recipes.adversarial.mathieu_spaces`.
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
SCORE = "tweaked_inception_score/samples"
TEST_SCORE = "tweaked_inception_score/test"


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
    table = tabulated(runs)
    (options.out / "table.md").write_text(table, encoding="utf-8")
    print(table)
    draw(runs, options.out / "histogram.png")


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


def tabulated(runs: Sequence[Run]) -> str:
    """The measures of each kind, and its run of the highest score, as Markdown."""
    titles = ("", "runs", "tweaked inception score", "Fréchet distance", "best run")
    text = f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|\n"
    for kind in SPACES:
        of_kind = [run for run in runs if run.kind == kind]
        best = max(of_kind, key=lambda run: run.measures()[SCORE])
        cells = [
            spread([run.measures()[SCORE] for run in of_kind], "{:.2f}"),
            spread([run.measures()["frechet_classifier/samples"] for run in of_kind], "{:.0f}"),
            f"`{best.folder.name}`",
        ]
        text += f"| {kind} | {len(of_kind)} | {' | '.join(cells)} |\n"
    real = runs[0].measures()  # the same of all runs: of the data alone
    return text + (
        f"| real images | | {real[TEST_SCORE]:.2f} | {real['frechet_classifier/train']:.0f} | |\n"
    )


def spread(values: Sequence[float], form: str) -> str:
    """The median, and the range in brackets."""
    least, most = (form.format(end(values)) for end in (min, max))
    return f"{form.format(median(values))} ({least} to {most})"


def draw(runs: Sequence[Run], path: Path) -> None:
    """Histograms of the scores, in parts of each kind's runs, as in figure 6.2."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(SPACES), 1, figsize=(6, 5), sharex=True, sharey=True, layout="constrained"
    )
    of_test = runs[0].measures()[TEST_SCORE]
    least = min(run.measures()[SCORE] for run in runs)
    bins = torch.linspace(least, max(of_test, least + 1), 13).tolist()
    for axis, kind in zip(axes, SPACES, strict=True):
        found = [run.measures()[SCORE] for run in runs if run.kind == kind]
        axis.hist(found, bins, weights=[1 / len(found)] * len(found), color="tab:blue")
        axis.axvline(of_test, color="black", linestyle="--")
        axis.set(ylabel="part of runs", title=f"{kind}, {len(found)} runs")
    axes[-1].set_xlabel("tweaked inception score of samples (dashed: of test images)")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
