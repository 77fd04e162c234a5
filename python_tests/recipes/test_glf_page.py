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
    "VAE": {"model": "vae"},
    "VAE, β = 100": {"model": "vae", "recon_weight": 100.0},
    "WAE-GAN": {"model": "wae-gan"},
    "two-stage VAE": {"model": "two-stage-vae", "learn_scale": True},
    "RAE + GMM": {"model": "rae-gmm"},
    "VAE, flow prior": {"model": "vae-flow-prior"},
    "VAE, flow prior, β = 100": {"model": "vae-flow-prior", "recon_weight": 100.0},
    "regularised GLF, β = 100": {"model": "regularised", "recon_weight": 100.0},
    "GLF": {"model": "glf"},
    "GLF, perceptual": {"model": "perceptual"},
}
SETTINGS = {
    "digits": {"data": "digits", "steps": 800},
    "mnist": {
        "data": "mnist", "image_size": 16, "steps": 300, "latent_size": 20, "hidden_features": 256,
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
        axis.imshow(grid.flatten(2).flatten(0, 1), cmap="gray", vmin=0, vmax=1)
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
        axis.imshow(grid.flatten(2).flatten(0, 1), cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=8)
        axis.axis("off")
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=110)
    plt.close(figure)


@pytest.mark.long
@pytest.mark.parametrize("data", SETTINGS)
def test_the_page(data):
    """The orderings that the page states, from the runs that it shows."""
    size = SETTINGS[data].get("image_size")
    train, test = (load_images(data, split=part, image_size=size) for part in ("train", "test"))
    features = ClassifierFeatures.fit(train.images, train.labels, test.images, test.labels)
    print(f"\n{data}: classifier of {features.test_accuracy:.1%} test accuracy")
    panels = {"test images": to_float(test.images[:36], 0, 1)}
    lines, distances = {}, {}
    rows = {"training images": train.images[:NUM_SAMPLES]}
    for name, options in ROWS.items():
        start = time.monotonic()
        experiment, scalars = trained(**SETTINGS[data], **options)
        seconds = time.monotonic() - start
        samples = experiment.sample(NUM_SAMPLES, torch.Generator().manual_seed(0))
        rows[name] = samples
        panels[name] = samples
        if name in ("VAE", "VAE, flow prior", "GLF", "GLF, perceptual"):
            model = experiment.model
            noise = normal_starts(model, 6, (model.noise_size,), key=torch.tensor([3, 0]))
            with torch.no_grad():
                lines[name] = model.interpolate(*noise.chunk(2), 10)
        error = experiment.model.reconstruct(to_float(test.images, 0, 1)).detach()
        error = (error - to_float(test.images, 0, 1)).square().mean().item()
        losses = "  ".join(f"{key} {value.item():.4g}" for key, value in scalars.items())
        print(f"{name}: {seconds:.0f} s, squared error {error:.4f}, {losses}", flush=True)
    for name, images in rows.items():
        curve = prd(test.images, images[: len(test)], features)
        distances[name] = frechet_distance(images, test.images, features)
        pixels = frechet_distance(images, test.images, pixel_features)
        print(
            f"| {name} | {pixels:.2f} | {distances[name]:.1f} | "
            f"{curve.f8:.3f} | {curve.f_eighth:.3f} |"
        )
    if folder := os.environ.get("GENCORE_PICTURES"):
        draw(Path(folder) / f"glf-{data}-samples.png", panels, 4)
        draw_lines(Path(folder) / f"glf-{data}-interpolation.png", lines)
    assert distances["GLF"] < distances["VAE"]
    assert distances["GLF"] < distances["VAE, flow prior"]
    assert distances["VAE, flow prior, β = 100"] < distances["VAE, flow prior"]
