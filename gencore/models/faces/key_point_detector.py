"""A detector of key points that nobody has labelled."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gencore.models.faces.key_points import KeyPoints
from gencore.nn.networks.hourglass import Hourglass
from gencore.ops._support.checks import finite
from gencore.sizes import check_positive

__all__ = ["KeyPointDetector"]


class KeyPointDetector(nn.Module):
    r"""Key points as means of places under softmax maps of an hourglass, with their Jacobians.

    .. math:: p_j = \sum_q w_j(q) \, q, \qquad A_j = \sum_q w_j(q) \, a_j(q), \qquad
              w_j = \mathrm{softmax}_q(\ell_j / \tau)

    with maps ℓ and a of the last layer. The Jacobians of a new detector are the identity.

    Args:
        num_points: K.
        channels: of the images.
        widths: of the hourglass.
        has_jacobians: A too, and not p alone.
        temperature: τ > 0.

    Shape:
        Images [N, channels, H, W] → :class:`gencore.models.KeyPoints` of the plane, K of each.

    Raises:
        ValueError: for sizes or a temperature that are not positive.

    References:
        Siarohin, Lathuilière, Tulyakov, Ricci and Sebe, "First order motion model for image
        animation", 2019, §3.1; Yan, "Deep generative models: design, improvements and
        applications", 2022, §4.3.3.

    Example:
        >>> import torch
        >>> from gencore.models import KeyPointDetector
        >>> points = KeyPointDetector(5, widths=(8, 16))(torch.rand(2, 3, 16, 16))
        >>> points.positions.shape, points.jacobians.shape
        (torch.Size([2, 5, 2]), torch.Size([2, 5, 2, 2]))
    """

    def __init__(
        self,
        num_points: int,
        *,
        channels: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        has_jacobians: bool = True,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        owner = "KeyPointDetector"
        check_positive(owner, num_points=num_points, channels=channels)
        if not finite(owner, "temperature", temperature) > 0:
            raise ValueError(f"{owner}: temperature is {temperature}; expected a positive number")
        self.num_points, self.temperature = num_points, temperature
        self.hourglass = Hourglass(channels, widths)
        features = self.hourglass.out_channels
        self.maps = nn.Conv2d(features, num_points, 7, padding=3)
        self.jacobian_maps: nn.Conv2d | None = None
        if has_jacobians:
            self.jacobian_maps = nn.Conv2d(features, 4 * num_points, 7, padding=3)
            nn.init.zeros_(self.jacobian_maps.weight)
            assert self.jacobian_maps.bias is not None
            with torch.no_grad():
                self.jacobian_maps.bias.copy_(torch.eye(2).flatten().repeat(num_points))

    def forward(self, images: Tensor) -> KeyPoints:
        """The key points of images [N, channels, H, W]."""
        features = self.hourglass(images)
        weights = (self.maps(features) / self.temperature).flatten(2).softmax(2)
        height, width = images.shape[2:]
        columns = torch.arange(width, dtype=weights.dtype, device=weights.device)
        rows = torch.arange(height, dtype=weights.dtype, device=weights.device)
        plane = weights.unflatten(2, (height, width))
        positions = torch.stack([plane.sum(2) @ columns, plane.sum(3) @ rows], 2)
        if self.jacobian_maps is None:
            return KeyPoints(positions)
        entries = self.jacobian_maps(features).unflatten(1, (self.num_points, 4)).flatten(3)
        jacobians = (entries @ weights[..., None]).unflatten(2, (2, 2)).squeeze(-1)
        return KeyPoints(positions, jacobians)
