"""Points of five classes and two style factors, whose swaps are known, and a model of them."""

from itertools import chain

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gencore.models import DisentanglingVAE
from gencore.nn import MLP, LookUpDiscriminator
from gencore.objectives import adversarial_discriminator_loss

CLASSES, DIMS, S, Z = 5, 24, 4, 4
WEIGHTS = {"kl_weight": 0.05, "adversarial_weight": 0.1}


class AlignedFactors:
    """y = Q(template of the class ⊕ tanh(B·style)), with a rotation Q of R^24."""

    def __init__(self, seed=0):
        g = torch.Generator().manual_seed(seed)
        self.templates = torch.randn(CLASSES, DIMS // 2, generator=g)
        self.map = torch.randn(2, DIMS // 2, generator=g)
        self.rotation = torch.linalg.qr(torch.randn(DIMS, DIMS, generator=g))[0]
        self.generator = g
        self.variance = self.points(*self.factors(20_000)).var(0).mean().item()

    def points(self, labels, styles):
        parts = self.templates[labels], torch.tanh(styles @ self.map)
        return torch.cat(parts, 1) @ self.rotation

    def factors(self, num):
        labels = torch.randint(CLASSES, (num,), generator=self.generator)
        return labels, torch.randn(num, 2, generator=self.generator)

    def batch(self, num):
        """y₁, y₁′, y₂ and the labels of y₁ and y₂."""
        (labels, a), (_, b), (others, c) = (self.factors(num) for _ in range(3))
        return (
            self.points(labels, a), self.points(labels, b), self.points(others, c), labels, others,
        )  # fmt: skip


class Parts(nn.Module):
    """An encoder of s, which may be frozen, and one of z."""

    def __init__(self, specified, style):
        super().__init__()
        self.specified, self.style = specified, style

    def forward(self, y):
        return torch.cat([self.specified(y), self.style(y)], 1)


def mlp(inputs, outputs):
    return MLP(inputs, (64, 64), outputs, activation="relu", zero_last=False)


def pretrained(data, steps=500):
    """An encoder with the two halves of Table 5.2's ablation: f_s is trained to classify."""
    specified, head = mlp(DIMS, S), nn.Linear(S, CLASSES)
    optimizer = torch.optim.Adam(chain(specified.parameters(), head.parameters()), 2e-3)
    for _ in range(steps):
        y, _, _, labels, _ = data.batch(128)
        optimizer.zero_grad()
        cross_entropy(head(torch.relu(specified(y))), labels).backward()
        optimizer.step()
    return Parts(specified.requires_grad_(False), mlp(DIMS, 2 * Z))


def train(data, steps, *, seed=0, encoder=None, adversary=True, **weights):
    """A model trained on the data by Algorithm 5.1, with Adam."""
    torch.manual_seed(seed)
    model = DisentanglingVAE(
        encoder or mlp(DIMS, S + 2 * Z), mlp(S + Z, DIMS), S, Z, **{**WEIGHTS, **weights}
    )
    discriminator = LookUpDiscriminator((DIMS,), CLASSES, widths=(64, 64))
    trained = [w for w in model.parameters() if w.requires_grad]
    players = torch.optim.Adam(trained, 2e-3), torch.optim.Adam(discriminator.parameters(), 1e-3)
    falling = [torch.optim.lr_scheduler.LinearLR(p, 1, 0.02, steps) for p in players]
    falling = falling if adversary else falling[:1]
    for _ in range(steps):
        y, same, other, labels, others = data.batch(128)
        players[0].zero_grad()
        model.loss(y, same, other, others, discriminator if adversary else None).loss.backward()
        players[0].step()
        if adversary:
            players[1].zero_grad()
            fake = discriminator(model.swapped_samples(y, other), labels)
            adversarial_discriminator_loss(discriminator(y, labels), fake).backward()
            players[1].step()
        for schedule in falling:
            schedule.step()
    return model


@torch.no_grad()
def swap_error(model, data, num=4000):
    """The mean squared error of swaps against the truth, over the variance of the data."""
    (a, a_style), (b, b_style) = data.factors(num), data.factors(num)
    swapped = model.swap(data.points(a, a_style), data.points(b, b_style))
    return (swapped - data.points(a, b_style)).square().mean().item() / data.variance
