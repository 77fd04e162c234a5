"""The partition function of ten double wells, between bounds by annealed importance sampling."""

import sys
from functools import partial

import matplotlib.pyplot as plt
import torch

from gencore.samplers import HMC, AnnealedImportance, GaussianBase, annealing_schedule


def well(x):  # the energy of a coordinate: minima near -2 and 2, of different depth
    return (x.square() - 4).square() / 8 + 0.2 * x


# The coordinates are independent, so that sums over a grid give the exact log Z, and exact samples.
torch.manual_seed(0)
grid = torch.linspace(-6, 6, 20_001, dtype=torch.float64)
mass = torch.exp(-well(grid)) * (grid[1] - grid[0])
exact = 10 * mass.sum().log().item()
samples = grid[torch.multinomial(mass, 40_000, replacement=True)].float().view(4000, 10)

base, lengths = GaussianBase((10,), std=2.2), [2, 4, 8, 16, 32, 64, 128]
runs = {"forward, from below": [], "reverse, from above": []}
kernel = partial(HMC, step_size=0.4, num_leapfrog=5)
for length in lengths:
    betas = annealing_schedule("linear", length)
    sampler = AnnealedImportance(lambda x: well(x).sum(1), base, betas, kernel)
    for name, result in zip(runs, (sampler.run(4000), sampler.reverse(samples)), strict=True):
        runs[name].append((result.log_z, 1.96 * result.standard_error))
figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
for name, run in runs.items():
    print(f"{name}: log Z = {run[-1][0]:.3f} ± {run[-1][1]:.3f}; exact {exact:.3f}")
    axis.errorbar(lengths, *zip(*run, strict=True), fmt="o-", capsize=3, label=name)
axis.axhline(exact, color="black", linewidth=1, label="exact")
axis.set(xscale="log", xlabel="temperatures", ylabel="log Z, 95 % intervals")
axis.set_xticks(lengths, lengths)
axis.legend()
plt.savefig(sys.argv[1] if len(sys.argv) > 1 else "log_z.png", dpi=120)
