"""Features of a trained multi-grid model against those of its random weights (Gao 2021, §2.2.3.2):
digits of which a hundred have labels."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gencore.data import load_images, to_float
from gencore.metrics import linear_svm_error
from gencore.models import MultiGridEBM

DRAWS = 10  # choices of ten labels of each digit


def digits(split):
    part = load_images("digits", split=split)
    return to_float(part.images, -1, 1), part.labels


def make_ebm(seed):
    torch.manual_seed(seed)
    return MultiGridEBM.preset(
        "small8", num_steps=10, step_size=0.2, noise_scale=0.1, clamp=(-1.0, 1.0),
        energy_penalty=0.1,
    )  # fmt: skip


def train(ebm, x, seed, num_updates=800):
    """Without labels; averaged weights, and a rate at which the first layers move too."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(ebm.energies.parameters(), 0.02, betas=(0.5, 0.999))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_updates)
    averaged = AveragedModel(ebm, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    for _ in range(num_updates):
        batch = x[torch.randint(len(x), (64,), generator=generator)]
        batch = batch + 0.1 * torch.randn(batch.shape, generator=generator)
        optimizer.zero_grad()
        ebm(batch, generator=generator).loss.backward()
        nn.utils.clip_grad_norm_(ebm.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(ebm)
    return averaged.module


def of_equal_layers(ebm, train_images, images):
    """Features of all layers, each layer's divided by the root of its mean variance."""
    parts = []
    for layer in range(len(ebm.energies[-1].layers)):
        scale = ebm.features(train_images, layers=[layer]).var(0).mean().sqrt()
        parts.append(ebm.features(images, layers=[layer]) / scale)
    return torch.cat(parts, 1)


FEATURES = {
    "all": lambda ebm, _, images: ebm.features(images),
    "all, layers of one scale": of_equal_layers,
    "last": lambda ebm, _, images: ebm.features(images, layers=[1]),
}


@torch.no_grad()
def errors(ebm, name, seed):
    """Test errors for every choice of a hundred labels."""
    (x, labels), (y, truth) = digits("train"), digits("test")
    train_features, test_features = (FEATURES[name](ebm, x, images) for images in (x, y))
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(DRAWS):
        order = torch.randperm(len(x), generator=generator)
        rows = torch.cat([order[labels[order] == digit][:10] for digit in range(10)])
        found.append(linear_svm_error((train_features[rows], labels[rows]), (test_features, truth)))
    return torch.tensor(found)


@pytest.mark.long
def test_trained_features_beat_those_of_random_weights():
    """Of either scaling of those, with the same labels: docs/multi-grid.md has the table."""
    pytest.importorskip("sklearn")
    before, after = [], []
    for seed in (3, 4, 5):
        ebm = make_ebm(seed)
        names = "all", "all, layers of one scale"
        before.append(min(errors(ebm, name, seed).mean() for name in names))
        after.append(errors(train(ebm, digits("train")[0], seed), names[1], seed).mean())
    assert sum(after) < sum(before), (before, after)
    assert sum(new < old for new, old in zip(after, before, strict=True)) >= 2, (before, after)
