"""The distance of images in the features of a network that is not trained."""

from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor, nn

__all__ = ["PerceptualDistance"]

T = TypeVar("T", bound="PerceptualDistance")


class PerceptualDistance(nn.Module):
    r"""The mean absolute difference of two images in pixels, and in features at several depths.

    .. math:: d(x, y) = \frac{\lVert x - y \rVert_1}{D_0} +
              \sum_{l = 1}^{K} \frac{\lVert \phi_l(x) - \phi_l(y) \rVert_1}{D_l},
              \qquad \phi_l = f_l \circ \dots \circ f_1

    D_l is the number of the features φ_l. The network is frozen: its weights require no gradients
    and it stays in evaluation whatever `train` is told. Gradients reach the images.

    Args:
        stages: f₁, …, f_K, applied one after another; between them features are compared.

    Shape:
        two [N, ...] → [N].

    Raises:
        ValueError: for no stages, and on a call for images of different shapes.

    References:
        Hoshen, Li and Malik, "Non-Adversarial Image Synthesis with Generative Latent Nearest
        Neighbors", 2019, with features of VGG. Yan, "Deep Generative Models: Design, Improvements
        and Applications", 2022, §3.2.4.

    Example:
        >>> import torch
        >>> from gencore.nn import PerceptualDistance
        >>> stages = torch.nn.Conv2d(1, 4, 3), torch.nn.Sequential(torch.nn.ReLU())
        >>> distance, x = PerceptualDistance(stages), torch.rand(5, 1, 8, 8)
        >>> distance(x, x)
        tensor([0., 0., 0., 0., 0.])
    """

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        if not len(stages):
            raise ValueError("PerceptualDistance: stages is empty; expected at least one")
        self.stages = nn.ModuleList(stages).requires_grad_(False).eval()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances [N] of images [N, ...] from others of the same shape."""
        if x.shape != y.shape:
            raise ValueError(
                f"PerceptualDistance: x has shape {list(x.shape)} and y {list(y.shape)}; expected "
                "the same"
            )
        distance = _mean_difference(x, y)
        for stage in self.stages:
            x, y = stage(x), stage(y)
            distance = distance + _mean_difference(x, y)
        return distance

    def train(self: T, mode: bool = True) -> T:
        """Does nothing to the stages."""
        super().train(mode)
        self.stages.eval()
        return self


def _mean_difference(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).abs().flatten(1).mean(1)
