"""Discriminators of mixed batches beside the best one, which is known for two Gaussians."""

import sys

import matplotlib.pyplot as plt
import torch
from torch.distributions import Normal

from gencore.nn import EquivariantMLP
from gencore.objectives import BGANLoss, MBGANLoss, mix_batches, mixing_masks
from gencore.objectives import optimal_batch_discriminator as best_discriminator

data, samples, steps = Normal(0.0, 1.0), Normal(1.0, 0.7), 1000
cases = [(loss, sees_mean) for loss in (BGANLoss(), MBGANLoss()) for sees_mean in (True, False)]
figure, axes = plt.subplots(2, 2, figsize=(7, 7), sharex=True, sharey=True, layout="constrained")
for axis, (loss, sees_mean) in zip(axes.flat, cases, strict=True):
    torch.manual_seed(0)
    network = EquivariantMLP(1, (32, 32), activation="tanh")
    for layer in network.layers[::2] if not sees_mean else ():
        layer.mean_weight.requires_grad_(False).zero_()
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 0.01)
    for step in range(steps + 1):
        real, fake = (law.sample((128 if step < steps else 2000, 4, 1)) for law in (data, samples))
        halves = mix_batches(real, fake, mixing_masks(len(real), 4))
        x, proportions = (torch.cat(parts) for parts in zip(*halves, strict=True))
        scores = network(x)
        if step < steps:
            optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
            optimizer.zero_grad()
            loss.discriminator_loss(scores, proportions).backward()
            optimizer.step()
    best = best_discriminator(*(law.log_prob(x.squeeze(2)) for law in (data, samples)))
    found = scores.mean(1).sigmoid().detach()
    title = f"{type(loss).__name__}, Γ {'learned' if sees_mean else '= 0'}"
    error, constant = ((guess - best).abs().mean() for guess in (found, 0.5))
    print(f"{title}: |D - D*| is {error:.3f}, of D = 1/2 it is {constant:.3f}")
    axis.scatter(best, found, s=2, alpha=0.3)
    axis.set(title=title, xlim=(0, 1), ylim=(0, 1), xlabel="D*", ylabel="D", aspect="equal")
plt.savefig(sys.argv[1] if len(sys.argv) > 1 else "batch_discriminator.png", dpi=100)
