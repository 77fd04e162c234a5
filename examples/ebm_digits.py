"""A short-run energy-based model of digits, in a training loop of one's own."""

import sys

import matplotlib.pyplot as plt
import torch

from gencore.data import load_images, to_float
from gencore.models import ConvEnergy
from gencore.samplers import Langevin

torch.manual_seed(0)
images = to_float(load_images("digits").images, -1, 1)  # [1438, 1, 8, 8]
energy = ConvEnergy.preset("digits")
optimizer = torch.optim.Adam(energy.parameters(), lr=2e-3, betas=(0.5, 0.999))
# Chains are short: 30 steps from noise, in training and afterwards. A step costs one gradient.
sampler = Langevin(energy, step_size=0.05, noise_scale=0.01)
for step in range(300):
    data = images[torch.randint(len(images), (64,))]
    data = data + 0.03 * torch.randn_like(data)
    samples = sampler.sample(torch.randn_like(data), 30)
    loss = energy(data).mean() - energy(samples).mean()  # has the gradient of maximum likelihood
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(energy.parameters(), 10)
    optimizer.step()
    if step % 50 == 49:
        print(f"step {step + 1}: E(data) - E(samples) = {loss.item():.3f}")

start = torch.randn(16, 1, 8, 8)
states = sampler.sample(start, 30, return_trajectory=True, thin=5)  # [6, 16, 1, 8, 8]
rows = torch.cat([start[None], states]).squeeze(2)
picture = torch.nn.functional.pad(rows, (1, 1, 1, 1), value=-1.0).transpose(1, 2).reshape(70, 160)
figure, axis = plt.subplots(figsize=(10, 4.6), layout="constrained")
axis.imshow(picture, cmap="gray_r", vmin=-1, vmax=1)
axis.set(
    xticks=[], yticks=range(5, 70, 10), yticklabels=range(0, 31, 5), ylabel="step of the chain"
)
plt.savefig(sys.argv[1] if len(sys.argv) > 1 else "ebm_digits.png", dpi=120)
