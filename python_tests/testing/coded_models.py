"""Models of small images in colour, and images that are like and unlike them."""

import torch
from testing.coding import walk

from gencore.models import GatedPixelCNN, PixelCNN, PixelCNNPlusPlus

SHAPE = (3, 6, 8)
MODELS = {
    "PixelCNN": lambda: PixelCNN(SHAPE, channels=6, num_layers=2, levels=256),
    "GatedPixelCNN": lambda: GatedPixelCNN(SHAPE, channels=6, num_layers=2, levels=16),
    "PixelCNN++": lambda: PixelCNNPlusPlus(SHAPE, channels=8, num_resnets=1, num_scales=2),
}


def make(name):
    """A model far from uniform."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


def images(levels):
    """A walk, noise, black, and white."""
    noise = torch.randint(levels, (4, *SHAPE), generator=torch.Generator().manual_seed(1))
    dark = torch.zeros(2, *SHAPE, dtype=torch.int64)
    return torch.cat([walk(4, SHAPE, levels), noise, dark, dark + levels - 1])
