"""How far the filters of a network are from being orthogonal to each other."""

import torch
from torch import Tensor, nn

__all__ = ["orthogonality_penalty"]


def orthogonality_penalty(network: nn.Module) -> Tensor:
    r"""The squared inner products of different filters, summed over all layers.

    .. math:: R = \sum_W \lVert W W^\top \odot (1 - I) \rVert_F^2 \qquad (3)

    W are the weights of linear layers and convolutions, one filter a row, of any length: only
    angles are penalised. A generator with it bears latents from a narrower density than it was
    trained with, the truncation that trades variety for fidelity. The source multiplies it by
    10⁻⁴.

    Args:
        network: with layers that have a `weight`; conditional weight norms count by their v.

    Returns:
        A scalar.

    Raises:
        ValueError: for a network without linear layers or convolutions.

    References:
        Brock, Donahue and Simonyan, "Large scale GAN training for high fidelity natural image
        synthesis", 2019, (3).

    Example:
        >>> import torch
        >>> from gencore.objectives import orthogonality_penalty
        >>> layer = torch.nn.Linear(2, 2)
        >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
        >>> orthogonality_penalty(layer).item()  # 6² twice
        72.0
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    terms = []
    for layer in network.modules():
        if isinstance(layer, (*kinds, *transposed)):
            weight = layer.weight.transpose(0, 1) if isinstance(layer, transposed) else layer.weight
            filters = weight.flatten(1)
            products = filters @ filters.T
            terms.append(products.square().sum() - products.diagonal().square().sum())
    if not terms:
        raise ValueError(
            "orthogonality_penalty: the network has no linear layers and no convolutions"
        )
    return torch.stack(terms).sum()
