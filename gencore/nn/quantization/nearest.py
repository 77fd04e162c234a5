"""The nearest of a few vectors."""

import torch
from torch import Tensor

__all__ = ["nearest"]

# Elements of the table of distances that is in memory at once.
_TABLE = 2**22


@torch.no_grad()
def nearest(x: Tensor, points: Tensor) -> Tensor:
    r"""The index of the point that is nearest to each vector, the lowest one of several.

    .. math:: \arg\min_k \lVert e_k \rVert^2 - 2\, x \cdot e_k

    which differs from the squared distance by ‖x‖² alone. Both are taken from the points' mean:
    where all lie far from the origin, the products would round the differences away.

    Args:
        x: [N, D].
        points: e [K, D], of the same dtype.

    Returns:
        int64 [N].

    Example:
        >>> import torch
        >>> nearest(torch.tensor([[0.1], [0.9]]), torch.tensor([[0.0], [1.0]]))
        tensor([0, 1])
    """
    centre = points.mean(0)
    points = points - centre
    norms = points.square().sum(1)
    rows = max(_TABLE // len(points), 1)
    # In half precision many points would be equally near.
    with torch.autocast(x.device.type, enabled=False):
        parts = [
            torch.addmm(norms, part - centre, points.T, alpha=-2).argmin(1)
            for part in x.split(rows)
        ]
    return torch.cat(parts)
