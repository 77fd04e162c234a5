"""A dynamic generator of two films: the way of one in the colours of the other."""

import math
import sys

import matplotlib.pyplot as plt
import torch
from torch import nn

from gencore.inference import LatentChains, LatentLangevin
from gencore.models import DynamicGenerator
from gencore.nn import MLP, StateTransition

torch.manual_seed(0)
angle = torch.tensor([[0.0], [math.pi]]) + 0.6 * torch.arange(10)  # two bumps in a circle
rows, columns = (torch.arange(12) - 5.5 - 3 * f(angle)[..., None] for f in (torch.sin, torch.cos))
bumps = (-(rows[..., None].square() + columns[..., None, :].square()) / 5).exp()[:, :, None]
films = 2 * bumps * torch.tensor([[1.0, 0.2, 0.1], [0.1, 0.4, 1.0]]).view(2, 1, 3, 1, 1) - 1
network = MLP(3 + 2, (48, 48), 3 * 144, activation="relu", zero_last=False)
emission = nn.Sequential(network, nn.Tanh(), nn.Unflatten(1, (3, 12, 12)))
model = DynamicGenerator(StateTransition(3, 2), emission, appearance_size=2, noise_std=0.1)
chains, langevin = LatentChains(model.prior_latents(2, 10)), LatentLangevin(0.04, num_steps=4)
optimizer = torch.optim.Adam(model.parameters(), 6e-3, betas=(0.5, 0.999))
for _ in range(500):
    latents = chains.advance(model.posterior_energy(films), torch.arange(2), langevin)
    optimizer.zero_grad()
    (-model.log_likelihood(films, latents).mean()).backward()
    optimizer.step()
swapped = {**latents, "appearance": latents["appearance"].flip(0)}
shown = [films, model.reconstruct(latents), model.reconstruct(swapped)]
titles = ["a film", "shown by the model", "with the other's appearance"]
figure, axes = plt.subplots(6, 1, figsize=(7, 5.2), layout="constrained")
for number, axis in enumerate(axes):
    strip = (shown[number % 3][number // 3].clamp(-1, 1) + 1) / 2
    axis.imshow(strip.permute(2, 0, 3, 1).flatten(1, 2))
    axis.set_title(titles[number % 3], fontsize=8, loc="left", pad=2)
    axis.set(xticks=[], yticks=[])
plt.savefig(sys.argv[1] if len(sys.argv) > 1 else "appearance_and_motion.png", dpi=120)
