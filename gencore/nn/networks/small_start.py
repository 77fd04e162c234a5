"""The small weights that networks of adversarial games start with."""

from torch import nn

__all__ = ["start_small"]


def start_small(network: nn.Module, std: float = 0.02) -> None:
    """Weights N(0, std²), biases 0, factors of batch normalisation N(1, std²).

    References:
        Radford, Metz and Chintala, "Unsupervised representation learning with deep convolutional
        generative adversarial networks", 2016, §4.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, std)
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
