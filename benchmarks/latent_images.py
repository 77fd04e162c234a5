"""Models of images with latents beside each other: bounds, distances of samples, time.

    python benchmarks/latent_images.py --out runs/latents --data digits
    python benchmarks/latent_images.py --out runs/latents --data mnist

trains each row of `ROWS`, equally many steps of equal batches with as many latents, where its run
is not there yet, and writes `table.md` and `samples.png`. Times are of the process on one core, so
that other work on the machine does not count. The recipe `vae` has fully connected networks, `glf`
convolutions.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from image_energies import show
from torch import Tensor

from gencore.recipes.latent.glf import GLFRecipe
from gencore.recipes.latent.vae import VAERecipe
from gencore.train import ImageExperiment, ImageRecipe, fit, load_experiment

# What all rows have in common, and what those of a recipe have.
SHARED: Mapping[str, Mapping[str, Any]] = {
    "digits": {"data": "digits", "steps": 1000, "batch_size": 128, "latent_size": 8},
    "mnist": {"data": "mnist", "steps": 1000, "batch_size": 100, "latent_size": 40},
}
NETWORKS: Mapping[tuple[str, type[ImageRecipe]], Mapping[str, Any]] = {
    ("mnist", VAERecipe): {"hidden_widths": (512, 512)},
    ("mnist", GLFRecipe): {"hidden_features": 256},
}
ROWS: Mapping[str, tuple[type[ImageRecipe], Mapping[str, Any]]] = {
    "VAE": (VAERecipe, {}),
    "VAE, 256 levels": (VAERecipe, {"pixels": "logistic"}),
    "IWAE": (VAERecipe, {"objective": "iwae"}),
    "VLO": (VAERecipe, {"objective": "vlo"}),
    "top-down VAE": (VAERecipe, {"upper_latents": (8,), "free_bits": 2.0}),
    "two-stage VAE": (
        GLFRecipe, {"model": "two-stage-vae", "likelihood": "bernoulli", "first_steps": 500},
    ),
    "WAE-MMD": (GLFRecipe, {"model": "wae-mmd"}),
    "GLO": (GLFRecipe, {"model": "glo"}),
}  # fmt: skip
_SHOWN, _COLUMNS = 36, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", choices=SHARED, default="digits")
    parser.add_argument("--samples", type=int, default=500, help="samples that are measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    out = options.out / options.data
    rows = {name: row(name, options.data, out, options.samples) for name in ROWS}
    table = tabulated({name: measures for name, (_, measures) in rows.items()})
    (out / "table.md").write_text(table, encoding="utf-8")
    print(table)
    draw({name: experiment for name, (experiment, _) in rows.items()}, out / "samples.png")


def recipe_of(name: str, data: str) -> ImageRecipe:
    make, settings = ROWS[name]
    return make(**{**SHARED[data], **NETWORKS.get((data, make), {}), **settings})


def row(
    name: str, data: str, out: Path, num_samples: int
) -> tuple[ImageExperiment, dict[str, float]]:
    """The model, trained unless its run is there, and its measures with the seconds of training."""
    recipe = recipe_of(name, data)
    folder = out / name.replace(", ", "-").replace(" ", "-").lower()
    measured = folder / "measures.json"
    if not measured.exists():
        start = time.process_time()
        experiment = fit(recipe, folder, accelerator="cpu", num_evaluate=0, loggers=())
        seconds = time.process_time() - start
        torch.manual_seed(recipe.seed)
        measures = {"seconds": seconds, **experiment.evaluate(num_samples)}
        measured.write_text(json.dumps(measures, indent=2), encoding="utf-8")
    experiment, step, _ = load_experiment(folder, recipe, accelerator="cpu")
    if step != recipe.steps:
        raise SystemExit(f"{folder} is at step {step} of {recipe.steps}: remove it")
    assert isinstance(experiment, ImageExperiment)
    return experiment, json.loads(measured.read_text())


def tabulated(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Bounds in nats, bits, Fréchet distances, squared errors and seconds of training, as Markdown.

    Bounds of a density of levels are told in bits alone: they do not compare with those of others.
    """
    text = "| | K = 1 | K = 1,000 | bits a dimension | distance | squared error | seconds |\n"
    text += "|" + 7 * "---|" + "\n"
    first = next(iter(rows.values()))
    for kind, title in (("train", "training images"), ("independent_pixels", "independent pixels")):
        text += f"| {title} | | | | {first[f'frechet_classifier/{kind}']:.0f} | | |\n"
    for name, measures in rows.items():
        bits = told(measures, "bits_per_dim_1000/test", ".2f")
        bounds = ["" if bits else told(measures, f"bound_{num}/test", ".1f") for num in (1, 1000)]
        text += (
            f"| {name} | {bounds[0]} | {bounds[1]} | {bits} | "
            f"{measures['frechet_classifier/samples']:.0f} | {measures['squared_error/test']:.4f} "
            f"| {measures['seconds']:.0f} |\n"
        )
    return text


def told(measures: Mapping[str, float], name: str, form: str) -> str:
    """A measure as text, nothing of a model that does not have it."""
    text = format(measures[name], form) if name in measures else ""
    return text.replace("-", "\N{MINUS SIGN}")


def draw(experiments: Mapping[str, ImageExperiment], path: Path) -> None:
    """Real images beside samples of the models."""
    import matplotlib.pyplot as plt

    test = next(iter(experiments.values())).test.images
    panels: dict[str, Tensor] = {
        "test images": test[torch.arange(_SHOWN) * len(test) // _SHOWN] / 255,
        **{
            name: experiment.sample(_SHOWN, torch.Generator().manual_seed(0))
            for name, experiment in experiments.items()
        },
    }
    height = -(-len(panels) // _COLUMNS)
    figure, axes = plt.subplots(
        height, _COLUMNS, figsize=(2 * _COLUMNS, 2.2 * height), layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, images) in zip(axes.flat, panels.items(), strict=False):
        show(axis, images)
        axis.set_title(title, fontsize=9)
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
