"""Models of short vectors: random weights, and all vectors."""

import torch

__all__ = ["all_vectors", "random_model"]


def random_model(model, scale=0.7, seed=0):
    """The model with normal parameters of that standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def all_vectors(features, levels=2):
    """All vectors of levels, int64 [levels^features, features], in ascending order."""
    return torch.cartesian_prod(*[torch.arange(levels)] * features).view(-1, features)
