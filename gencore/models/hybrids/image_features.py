"""The bijection from images to features of their shape, which autoencoders model."""

from collections.abc import Sequence

import torch
from torch import Size, Tensor

from gencore.models.flows.real_nvp import RealNVP
from gencore.nn import MultiScale, Squeeze, Transform

__all__ = ["ImageFeatures"]


class ImageFeatures(Transform):
    """f_ψ, a Real NVP whose features are laid out as an image again.

    Real NVP gives the scales' latents one after another. Here each scale's lie where they came
    from: the halves of a scale are joined, and their channels spread over the positions that they
    were gathered from. So a convolutional encoder sees neighbours as neighbours, and a decoder
    makes an image, at any number of scales.

    Args:
        image_shape: [C, H, W], with H and W multiples of 2^(num_scales − 1).
        num_scales: scales.
        num_couplings: couplings of the last scale; each further scale has six.
        hidden_channels: of the first scale's residual networks; doubled at each further scale.
        num_blocks: residual blocks a network.
        batch_norm: batch normalisation in the networks. The inverse undoes the forward map in
            evaluation mode alone then.

    Raises:
        ValueError: as `RealNVP`, and on a call for data or features of another shape.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §5.7, A.2:
        three couplings of two residual blocks, at one scale.

    Example:
        >>> import torch
        >>> from gencore.models import ImageFeatures
        >>> f = ImageFeatures((1, 8, 8), num_scales=2, hidden_channels=4).eval()
        >>> x = torch.rand(5, 1, 8, 8)
        >>> y, log_det = f(x)
        >>> y.shape, torch.allclose(f.inverse(y)[0], x, atol=1e-5)
        (torch.Size([5, 1, 8, 8]), True)
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        num_scales: int = 1,
        num_couplings: int = 3,
        hidden_channels: int = 32,
        num_blocks: int = 2,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        flow = RealNVP(
            image_shape,
            num_scales=num_scales,
            last_couplings=num_couplings,
            hidden_channels=hidden_channels,
            num_blocks=num_blocks,
            batch_norm=batch_norm,
        )
        assert isinstance(flow.transform, MultiScale)
        self.image_shape = Size(image_shape)
        self.scales = flow.transform
        self._squeeze = Squeeze()

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self._check("data", x)
        z, log_det = self.scales(x, context)
        parts = z.split([part.numel() for part in self._parts], 1)
        images = [part.unflatten(1, shape) for part, shape in zip(parts, self._parts, strict=True)]
        y = images.pop()
        while images:
            y = self._squeeze.inverse(torch.cat([y, images.pop()], 1))[0]
        return y, log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self._check("features", z)
        parts = []
        for shape in self.scales.shapes[:-1]:
            z = self._squeeze(z)[0]
            z, leaving = z.split([shape[0] - shape[0] // 2, shape[0] // 2], 1)
            parts.append(leaving.flatten(1))
        latents = torch.cat([*parts, z.flatten(1)], 1)
        return self.scales.inverse(latents, context)

    @property
    def _parts(self) -> list[Size]:
        """Shapes of the latents of each scale, the first first."""
        leaving = [Size((shape[0] // 2, *shape[1:])) for shape in self.scales.shapes[:-1]]
        return [*leaving, self.scales.shapes[-1]]

    def _check(self, name: str, x: Tensor) -> None:
        if x.shape[1:] != self.image_shape:
            raise ValueError(
                f"ImageFeatures: {name} have shape {list(x.shape)}; expected "
                f"[N, {', '.join(map(str, self.image_shape))}]"
            )
