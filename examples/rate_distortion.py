"""A lossy coder of digits at five trade-offs: its bits, its error, and what is left of images."""

import sys

import matplotlib.pyplot as plt
import torch

from gencore.data import load_images
from gencore.models import LossyCoder
from gencore.nn import FactorizedPrior, ResidualDecoder, ResidualEncoder

train, test = (load_images("digits", split=split).images / 255 for split in ("train", "test"))
curve, rows = [], [test[:12]]
for beta in (4, 16, 64, 256, 1024):  # bits for a unit of squared error
    torch.manual_seed(0)
    networks = ResidualEncoder(1, 32, 4, downsampling=2), ResidualDecoder(4, 32, 1, upsampling=2)
    coder = LossyCoder(*networks, FactorizedPrior(4), beta=float(beta))
    groups = [{"params": network.parameters()} for network in networks]
    groups.append({"params": coder.entropy_model.parameters(), "lr": 0.04})
    optimizer = torch.optim.Adam(groups, 4e-3, (0.9, 0.95))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    for _ in range(400):
        loss = coder(train[torch.randint(len(train), (64,))]).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    coder.eval()
    rate, distortion = (f(test).mean().item() for f in (coder.rate, coder.distortion))
    print(f"beta {beta}: {rate:.1f} bits an image, squared error {distortion:.2f}")
    curve.append((rate, distortion))
    rows.append(coder.decode(coder.encode(rows[0])).clamp(0, 1))
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.3), layout="constrained")
left.semilogy(*zip(*curve, strict=True), "o-")
left.set(title="held-out digits", xlabel="bits an image", ylabel="squared error")
right.imshow(torch.cat([torch.cat(list(row), 2) for row in rows], 1)[0], cmap="gray")
right.set(title="images, and decoded at more and more bits", xticks=[], yticks=[])
plt.savefig(sys.argv[1] if len(sys.argv) > 1 else "rate_distortion.png", dpi=120)
