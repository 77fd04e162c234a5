"""Reenactment by given landmarks, which a network corrects for each image."""

from typing import NamedTuple

from torch import Tensor, nn

from gencore.models.faces.key_point_animator import Animation, KeyPointAnimator, image_distance
from gencore.models.faces.key_points import KeyPoints
from gencore.ops._support.checks import number

__all__ = ["DeltaAnimation", "DeltaMotion", "DeltaMotionLoss"]


class DeltaAnimation(NamedTuple):
    """An image that moves, and the corrections of its landmarks and of those that drive it."""

    animation: Animation
    """The image V̂ and its motion."""
    source_delta: Tensor
    """δ_s: [N, K, d], in pixels."""
    driving_delta: Tensor
    """δ_d: [N, K, d]."""


class DeltaMotionLoss(NamedTuple):
    """The objective and its two terms, an entry an image."""

    loss: Tensor
    """[N]: what is minimised (4.9)."""
    reconstruction: Tensor
    """[N]: the distance of V̂ from V."""
    delta: Tensor
    """[N]: ‖δ_s‖₁ + ‖δ_d‖₁."""


class DeltaMotion(nn.Module):
    r"""A generator driven by landmarks q of a detector, each moved a little by a network D.

    .. math:: p_s = q_s + D(I_s), \quad p_d = q_d + D(V), \qquad \hat V = G(I_s, p_s, p_d)

    The landmarks are those of a detector that has been trained with labels, or of a morphable
    model; each pair is a pure shift. With the corrections off it is the supervised model.

    .. math:: L = \lVert V - \hat V \rVert + \lambda (\lVert \delta_s \rVert_1 + \lVert \delta_d
              \rVert_1) \qquad (4.9)

    Without the second term p may be anywhere: what drives the image is no longer the landmarks.

    Args:
        delta_network: D, images → [N, K · d], such as
            :class:`gencore.nn.BottleneckRegressor`, whose corrections are zero at first.
        animator: G, of K points.
        distance: of images, [N, C, H, W] twice → [N]; the mean absolute difference if ``None``. The
            source has a perceptual one (:class:`gencore.nn.PerceptualDistance`).

    References:
        Yan, "Deep generative models: design, improvements and applications", 2022, §4.3.5.

    Example:
        >>> import torch
        >>> from gencore.models import DeltaMotion, DenseMotionNetwork, KeyPointAnimator
        >>> from gencore.nn import BottleneckRegressor, VolumeDecoder, VolumeEncoder
        >>> small = {"depth": 4, "width": 8, "num_blocks": 1}
        >>> animator = KeyPointAnimator(
        ...     DenseMotionNetwork(5, channels=4, widths=(8, 8), depth=4),
        ...     VolumeDecoder(3, in_channels=4, **small),
        ...     VolumeEncoder(3, out_channels=4, **small),
        ... )
        >>> model = DeltaMotion(BottleneckRegressor(15, width=16, num_blocks=(1,)), animator)
        >>> images, landmarks = torch.rand(2, 3, 16, 16), 16 * torch.rand(2, 5, 3)
        >>> model.loss(images, landmarks, images.flip(0), landmarks.flip(0)).loss.shape
        torch.Size([2])
    """

    def __init__(
        self,
        delta_network: nn.Module,
        animator: KeyPointAnimator,
        *,
        distance: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.delta_network, self.animator, self.distance = delta_network, animator, distance

    def forward(
        self,
        source: Tensor,
        source_landmarks: Tensor,
        driving: Tensor,
        driving_landmarks: Tensor,
    ) -> DeltaAnimation:
        """Source images, posed as driving images, with corrections of both.

        Args:
            source: I_s [N, C, H, W].
            source_landmarks: q_s [N, K, d], d of 2 or 3, in pixels to the right, down and deeper.
            driving: V [N, C, H, W].
            driving_landmarks: q_d [N, K, d].

        Raises:
            ValueError: for corrections that do not fit the landmarks.
        """
        source_delta = self.delta(source, source_landmarks)
        driving_delta = self.delta(driving, driving_landmarks)
        animation = self.animate(
            source, source_landmarks + source_delta, driving_landmarks + driving_delta
        )
        return DeltaAnimation(animation, source_delta, driving_delta)

    def animate(self, source: Tensor, source_points: Tensor, driving_points: Tensor) -> Animation:
        """Source images driven by points as they are: those of a morphable model, of landmarks with
        :meth:`delta` added, or, without it, the supervised model."""
        animation: Animation = self.animator(
            source, KeyPoints(source_points), KeyPoints(driving_points)
        )
        return animation

    def delta(self, images: Tensor, landmarks: Tensor) -> Tensor:
        """δ of images, like their landmarks."""
        delta: Tensor = self.delta_network(images)
        if delta.shape[1:].numel() != landmarks.shape[1:].numel():
            raise ValueError(
                f"DeltaMotion: delta_network makes {list(delta.shape)}; expected "
                f"{[len(landmarks), landmarks.shape[1:].numel()]} for landmarks of shape "
                f"{list(landmarks.shape)}"
            )
        return delta.view(landmarks.shape)

    def loss(
        self,
        source: Tensor,
        source_landmarks: Tensor,
        driving: Tensor,
        driving_landmarks: Tensor,
        *,
        delta_weight: float = 0.01,
    ) -> DeltaMotionLoss:
        """The objective (4.9) of pairs of frames of one film.

        Args:
            source, source_landmarks, driving, driving_landmarks: as above.
            delta_weight: λ ≥ 0, which the source does not tell.

        Raises:
            ValueError: for a negative weight, and what does not fit.
        """
        weight = number("DeltaMotion.loss", "delta_weight", delta_weight)
        found = self(source, source_landmarks, driving, driving_landmarks)
        reconstruction = image_distance(self.distance, found.animation.image, driving)
        delta = sum(d.abs().sum((1, 2)) for d in (found.source_delta, found.driving_delta))
        return DeltaMotionLoss(reconstruction + weight * delta, reconstruction, delta)
