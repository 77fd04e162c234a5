"""Displacements found by descent: smooth, and such that warping makes the second image."""

import torch
from torch import Tensor

from gencore.inference import AdamState, LatentAdam, optimise_latents
from gencore.models.visual_cortex.simple_cells import SimpleCells
from gencore.ops import warp

__all__ = ["DisplacementObjective", "descend_displacements"]


class DisplacementObjective:
    r"""What displacements of pairs of images cost, for given cells:

    .. math:: \sum_x L_{1,x}(\delta(x)) + \lambda \lVert\nabla\delta\rVert^2
              + \mu \lVert I_{t+1} - \omega(I_t, \delta) \rVert^2  \qquad (6.11)

    With μ = 0 that is the inference of §6.3.2. ∇δ are differences between neighbouring patches. ω
    is :func:`gencore.ops.warp` by the field that is bilinear between patches; its squares are
    summed between the outermost patches' middles, for what moves in at the border is not known.

    The last term is what ties the matrices to true displacements. Without it, all of δ could be
    any function of the true ones.

    Args:
        cells: W and M, of :class:`TaylorMotion` or another motion that is differentiable in δ.
        first: I_t, [N, C, H, W].
        second: I_{t+1}.
        smoothness: λ, 0 or more.
        warping: μ, 0 or more.

    Shape:
        δ at the patches in the image, [N, 2, h, w] → costs [N].

    Raises:
        ValueError: a weight is negative, or images differ in shape.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §6.3.2 and §6.3.3, which gives no weights.

    Example:
        >>> import torch
        >>> from gencore.models import DisplacementObjective, SimpleCells, TaylorMotion, TightFrame
        >>> cells = SimpleCells(TightFrame(16, 2, patch_size=8, stride=4), TaylorMotion(16, 2))
        >>> x = torch.rand(3, 1, 24, 24)
        >>> DisplacementObjective(cells, x, x)(torch.zeros(3, 2, 5, 5))   # nothing moved
        tensor([0., 0., 0.], grad_fn=<AddBackward0>)
    """

    def __init__(
        self,
        cells: SimpleCells,
        first: Tensor,
        second: Tensor,
        *,
        smoothness: float = 1.0,
        warping: float = 1.0,
    ) -> None:
        if first.shape != second.shape:
            raise ValueError(
                f"DisplacementObjective: first has shape {list(first.shape)} and second "
                f"{list(second.shape)}; they must be equal"
            )
        if not (smoothness >= 0 and warping >= 0):
            raise ValueError(
                f"DisplacementObjective: smoothness is {smoothness} and warping {warping}; "
                "expected 0 or more"
            )
        self.cells, self.first, self.second = cells, first, second
        self.smoothness, self.warping = smoothness, warping
        with torch.no_grad():
            self._context = cells.context(first)
            self._following = cells.frame.interior(cells.frame(second))

    def __call__(self, displacement: Tensor) -> Tensor:
        """The costs of displacements."""
        error = self._following - self.cells.predict(self._context, displacement)
        costs = error.square().flatten(1).sum(1)
        for axis in (2, 3):
            change = displacement.diff(dim=axis).square().flatten(1).sum(1)
            costs = costs + self.smoothness * change
        if self.warping:
            costs = costs + self.warping * self._warping_error(displacement)
        return costs

    def _warping_error(self, displacement: Tensor) -> Tensor:
        height, width = self.first.shape[2:]
        frame = self.cells.frame
        field = frame.to_pixels(displacement, height, width)
        error = self.second - warp(self.first, field, padding="border")
        margin = frame.patch_size // 2
        inner = error[..., margin : height - margin, margin : width - margin]
        return inner.square().flatten(1).sum(1)


def descend_displacements(
    objective: DisplacementObjective,
    start: Tensor,
    *,
    num_steps: int = 20,
    optimizer: LatentAdam | None = None,
    state: AdamState | None = None,
) -> Tensor:
    """Find displacements by gradient descent on the objective, all pairs at once.

    Args:
        objective: what they cost.
        start: first displacements [N, 2, h, w]: small random ones, or those of an earlier visit.
        num_steps: of Adam.
        optimizer: Adam of learning rate 0.1 pixels if None.
        state: of Adam, from earlier steps.

    Returns:
        [N, 2, h, w], without a graph.

    Raises:
        TypeError, ValueError: as :func:`gencore.inference.optimise_latents`.

    Example:
        >>> import torch
        >>> from gencore.models import DisplacementObjective, SimpleCells, TaylorMotion, TightFrame
        >>> cells = SimpleCells(TightFrame(16, 2, patch_size=8, stride=4), TaylorMotion(16, 2))
        >>> x = torch.rand(1, 1, 24, 24)
        >>> objective = DisplacementObjective(cells, x, x)
        >>> descend_displacements(objective, torch.zeros(1, 2, 5, 5)).abs().max()
        tensor(0.)
    """
    return optimise_latents(
        objective, start, num_steps=num_steps, optimizer=optimizer, state=state
    )[0]
