"""A bump goes on at its speed or at twice that: predicted with latents for it, and without."""

import sys

import matplotlib.pyplot as plt
import torch

from gencore.inference import LatentDistribution
from gencore.models import LatentLinearizingAutoencoder, linearizing_architecture
from gencore.nn import DeltaCode


def draw_films(num):
    speed, skipped = 2.5 + torch.rand(num, 1), torch.rand(num, 1) < 0.5
    times = torch.cat([torch.zeros(num, 1), torch.ones(num, 1), 2.0 + skipped], 1)
    places = (3 + (26 - 3 * speed) * torch.rand(num, 1) + speed * times)[:, :, None]
    return torch.exp(-(torch.arange(32) - places).square() / 4.5).unbind(1)


torch.manual_seed(0)
plain, inner = (linearizing_architecture("mlp", (32,)) for _ in range(2))
latent = LatentLinearizingAutoencoder(inner, DeltaCode(8, 3, form="velocity"), step_size=0.1)
for model in (plain, latent):
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(600):
        loss = model.loss(*draw_films(128), curvature_weight=0.3).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
x1, x2, y = draw_films(12)
delta = LatentDistribution(latent.infer(*draw_films(2000))).sample(12)
with torch.no_grad():
    predictions = plain(x1, x2), latent(x1, x2, latent.infer(x1, x2, y)), latent(x1, x2, delta)
titles = "first", "second", "third", "without δ", "δ inferred", "δ drawn"
figure, axes = plt.subplots(1, 6, figsize=(9, 2.2), layout="constrained")
for axis, title, frames in zip(axes, titles, (x1, x2, y, *predictions), strict=True):
    axis.imshow(frames, vmin=0, vmax=1, cmap="gray", aspect="auto")
    axis.set(title=title, xticks=[], yticks=[])
plt.savefig(sys.argv[1] if len(sys.argv) > 1 else "uncertain_motion.png", dpi=120)
