"""Deterministic autoencoders: linear ones are PCA, deep ones bend (Lucas 2020, §2.5.1)."""

import torch
from torch import nn

from gencore.models import Autoencoder
from gencore.nn import MLP


def normal(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Not centred: (2.11) has no bias, so that its matrix is that of second moments.
X = normal(200, 5) @ normal(5, 5, seed=1) + torch.tensor([1.0, 0, 0, -1, 2]).double()


def train(model, x, steps=500):
    search = torch.optim.LBFGS(
        model.parameters(), max_iter=steps, tolerance_grad=1e-10, tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss():
        search.zero_grad()
        value = model(x).error.mean()
        value.backward()
        return value

    search.step(loss)
    return model(x).error.mean().item()


def linear(size):
    torch.manual_seed(size)
    encoder, decoder = nn.Linear(5, size, bias=False), nn.Linear(size, 5, bias=False)
    return Autoencoder(encoder, decoder, size).double()


class TestLinear:
    def test_its_optimum_is_the_principal_subspace(self):
        """½ Σ of the eigenvalues of XᵀX/N that are left out, and VW projects on the others."""
        values, vectors = torch.linalg.eigh(X.T @ X / len(X))
        for size in (1, 2, 3):
            model = linear(size)
            found = train(model, X)
            torch.testing.assert_close(
                torch.tensor(found).double(), 0.5 * values[:-size].sum(), rtol=1e-7, atol=0
            )
            product = model.decoder.weight @ model.encoder.weight
            top = vectors[:, -size:]
            torch.testing.assert_close(product.detach(), top @ top.T, rtol=0, atol=1e-4)

    def test_nothing_is_lost_without_a_bottleneck(self):
        for size in (5, 7):
            assert train(linear(size), X) < 1e-8


def test_a_deep_one_follows_a_curve():
    """A parabola has one coordinate; every line loses half the smaller eigenvalue."""
    t = torch.linspace(-1, 1, 100, dtype=torch.float64)
    x = torch.stack([t, t**2], 1)
    line = 0.5 * torch.linalg.eigvalsh(x.T @ x / len(x))[0].item()
    torch.manual_seed(0)
    networks = (MLP(i, (16,), o, activation="tanh", zero_last=False) for i, o in ((2, 1), (1, 2)))
    assert train(Autoencoder(*networks, 1).double(), x, 200) < 1e-3 * line
