"""How badly each candidate of a displacement explains what has become of a vector."""

import math

import torch
from torch import Tensor

from gencore.ops._support.checks import check_state

__all__ = ["motion_costs"]

# Numbers that are held at once, which bounds the memory.
_CHUNK = 2**24


def motion_costs(following: Tensor, context: Tensor, matrices: Tensor) -> Tensor:
    r"""The rotation loss of every candidate at every place,

    .. math:: L_{1,x}(\delta) = \sum_k \lVert v^{(k)}_{t+1}(x) - M^{(k)}(\delta)\, v^{(k)}_t(x)
              \rVert^2, \quad \delta \in \Delta \qquad (6.10)

    Where the matrices are square, the squares are multiplied out:

    .. math:: \lVert v' \rVert^2 - 2 \sum_k \langle M^{(k)}, v'^{(k)} v^{(k)\top} \rangle
              + \sum_k \langle M^{(k)\top} M^{(k)}, v^{(k)} v^{(k)\top} \rangle

    so that all places and candidates are one product of matrices, [N P, 2 K n²] by [2 K n², D].
    With local mixing Mv is computed for some places at a time.

    Args:
        following: v_{t+1}, [N, K, n, h, w].
        context: v_t, or with local mixing v_t at each offset, [N, K, m, h, w].
        matrices: M of D candidates, [D, K, n, m].

    Returns:
        [N, D, h, w].

    Raises:
        ValueError: shapes do not fit.

    Source:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §6.3.2; which prints arg max for the arg min.

    Example:
        >>> v = torch.tensor([1.0, 0.0]).view(1, 1, 2, 1, 1)
        >>> still, turned = torch.eye(2), torch.tensor([[0.0, -1.0], [1.0, 0.0]])
        >>> motion_costs(v, v, torch.stack([still, turned])[:, None]).flatten()
        tensor([0., 2.])
    """
    check_state("motion_costs", following, "following")
    fits = following.dim() == context.dim() == 5 and matrices.dim() == 4
    if (
        not fits
        or following.shape[0] != context.shape[0]
        or following.shape[3:] != context.shape[3:]
        or matrices.shape[1:] != (following.shape[1], following.shape[2], context.shape[2])
        or context.shape[1] != following.shape[1]
    ):
        raise ValueError(
            f"motion_costs: following has shape {list(following.shape)}, context "
            f"{list(context.shape)} and matrices {list(matrices.shape)}; expected "
            "[N, K, n, h, w], [N, K, m, h, w] and [D, K, n, m]"
        )
    # Places first: [N P, K, n].
    after, before = (v.permute(0, 3, 4, 1, 2).flatten(0, 2) for v in (following, context))
    square = matrices.shape[2] == matrices.shape[3]
    costs = (_expanded if square else _mixed)(after, before, matrices)
    num, _, _, height, width = following.shape
    return costs.view(num, height, width, -1).permute(0, 3, 1, 2)


def _expanded(after: Tensor, before: Tensor, matrices: Tensor) -> Tensor:
    crossed = after.unsqueeze(-1) * before.unsqueeze(-2)
    squared = before.unsqueeze(-1) * before.unsqueeze(-2)
    features = torch.cat([crossed.flatten(1), squared.flatten(1)], 1)
    gram = matrices.mT @ matrices
    weights = torch.cat([-2 * matrices.flatten(1), gram.flatten(1)], 1)
    norm = after.flatten(1).square().sum(1, keepdim=True)
    return torch.addmm(norm, features, weights.T)


def _mixed(after: Tensor, before: Tensor, matrices: Tensor) -> Tensor:
    num, blocks, units = matrices.shape[:3]
    weights = matrices.permute(1, 3, 0, 2).flatten(2)  # [K, m, D n]
    step = max(1, _CHUNK // max(1, math.prod((num, blocks, units))))
    costs = []
    for v_next, v in zip(after.split(step), before.split(step), strict=True):
        predicted = torch.bmm(v.transpose(0, 1), weights).unflatten(-1, (num, units))
        error = v_next.transpose(0, 1).unsqueeze(2) - predicted
        costs.append(error.square().sum((0, 3)))
    return torch.cat(costs) if costs else after.new_zeros(0, num)
