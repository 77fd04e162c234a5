"""Films of a bump whose third frame may be skipped, and models trained to predict it."""

import torch

from gencore.models import LatentLinearizingAutoencoder, linearizing_architecture
from gencore.nn import DeltaCode

SIZE, STD = 32, 1.5


def uncertain_films(num, generator):
    """Bumps that go v pixels to the right, 2.5 to 3.5, then v again or, as often, 2v.

    Returns:
        frames [num, 3, 32], both third frames that may be [num, 2, 32], and s [num], 1 for 2v.
    """
    uniform = torch.rand(3, num, 1, 1, generator=generator)
    speed = 2.5 + uniform[0]
    start = 3 + (SIZE - 6 - 3 * speed) * uniform[1]
    skipped = (uniform[2] < 0.5).float()
    places = start + speed * torch.arange(4.0)[:, None]
    frames = torch.exp(-(torch.arange(SIZE) - places).square() / (2 * STD**2))
    futures = frames[:, 2:]
    target = torch.where(skipped > 0, futures[:, 1:], futures[:, :1])
    return torch.cat([frames[:, :2], target], 1), futures, skipped.flatten()


def trained_model(form, steps, *, seed):
    """Of 3-D latents and 32-128-64 units: in the form "velocity" of phases in 8 pools, with
    λ = 0.3; in that of equation 3.11 of a code of 64 numbers, as phases' signs would turn it."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    has_phases = form == "velocity"
    autoencoder = linearizing_architecture("mlp", (SIZE,), phase_pooling=has_phases)
    model = LatentLinearizingAutoencoder(
        autoencoder,
        DeltaCode(8 if has_phases else 64, 3, form=form),
        num_steps=10,
        step_size=0.1 if has_phases else 0.02,
    )
    curvature_weight = 0.3 if has_phases else 0.0
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(steps):
        films, _, _ = uncertain_films(128, generator)
        loss = model.loss(*films.unbind(1), curvature_weight).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def uncertainty_measures(model, num=4000):
    """Squared errors a frame, with the inferred δ and of the average of both futures, below which
    no prediction without latents falls; and for how many films a linear function of δ, a logistic
    regression on others, tells s."""
    (train, _, s_train), (test, futures, s_test) = (
        uncertain_films(num, torch.Generator().manual_seed(seed)) for seed in (1234, 5678)
    )
    x1, x2, y = test.unbind(1)
    delta_train, delta = model.infer(*train.unbind(1)), model.infer(x1, x2, y)
    told = _logits(delta_train, s_train, delta) > 0
    with torch.no_grad():
        predicted = model(x1, x2, delta)
    return {
        "error": (predicted - y).square().sum(1).mean().item(),
        "average": (futures.mean(1) - y).square().sum(1).mean().item(),
        "probe": (told == (s_test > 0)).float().mean().item(),
    }


def _logits(x, label, new):
    """Of the logistic regression on rows x [N, D] of labels 0 and 1, at other rows."""
    scale = x.std(0)
    rows, new = (torch.cat([z / scale, torch.ones(len(z), 1)], 1) for z in (x, new))
    weight = torch.zeros(rows.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        logits = rows @ weight
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, label)
        loss = loss + 1e-5 * weight.square().sum()  # where the two kinds are apart
        loss.backward()
        return loss

    optimizer.step(closure)
    return new @ weight.detach()
