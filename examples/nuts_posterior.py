"""Eight schools (Rubin 1981): the posterior of a hierarchical model, by the No-U-Turn sampler."""

import sys

import matplotlib.pyplot as plt
import torch

from gencore.samplers import NUTS, summary, warm_up

measured = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12])  # effect of coaching in each school
error = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18])  # and its standard error


# measured ~ N(mu + tau z, error²), mu ~ N(0, 10²), tau ~ half-Cauchy(5), z ~ N(0, 1); a row of x is
# a chain's mu, log tau and z. With z instead of the schools' effects there is no narrow funnel.
def energy(x):
    mu, log_tau, z = x[:, :1], x[:, 1:2], x[:, 2:]
    squares = torch.cat([(measured - mu - log_tau.exp() * z) / error, mu / 10, z], 1).square()
    return squares.sum(1) / 2 + (torch.log1p((log_tau.exp() / 5) ** 2) - log_tau).sum(1)


torch.manual_seed(0)
sampler, x, _ = warm_up(NUTS(energy, 0.1), torch.randn(64, 10), 300, target_acceptance=0.9)
x, info = sampler.sample(x, 300, return_trajectory=True, return_info=True)  # [300, 64, 10]
print(summary(x)[["mean", "sd", "ess_bulk", "ess_tail", "r_hat"]].round(3))
print(f"{int(info.is_divergent.sum())} of {info.is_divergent.numel()} transitions diverged")

mu, tau, z = x.flatten(0, 1).split([1, 1, 8], 1)
tau = tau.exp()
low, middle, high = (mu + tau * z).quantile(torch.tensor([0.05, 0.5, 0.95]), dim=0)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
bars = torch.stack([middle - low, high - middle])
rows = torch.arange(8)
left.errorbar(measured, rows + 0.15, xerr=1.64 * error, fmt="o", c="0.6", label="measured")
left.errorbar(middle, rows - 0.15, xerr=bars, fmt="o", label="posterior")
left.set(xlabel="effect, 90 % intervals", ylabel="school", yticks=range(8), yticklabels="ABCDEFGH")
left.legend(loc="lower left")
right.hist2d(*torch.cat([tau, mu], 1).numpy().T, bins=70, range=((0, 20), (-8, 22)), cmap="Blues")
right.set(xlabel="tau, spread between schools", ylabel="mu, mean effect", title="posterior")
plt.savefig(sys.argv[1] if len(sys.argv) > 1 else "nuts_posterior.png", dpi=120)
