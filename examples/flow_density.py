"""A spline flow learns a density of the plane: its exact density, and its samples."""

import sys

import matplotlib.pyplot as plt
import torch

from gencore.data import load_density
from gencore.models import SplineFlow

torch.manual_seed(0)
target = load_density("pinwheel")
flow = SplineFlow(2, num_layers=6)
optimizer = torch.optim.Adam(flow.parameters(), lr=2e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 800)
for step in range(800):
    loss = -flow.log_prob(target.sample(512)).mean()  # maximum likelihood, on fresh points
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 200 == 199:
        print(f"step {step + 1}: {loss.item():.3f} nats")

side = torch.linspace(-2.5, 2.5, 300)
grid = torch.cartesian_prod(side, side)
with torch.no_grad():
    x = target.sample(20_000)
    gap = target.log_prob(x) - flow.log_prob(x)
    print(f"KL(target, flow) = {gap.mean():.3f} ± {gap.std() / len(x) ** 0.5:.3f} nats")
    densities = {"the density": target.log_prob(grid), "the flow's density": flow.log_prob(grid)}
    points = flow.sample(5000)
figure, axes = plt.subplots(1, 3, figsize=(12, 4.3), layout="constrained")
for axis, (title, log_prob) in zip(axes, densities.items(), strict=False):
    axis.imshow(log_prob.exp().sqrt().view(300, 300).T, origin="lower")  # the root shows the tails
    axis.set(title=title, xticks=[], yticks=[])
axes[2].scatter(*points.T, s=1)
limits = {"xlim": (-2.5, 2.5), "ylim": (-2.5, 2.5), "aspect": "equal"}
axes[2].set(title="5,000 samples of the flow", xticks=[], yticks=[], **limits)
plt.savefig(sys.argv[1] if len(sys.argv) > 1 else "flow_density.png", dpi=120)
