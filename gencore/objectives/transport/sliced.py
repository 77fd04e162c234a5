"""Optimal transport of projections to random lines (Rabin et al. 2011)."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gencore.objectives.transport.clouds import check_clouds, check_power, cloud_weights
from gencore.objectives.transport.one_dimension import wasserstein_1d
from gencore.ops import philox_normal, random_key
from gencore.ops._support.checks import accumulation_dtype, check_count

__all__ = ["sliced_wasserstein"]


def sliced_wasserstein(
    x: Tensor,
    y: Tensor,
    *,
    num_projections: int = 100,
    p: float = 2,
    x_weights: Tensor | None = None,
    y_weights: Tensor | None = None,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
) -> Tensor:
    r"""The mean of W_p^p over projections to random directions, differentiable.

    .. math:: \frac1L \sum_l W_p^p(\langle x, \theta_l \rangle, \langle y, \theta_l \rangle) ,
              \qquad \theta_l \text{ uniform on the sphere}

    It takes time L (N + M)(D + log(N + M)). Of D dimensions, ‖θ‖ = 1 makes it for p = 2 at most
    1/D of W_2^2; two clouds that differ by a shift come to just that on average.

    Args:
        x: [N, D].
        y: [M, D], of the same dtype.
        num_projections: L.
        p: of the cost, p ≥ 1.
        x_weights: not negative, with sum 1, [N]; 1/N if None.
        y_weights: likewise, [M].
        generator: draws the key where none is given; torch's default where both are missing.
        key: int64 [seed, offset] of the directions. With one key they are the same in each call.

    Returns:
        A scalar, float32 at least.

    Raises:
        ValueError: for other shapes or weights, p below 1, or no projections.
        TypeError: for two dtypes, or one that is not floating.

    Source:
        Rabin, Peyré, Delon and Bernot, "Wasserstein Barycenter and its Application to Texture
        Mixing", 2011. Bonneel, Rabin, Peyré and Pfister, "Sliced and Radon Wasserstein Barycenters
        of Measures", 2015.

    Example:
        >>> import torch
        >>> from gencore.objectives import sliced_wasserstein
        >>> x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
        >>> key = torch.tensor([0, 0])
        >>> sliced_wasserstein(x, x + 1, num_projections=10_000, key=key).round(decimals=1)
        tensor(1.)
    """
    owner = "sliced_wasserstein"
    check_clouds(owner, x, y)
    check_power(owner, p)
    check_count(owner, "num_projections", num_projections, least=1)
    a, b = (
        None
        if weights is None
        else cloud_weights(owner, name, weights, points).expand(num_projections, -1)
        for name, weights, points in (("x_weights", x_weights, x), ("y_weights", y_weights, y))
    )
    key = random_key(generator, device=x.device) if key is None else key
    directions = philox_normal((num_projections, x.shape[1]), key, dtype=accumulation_dtype(x))
    directions = normalize(directions, dim=1)
    along_x, along_y = (directions @ points.to(directions).T for points in (x, y))
    return wasserstein_1d(along_x, along_y, p=p, x_weights=a, y_weights=b).mean()
