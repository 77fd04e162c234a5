"""Which earlier pixels the conditional distribution of a pixel sees, in three networks."""

import sys

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import ListedColormap

from gencore.models import GatedPixelCNN, PixelCNN, PixelCNNPlusPlus, receptive_field

torch.manual_seed(0)
shape, pixel = (1, 16, 24), (12, 12)
networks = {
    "PixelCNN: a stack of masked convolutions": PixelCNN(
        shape, 8, num_layers=12, levels=2, first_kernel_size=3
    ),
    "Gated PixelCNN: a vertical and a horizontal stack": GatedPixelCNN(
        shape, 8, num_layers=12, levels=2, first_kernel_size=3
    ),
    "PixelCNN++: two streams, three resolutions": PixelCNNPlusPlus(
        shape, 8, num_resnets=2, num_scales=3, levels=2
    ),
}
before = torch.arange(16 * 24).view(16, 24) < pixel[0] * 24 + pixel[1]
colours = ListedColormap(["#f4f4f4", "#e8a33d", "#3b6ea5", "#101010"])
figure, axes = plt.subplots(3, 1, figsize=(5, 9.5), layout="constrained")
for axis, (name, network) in zip(axes, networks.items(), strict=True):
    seen = receptive_field(network, pixel)
    # 0: later pixels, 1: earlier ones that are not seen, 2: seen, 3: the pixel itself.
    kinds = before.int() + seen.int()
    kinds[pixel] = 3
    print(f"{name}: {seen.sum().item()} of {before.sum().item()} earlier pixels are seen")
    axis.pcolormesh(kinds, cmap=colours, vmin=0, vmax=3, edgecolors="white", linewidth=0.5)
    axis.set(title=name, xticks=[], yticks=[], aspect="equal")
    axis.invert_yaxis()
plt.savefig(sys.argv[1] if len(sys.argv) > 1 else "blind_spots.png", dpi=100)
