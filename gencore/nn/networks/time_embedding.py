"""The number of a diffusion's level as features for a network."""

import math

import torch
from torch import Tensor, nn

from gencore.ops._support.checks import index

__all__ = ["TimeEmbedding"]


class TimeEmbedding(nn.Module):
    r"""Levels t as sines and cosines of geometric frequencies, the positions of transformers.

    .. math:: (\sin \omega_k t,\ \cos \omega_k t), \quad
              \omega_k = 10^{-4 k / (K - 1)}, \quad k = 0, \dots, K - 1

    Args:
        num_features: 2K, even and at least 4.

    Shape:
        [N] → [N, num_features], in torch's default dtype.

    Raises:
        ValueError: for another number of features.

    Example:
        >>> TimeEmbedding(4)(torch.tensor([0, 1]))[0]
        tensor([0., 0., 1., 1.])

    References:
        Vaswani et al., "Attention is all you need", 2017, §3.5; Ho, Jain and Abbeel, "Denoising
        diffusion probabilistic models", 2020, appendix B.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        if index("TimeEmbedding", "num_features", num_features) < 4 or num_features % 2:
            raise ValueError(
                f"TimeEmbedding: num_features is {num_features}; expected an even number from 4 on"
            )
        self.num_features = num_features

    def forward(self, t: Tensor) -> Tensor:
        exponents = torch.linspace(
            0, -math.log(1e4), self.num_features // 2, dtype=torch.float64, device=t.device
        )
        angles = t.to(torch.float64)[:, None] * exponents.exp()
        return torch.cat([angles.sin(), angles.cos()], 1).to(torch.get_default_dtype())

    def extra_repr(self) -> str:
        return f"num_features={self.num_features}"
