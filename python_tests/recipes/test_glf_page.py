"""The figures and pictures of docs/generative-latent-flow.md: all models on the same images.

``pytest -m long -s python_tests/recipes/test_glf_page.py`` prints the tables and, where the
environment variable GENCORE_PICTURES names a folder, draws the pictures there.
"""

import os
import time
from pathlib import Path

import pytest
import torch

from gencore.data import load_images, to_float
from gencore.metrics import ClassifierFeatures, frechet_distance, pixel_features, prd
from gencore.models.starts import normal_starts
from gencore.recipes.latent.glf import GLFRecipe

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")
plt = pytest.importorskip("matplotlib.pyplot")

NUM_SAMPLES = 2000
ROWS = {
    "GLF": {"model": "glf"},
    "VAE": {"model": "vae"},
    "VAE, flow prior": {"model": "vae-flow-prior"},
    "GLF, perceptual": {"model": "perceptual"},
    "RAE + GMM": {"model": "rae-gmm"},
    "two-stage VAE": {"model": "two-stage-vae", "learn_scale": True},
    "WAE-GAN": {"model": "wae-gan"},
    "VAE, flow prior, β = 100": {"model": "vae-flow-prior", "recon_weight": 100.0},
    "regularised GLF, β = 100": {"model": "regularised", "recon_weight": 100.0},
    "VAE, β = 100": {"model": "vae", "recon_weight": 100.0},
}
SETTINGS = {
    "digits": {"data": "digits", "steps": 400},
    "mnist": {
        "data": "mnist", "image_size": 16, "steps": 200, "latent_size": 20, "hidden_features": 256,
    },
}  # fmt: skip


def trained(**options):
    if options["model"] == "two-stage-vae":
        options["first_steps"] = options["steps"] // 2
    recipe = GLFRecipe(**options)
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    dataset = recipe.load_data()
    batches = recipe.batches(fabric, dataset)
    torch.manual_seed(recipe.seed)
    experiment = recipe.build(fabric, dataset)
    for number in range(recipe.steps):
        scalars = experiment.step(batches[number])
    return experiment, scalars


def draw(path, panels, columns):
    """A panel of images under its title."""
    figure, axes = plt.subplots(-(-len(panels) // columns), columns, squeeze=False)
    figure.set_size_inches(2.1 * columns, 2.3 * len(axes))
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, images) in zip(axes.flat, panels.items(), strict=False):
        side = 6
        grid = images[: side**2, 0].unflatten(0, (side, side)).permute(0, 2, 1, 3)
        axis.imshow(grid.flatten(2).flatten(0, 1).numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=8)
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_lines(path, lines):
    """Interpolations in noise, one model a block of rows."""
    figure, axes = plt.subplots(len(lines), 1, squeeze=False)
    figure.set_size_inches(6, 1.7 * len(lines))
    for axis, (title, images) in zip(axes.flat, lines.items(), strict=True):
        grid = images[:, :, 0].permute(0, 2, 1, 3)
        axis.imshow(grid.flatten(2).flatten(0, 1).numpy(), cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=8)
        axis.axis("off")
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=110)
    plt.close(figure)


class Page:
    """Rows of a table and panels of two pictures, model by model."""

    def __init__(self, data):
        self.data, size = data, SETTINGS[data].get("image_size")
        train, self.test = (
            load_images(data, split=part, image_size=size) for part in ("train", "test")
        )
        self.features = ClassifierFeatures.fit(
            train.images, train.labels, self.test.images, self.test.labels
        )
        print(f"\n{data}: classifier of {self.features.test_accuracy:.1%} test accuracy")
        self.panels, self.lines = {}, {}
        chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        self.add("training images", to_float(train.images[chosen[:NUM_SAMPLES]], 0, 1))

    def add(self, name, samples, note=""):
        """The distance in the classifier's features from all test images; of precision and recall
        as many samples as there are test images."""
        test = self.test.images
        curve = prd(test, samples[: len(test)], self.features, num_runs=3)
        distance = frechet_distance(samples, test, self.features)
        pixels = frechet_distance(samples, test, pixel_features)
        self.panels[name] = samples[:36]
        print(
            f"| {name} | {pixels:.2f} | {distance:.1f} | {curve.f8:.3f} | {curve.f_eighth:.3f} | "
            f"{note}",
            flush=True,
        )
        return distance

    def train(self, name, options):
        start = time.monotonic()
        experiment, scalars = trained(**SETTINGS[self.data], **options)
        seconds = time.monotonic() - start
        model, x = experiment.model, to_float(self.test.images, 0, 1)
        with torch.no_grad():
            error = (model.reconstruct(x) - x).square().mean().item()
            if name in ("VAE", "VAE, flow prior", "GLF", "GLF, perceptual"):
                noise = normal_starts(model, 6, (model.noise_size,), key=torch.tensor([3, 0]))
                self.lines[name] = model.interpolate(*noise.chunk(2), 10)
        losses = "  ".join(f"{key} {value.item():.4g}" for key, value in scalars.items())
        samples = experiment.sample(NUM_SAMPLES, torch.Generator().manual_seed(0))
        return self.add(name, samples, f"{error:.4f} | {seconds:.0f} s, {losses}")

    def draw(self, folder):
        draw(folder / f"glf-{self.data}-samples.png", self.panels, 4)
        draw_lines(folder / f"glf-{self.data}-interpolation.png", self.lines)


@pytest.mark.long
@pytest.mark.parametrize("data", SETTINGS)
def test_the_page(data):
    """The orderings that the page states, from the runs that it shows."""
    page, distances = Page(data), {}
    try:
        for name, options in ROWS.items():
            distances[name] = page.train(name, options)
    finally:
        if folder := os.environ.get("GENCORE_PICTURES"):
            page.draw(Path(folder))
    assert distances["GLF"] < distances["VAE"]
    assert distances["GLF"] < distances["VAE, flow prior"]
    assert distances["VAE, flow prior, β = 100"] < distances["VAE, flow prior"]
