"""The first-order motion model: images animated by key points that are found without labels."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.models.faces.key_point_animator import Animation, KeyPointAnimator, image_distance
from gencore.models.faces.key_points import KeyPoints
from gencore.nn.evaluating import evaluating
from gencore.ops import affine_warp
from gencore.ops._support.checks import number

__all__ = ["EquivarianceLoss", "FirstOrderLoss", "FirstOrderMotion", "relative_key_points"]


class EquivarianceLoss(NamedTuple):
    """How far key points are from moving with the image, an entry an image."""

    position: Tensor
    """[N]: the mean distance along an axis, in pixels."""
    jacobian: Tensor
    """[N]: the mean error of an entry of the Jacobians; 0 if there are none."""


class FirstOrderLoss(NamedTuple):
    """The objective and its terms, an entry a pair of images."""

    loss: Tensor
    """[N]: what is minimised."""
    reconstruction: Tensor
    """[N]: the distance of the posed image from the driving one."""
    position: Tensor
    """[N]: of :class:`EquivarianceLoss`."""
    jacobian: Tensor
    """[N]: of :class:`EquivarianceLoss`."""


class FirstOrderMotion(nn.Module):
    r"""A detector of key points and a generator that follows them, trained on pairs of frames.

    .. math:: \hat V = G(I_s, L(I_s), L(V)), \qquad \min \lVert \hat V - V \rVert

    for a source frame I_s and a driving frame V of one film. In use the driving film may be
    anybody's.

    Args:
        detector: L, images → :class:`gencore.models.KeyPoints`, such as
            :class:`gencore.models.KeyPointDetector`.
        animator: G.
        distance: of images, [N, C, H, W] twice → [N]; the mean absolute difference if ``None``. The
            paper has a perceptual one (:class:`gencore.nn.PerceptualDistance`).

    References:
        Siarohin, Lathuilière, Tulyakov, Ricci and Sebe, "First order motion model for image
        animation", 2019; Yan, "Deep generative models: design, improvements and applications",
        2022, §4.3.3.

    Example:
        >>> import torch
        >>> from gencore.models import (
        ...     DenseMotionNetwork, FirstOrderMotion, ImageDecoder, KeyPointAnimator,
        ...     KeyPointDetector,
        ... )
        >>> model = FirstOrderMotion(
        ...     KeyPointDetector(3, widths=(8, 8)),
        ...     KeyPointAnimator(DenseMotionNetwork(3, widths=(8, 8)), ImageDecoder(widths=(8,))),
        ... )
        >>> source, film = torch.rand(1, 3, 16, 16), torch.rand(5, 3, 16, 16)
        >>> model(source.expand(5, -1, -1, -1), film).image.shape
        torch.Size([5, 3, 16, 16])
        >>> model.animate(source, film).shape
        torch.Size([5, 3, 16, 16])
    """

    def __init__(
        self,
        detector: nn.Module,
        animator: KeyPointAnimator,
        *,
        distance: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.detector, self.animator, self.distance = detector, animator, distance

    def forward(self, source: Tensor, driving: Tensor) -> Animation:
        """Source images [N, C, H, W], posed as driving images of the same shape.

        Raises:
            ValueError: for images of two shapes.
        """
        _check_alike(source, driving)
        animation: Animation = self.animator(source, self.detector(source), self.detector(driving))
        return animation

    @torch.no_grad()
    def animate(self, source: Tensor, film: Tensor, *, relative: bool = True) -> Tensor:
        """One image [1, C, H, W] that moves as a film [T, C, H, W] does: [T, C, H, W], by the model
        in evaluation mode.

        Args:
            relative: move from the source's own pose as the film moves from its first frame, for
                which source and first frame should be posed alike. Otherwise take the film's
                points as they are, and with them the shape of whoever is filmed.

        Raises:
            ValueError: for images that do not fit.
        """
        if source.ndim != 4 or len(source) != 1 or source.shape[1:] != film.shape[1:]:
            raise ValueError(
                f"FirstOrderMotion.animate: source has shape {list(source.shape)}, film "
                f"{list(film.shape)}; expected [1, C, H, W] and [T, C, H, W]"
            )
        count = len(film)
        with evaluating(self):
            points, driving = self.detector(source), self.detector(film)
            if relative:
                driving = relative_key_points(points, driving)
            frames: Tensor = self.animator(
                source.expand(count, -1, -1, -1), points.expanded(count), driving
            ).image
        return frames

    def loss(
        self, source: Tensor, driving: Tensor, matrix: Tensor, *, equivariance_weight: float = 0.1
    ) -> FirstOrderLoss:
        r"""The objective of pairs of frames of one film.

        .. math:: L = d(\hat V, V) + \lambda (L_p + L_A)

        with the two terms of :meth:`equivariance_loss` of the driving frames. Positions are in
        pixels, and so λ is smaller than the paper's 10 for an image from −1 to 1.

        Args:
            source: I_s [N, C, H, W].
            driving: V [N, C, H, W].
            matrix: of maps of the plane, [N, 2, 3].
            equivariance_weight: λ ≥ 0.

        Raises:
            ValueError: for a negative weight, and images that do not fit.
        """
        weight = number("FirstOrderMotion.loss", "equivariance_weight", equivariance_weight)
        _check_alike(source, driving)
        source_points, points = self.detector(source), self.detector(driving)
        image = self.animator(source, source_points, points).image
        reconstruction = image_distance(self.distance, image, driving)
        if not weight:
            zero = torch.zeros_like(reconstruction)
            return FirstOrderLoss(reconstruction, reconstruction, zero, zero)
        position, jacobian = self.equivariance_loss(driving, matrix, points)
        loss = reconstruction + weight * (position + jacobian)
        return FirstOrderLoss(loss, reconstruction, position, jacobian)

    def equivariance_loss(
        self, images: Tensor, matrix: Tensor, points: KeyPoints | None = None
    ) -> EquivarianceLoss:
        r"""How far key points are from moving with images that an affine map U moves.

        .. math:: Y = X \circ U, \qquad p_X = U(p_Y), \qquad A_X U' A_Y^{-1} = 1

        Without it nothing but the reconstruction ties a point to the same place of two faces.

        Args:
            images: X [N, C, H, W].
            matrix: U [N, 2, 3], as :func:`gencore.ops.affine_warp` takes it.
            points: of the images, where they are known.

        References:
            Siarohin et al., "First order motion model for image animation", 2019, §3.4.
        """
        height, width = images.shape[2:]
        center = matrix.new_tensor([(width - 1) / 2, (height - 1) / 2])
        points = self.detector(images) if points is None else points
        moved = self.detector(affine_warp(images, matrix, padding="border"))
        linear, shift = matrix[:, :, :2], matrix[:, :, 2]
        back = (moved.positions - center) @ linear.mT + (shift + center)[:, None]
        position = (points.positions - back).abs().mean((1, 2))
        if points.jacobians is None:
            return EquivarianceLoss(position, torch.zeros_like(position))
        # Of A_X U' A_Y⁻¹, solved from the right.
        product = torch.linalg.solve(
            moved.jacobians, points.jacobians @ linear[:, None], left=False
        )
        identity = torch.eye(2, dtype=product.dtype, device=product.device)
        return EquivarianceLoss(position, (product - identity).abs().mean((1, 2, 3)))


def _check_alike(source: Tensor, driving: Tensor) -> None:
    if source.shape != driving.shape:
        raise ValueError(
            f"FirstOrderMotion: source has shape {list(source.shape)}, driving "
            f"{list(driving.shape)}; expected images [N, C, H, W], both alike"
        )


def relative_key_points(source: KeyPoints, driving: KeyPoints) -> KeyPoints:
    r"""The source's points, moved as a film's points move from its first frame.

    .. math:: p_t = p_s + p_{d,t} - p_{d,0}, \qquad A_t = A_s A_{d,0}^{-1} A_{d,t}

    Args:
        source: p_s and A_s of one image.
        driving: p_d and A_d of T frames.

    References:
        Siarohin et al., "First order motion model for image animation", 2019, §3.4.

    Example:
        >>> import torch
        >>> from gencore.models import KeyPoints, relative_key_points
        >>> film = torch.tensor([[[7.0, 7.0]], [[9.0, 7.0]]])
        >>> relative_key_points(KeyPoints(torch.ones(1, 1, 2)), KeyPoints(film)).positions[:, 0]
        tensor([[1., 1.],
                [3., 1.]])
    """
    positions = source.positions + driving.positions - driving.positions[:1]
    if source.jacobians is None or driving.jacobians is None:
        return KeyPoints(positions)
    change = torch.linalg.solve(driving.jacobians[:1], driving.jacobians)
    return KeyPoints(positions, source.jacobians @ change)
