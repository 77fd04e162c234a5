"""Variational latent optimisation against an encoder, over the number of training digits."""

import dataclasses

import pytest
import torch

from gencore.data import to_float
from gencore.recipes.latent.vae import VAERecipe
from gencore.train import Batch

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")


def negative_bound(objective, num_images, seed=0, steps=4000):
    """−ELBO of the test digits, in nats, after equally many updates of the decoder."""
    recipe = VAERecipe(
        objective=objective, steps=steps, batch_size=100, seed=seed, hidden_widths=(128, 128)
    )
    torch.manual_seed(seed)
    dataset = recipe.load_data()
    part = dataclasses.replace(
        dataset, images=dataset.images[:num_images], labels=dataset.labels[:num_images]
    )
    experiment = recipe.build(fabric_module.Fabric(accelerator="cpu", devices=1), part)
    for _ in range(steps):
        index = torch.randperm(num_images)[:100]
        experiment.step(Batch(part.images[index], None, index))
    x = to_float(experiment.test.images, 0, 1)
    posterior = experiment.posterior(x) or experiment.model.encode(x)
    with torch.no_grad():
        bounds = [experiment.model.analytic_elbo(x, posterior=posterior) for _ in range(10)]
    return -torch.stack(bounds).mean().item()


@pytest.mark.long
def test_without_an_encoder_few_data_are_enough():
    """Yan 2022, Table 2.2: the gain is largest where there are fewest (docs/vae.md)."""
    gains = []
    for num in (100, 300, 1000):
        vae, vlo = negative_bound("elbo", num), negative_bound("vlo", num)
        print(f"{num} digits: VAE {vae:.2f}, VLO {vlo:.2f}")
        gains.append(vae - vlo)
    assert gains[0] > gains[1] > gains[2]
    assert gains[0] > 0.3
