"""Key points of images, and the motion of the plane or of space that two sets of them tell."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.ops._support.checks import finite

__all__ = ["KeyPoints", "blended_flow", "key_point_flows", "key_point_heatmaps"]


class KeyPoints(NamedTuple):
    """K places of N images or volumes, and what the map around each one is."""

    positions: Tensor
    """p: [N, K, d], in pixels, to the right, down and, if d is 3, deeper."""
    jacobians: Tensor | None = None
    """A: [N, K, d, d], of T(p + h) = A h; the identity where there is none."""

    def shifted(self, offsets: Tensor) -> "KeyPoints":
        """The points p + δ of offsets [N, K, d]."""
        return self._replace(positions=self.positions + offsets)

    def expanded(self, count: int) -> "KeyPoints":
        """The points of one image for `count` images."""
        positions, jacobians = self
        if jacobians is not None:
            jacobians = jacobians.expand(count, -1, -1, -1)
        return KeyPoints(positions.expand(count, -1, -1), jacobians)


def key_point_flows(source: KeyPoints, driving: KeyPoints, size: Sequence[int]) -> Tensor:
    r"""The displacement that each pair of key points means for every pixel of the driving image.

    .. math:: \delta_j(q) = T_{s,j}^{-1} T_{d,j}(q) - q = A_{s,j}^{-1} A_{d,j} (q - p_{d,j}) +
              p_{s,j} - q

    so that :func:`gencore.ops.warp` of the source image by it looks as the driving image around the
    point. Equal points give zero everywhere, exactly. Without Jacobians it is the shift of p_d to
    p_s.

    Args:
        source: p_s and A_s, of the image that is warped.
        driving: p_d and A_d.
        size: (H, W), or (D, H, W) for points of space.

    Returns:
        [N, K, d, *size], in pixels, in the order of the points' coordinates.

    Raises:
        ValueError: for points or sizes that do not fit.

    References:
        Siarohin, Lathuilière, Tulyakov, Ricci and Sebe, "First order motion model for image
        animation", 2019, eq. (4); Yan, "Deep generative models: design, improvements and
        applications", 2022, §4.3.3.

    Example:
        >>> import torch
        >>> from gencore.models import KeyPoints, key_point_flows
        >>> source, driving = torch.tensor([[[5.0, 2.0]]]), torch.tensor([[[3.0, 2.0]]])
        >>> flows = key_point_flows(KeyPoints(source), KeyPoints(driving), (4, 8))
        >>> flows.shape, flows[0, 0, :, 0, 0]  # what is at 5 comes to 3
        (torch.Size([1, 1, 2, 4, 8]), tensor([2., 0.]))
    """
    linear, constant = _displacements("key_point_flows", source, driving, size)
    flows = constant.view(*constant.shape, *[1] * len(size)).expand(*constant.shape, *size)
    return flows if linear is None else flows + (linear @ _grid(source, size)).unflatten(-1, size)


def blended_flow(masks: Tensor, source: KeyPoints, driving: KeyPoints) -> Tensor:
    r"""The displacement of every pixel as a mean of those of the key points.

    .. math:: \delta(q) = \sum_j W_j(q) \, \delta_j(q), \qquad \sum_{j=0}^K W_j(q) = 1

    with δ_0 = 0 for what does not move. It is the sum of :func:`key_point_flows` that are never
    made: their matrices and shifts are averaged for every pixel in their place.

    Args:
        masks: W [N, K + 1, H, W], or [N, K + 1, D, H, W]; the first is that of what stands still.
        source: p_s and A_s.
        driving: p_d and A_d.

    Returns:
        [N, d, *size].

    Raises:
        ValueError: for masks or points that do not fit.

    References:
        Siarohin et al., "First order motion model for image animation", 2019, eq. (6); Yan, "Deep
        generative models: design, improvements and applications", 2022, §4.3.3, where W has lost
        its index.

    Example:
        >>> import torch
        >>> from gencore.models import KeyPoints, blended_flow
        >>> still, moved = torch.tensor([[[5.0, 2.0]]]), torch.tensor([[[3.0, 2.0]]])
        >>> halves = torch.full((1, 2, 4, 8), 0.5)
        >>> blended_flow(halves, KeyPoints(still), KeyPoints(moved))[0, :, 0, 0]
        tensor([1., 0.])
    """
    size = masks.shape[2:]
    linear, constant = _displacements("blended_flow", source, driving, size)
    if list(masks.shape[:2]) != [constant.shape[0], constant.shape[1] + 1]:
        raise ValueError(
            f"blended_flow: masks have shape {list(masks.shape)}; expected "
            f"{[constant.shape[0], constant.shape[1] + 1, *size]} for {constant.shape[1]} key "
            "points and what stands still"
        )
    weights = masks[:, 1:].flatten(2)
    flow = constant.mT @ weights
    if linear is not None:
        matrices = (linear.flatten(2).mT @ weights).unflatten(1, linear.shape[2:])
        flow = flow + torch.einsum("nijp,jp->nip", matrices, _grid(source, size))
    return flow.unflatten(-1, size)


def key_point_heatmaps(
    source: KeyPoints, driving: KeyPoints, size: Sequence[int], *, variance: float
) -> Tensor:
    r"""Where key points are in the driving image, less where they are in the source.

    .. math:: h_j(q) = \exp(-\lVert q - p_{d,j} \rVert^2 / \sigma) - \exp(-\lVert q - p_{s,j}
              \rVert^2 / \sigma)

    Args:
        source: p_s.
        driving: p_d.
        size: (H, W) or (D, H, W).
        variance: σ > 0, in squared pixels.

    Returns:
        [N, K, *size].

    Raises:
        ValueError: for points, sizes or a variance that do not fit.

    References:
        Siarohin et al., "First order motion model for image animation", 2019, eq. (5); Yan, "Deep
        generative models: design, improvements and applications", 2022, §4.3.3, which lacks the
        signs of the exponents.

    Example:
        >>> import torch
        >>> from gencore.models import KeyPoints, key_point_heatmaps
        >>> source, driving = torch.tensor([[[5.0, 2.0]]]), torch.tensor([[[3.0, 2.0]]])
        >>> maps = key_point_heatmaps(KeyPoints(source), KeyPoints(driving), (4, 8), variance=0.1)
        >>> maps[0, 0, 2].round().int()
        tensor([ 0,  0,  0,  1,  0, -1,  0,  0], dtype=torch.int32)
    """
    owner = "key_point_heatmaps"
    if not finite(owner, "variance", variance) > 0:
        raise ValueError(f"{owner}: variance is {variance}; expected a positive number")
    _check_points(owner, source, driving, size)
    maps = []
    for points in (driving, source):
        # exp of a sum over axes is a product: each axis is made by itself.
        p = points.positions
        axes = [
            torch.exp(-((torch.arange(n, dtype=p.dtype, device=p.device) - q) ** 2) / variance)
            for n, q in zip(reversed(size), p[..., None].unbind(2), strict=True)
        ]
        product = axes[0]
        for axis in axes[1:]:
            product = axis.view(*axis.shape, *[1] * (product.ndim - 2)) * product.unsqueeze(2)
        maps.append(product)
    return maps[0] - maps[1]


def _displacements(
    owner: str, source: KeyPoints, driving: KeyPoints, size: Sequence[int]
) -> tuple[Tensor | None, Tensor]:
    """C [N, K, d, d] and c [N, K, d] of the displacements C q + c of places q."""
    _check_points(owner, source, driving, size)
    shift = source.positions - driving.positions
    if source.jacobians is None or driving.jacobians is None:
        return None, shift
    linear = torch.linalg.solve(source.jacobians, driving.jacobians - source.jacobians)
    return linear, shift - (linear @ driving.positions[..., None]).squeeze(-1)


def _grid(points: KeyPoints, size: Sequence[int]) -> Tensor:
    """The places of all pixels, [d, pixels], in the order of the points' coordinates."""
    p = points.positions
    axes = [torch.arange(n, dtype=p.dtype, device=p.device) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1]).flatten(1)


def _check_points(owner: str, source: KeyPoints, driving: KeyPoints, size: Sequence[int]) -> None:
    shape = list(driving.positions.shape)
    if len(shape) != 3 or shape[2] not in (2, 3) or list(source.positions.shape) != shape:
        raise ValueError(
            f"{owner}: key points have shapes {list(source.positions.shape)} and {shape}; "
            "expected [N, K, 2] or [N, K, 3], both alike"
        )
    if len(size) != shape[2]:
        raise ValueError(
            f"{owner}: size is {tuple(size)}; expected {shape[2]} sides for points of "
            f"{shape[2]} coordinates"
        )
    if (source.jacobians is None) != (driving.jacobians is None):
        raise ValueError(f"{owner}: one set of key points has Jacobians; expected both, or neither")
    for points in (source, driving):
        if points.jacobians is not None and list(points.jacobians.shape) != [*shape, shape[2]]:
            raise ValueError(
                f"{owner}: jacobians have shape {list(points.jacobians.shape)}; expected "
                f"{[*shape, shape[2]]}"
            )
