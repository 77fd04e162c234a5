"""The noise of the encoder's gradient by each estimator, on digits, at the start and trained."""

import pytest
import torch

from gencore.data import to_float
from gencore.recipes.latent.vae import VAERecipe
from gencore.train import Batch

pytest.importorskip("sklearn")
fabric_module = pytest.importorskip("lightning_fabric")

LATENTS, KEYS = 10, 200


def losses(vae, x):
    """Losses of ten latents an image, as functions of a key; that with the exact KL divergence has
    one latent."""

    def elbo(estimator, baseline=None):
        return lambda key: (
            -vae.elbo(x, LATENTS, estimator=estimator, baseline=baseline, key=key).mean()
        )

    def bound(estimator):
        return lambda key: -vae.log_prob_bound(x, LATENTS, estimator=estimator, key=key).mean()

    with torch.no_grad():
        usual = vae.elbo(x, 100, key=torch.tensor([KEYS, 0])).mean()
    return {
        "loss": lambda key: vae(x, key=key).loss,
        "reparametrised": elbo("reparametrised"),
        "path": elbo("path"),
        "score": elbo("score"),
        "score, mean bound": elbo("score", usual),
        "score, leave one out": elbo("score", "leave_one_out"),
        "iwae reparametrised": bound("reparametrised"),
        "iwae doubly reparametrised": bound("doubly_reparametrised"),
    }


def moments(vae, loss):
    """The squared length of the mean of the encoder's gradient, and its variance, both sums over
    the weights."""
    weights, total, squares = list(vae.encoder.parameters()), 0.0, 0.0
    for seed in range(KEYS):
        parts = torch.autograd.grad(loss(torch.tensor([seed, 0])), weights)
        gradient = torch.cat([part.flatten() for part in parts]).double()
        total, squares = total + gradient, squares + gradient.square()
    variance = ((squares - total.square() / KEYS) / (KEYS - 1)).sum().item()
    return (total / KEYS).square().sum().item() - variance / KEYS, variance


@pytest.mark.long
def test_the_order_of_the_estimators():
    """docs/vae.md."""
    recipe = VAERecipe()
    torch.manual_seed(recipe.seed)
    dataset = recipe.load_data()
    experiment = recipe.build(fabric_module.Fabric(accelerator="cpu", devices=1), dataset)
    x = to_float(dataset.images[:128], 0, 1)
    for steps in (0, recipe.steps):
        for _ in range(steps):
            index = torch.randperm(len(dataset))[: recipe.batch_size]
            experiment.step(Batch(dataset.images[index], None, index))
        found = {}
        for name, loss in losses(experiment.model, x).items():
            squared_mean, variance = moments(experiment.model, loss)
            found[name] = variance / (LATENTS if name == "loss" else 1)
            print(f"{steps} {name}: mean² {squared_mean:.3g}, variance {found[name]:.3g}")
        assert found["path"] < found["reparametrised"] / 3
        assert found["iwae doubly reparametrised"] < found["iwae reparametrised"] / 10
        assert found["score, leave one out"] < found["score"] / 100
