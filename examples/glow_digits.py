"""Glow on digits, given their class: samples at several temperatures."""

import sys

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import one_hot, pad

from gencore.data import load_images
from gencore.metrics import bits_per_dim
from gencore.models import Glow

torch.manual_seed(0)
dataset = load_images("digits")
classes = one_hot(dataset.labels, 10).float()
glow = Glow((1, 8, 8), num_levels=2, num_steps=6, hidden_channels=48, context_size=10)
optimizer = torch.optim.Adam(glow.parameters())
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=500)
for step in range(500):
    chosen = torch.randint(len(dataset), (64,))
    levels = dataset.images[chosen]
    x = (levels + torch.rand(levels.shape)) / 256 - 0.5  # noise makes the grey levels real numbers
    bits = bits_per_dim(glow.log_prob(x, classes[chosen]), num_dims=64).mean()
    optimizer.zero_grad()
    bits.backward()
    torch.nn.utils.clip_grad_norm_(glow.parameters(), 50)
    optimizer.step()
    schedule.step()
    if step % 100 == 99:
        print(f"step {step + 1}: {bits.item():.2f} bits per pixel")

temperatures, wanted = (0.4, 0.7, 1.0), torch.eye(10).repeat_interleave(2, 0)
with torch.no_grad():
    rows = torch.stack([glow.sample(20, wanted, temperature=t) for t in temperatures]).squeeze(2)
picture = pad(rows + 0.5, (1, 1, 1, 1)).transpose(1, 2).reshape(30, 200)
figure, axis = plt.subplots(figsize=(11, 2.2), layout="constrained")
axis.imshow(picture, cmap="gray_r", vmin=0, vmax=1)
axis.set(xticks=range(10, 200, 20), xticklabels=range(10), xlabel="class", ylabel="temperature")
axis.set_yticks(range(5, 30, 10), temperatures)
plt.savefig(sys.argv[1] if len(sys.argv) > 1 else "glow_digits.png", dpi=120)
