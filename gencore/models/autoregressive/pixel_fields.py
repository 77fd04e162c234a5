"""Which pixels the conditional distribution of a pixel sees."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from gencore.models.autoregressive.image_model import AutoregressiveImageModel
from gencore.nn import PixelInput

__all__ = ["receptive_field"]


def receptive_field(
    model: AutoregressiveImageModel,
    pixel: tuple[int, int],
    context: Tensor | None = None,
    *,
    num_images: int = 8,
) -> Tensor:
    r"""The pixels q whose levels have a part in the parameters θ of a pixel p.

    .. math:: \{ q : \partial \theta(p) / \partial x(q) \neq 0 \}

    The derivatives are those of a random combination of θ(p), at random images, in float64; none
    is lost to rounding. The blind spot of a model is what is missing among the earlier pixels.
    The pixel itself is among them where its channels see each other.

    Args:
        model: a network that reads levels by `PixelInput`.
        pixel: row and column of p.
        context: [1, …] of a conditional model.
        num_images: at a single image a ReLU could hide a pixel.

    Returns:
        Bool [H, W].

    Raises:
        ValueError: for a pixel outside of the image, or a model without `PixelInput`.

    References:
        Van den Oord et al., "Conditional image generation with PixelCNN decoders", 2016, figure 1.

    Example:
        >>> from gencore.models import PixelCNN, receptive_field
        >>> model = PixelCNN((1, 3, 7), channels=4, num_layers=2, levels=2, first_kernel_size=3)
        >>> receptive_field(model, (2, 2)).int()
        tensor([[1, 1, 1, 1, 1, 0, 0],
                [1, 1, 1, 1, 0, 0, 0],
                [1, 1, 0, 0, 0, 0, 0]], dtype=torch.int32)
    """
    row, column = pixel
    channels, height, width = model.image_shape
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(
            f"receptive_field: pixel is {pixel}; expected a row below {height} and a column below "
            f"{width}"
        )
    if num_images < 1:
        raise ValueError(f"receptive_field: num_images is {num_images}; expected at least 1")
    copy = deepcopy(model).double().eval().requires_grad_(False)
    inputs = [module for module in copy.modules() if isinstance(module, PixelInput)]
    if not inputs:
        raise ValueError(f"receptive_field: {type(model).__name__} has no PixelInput")
    read: list[Tensor] = []

    def remember(module: nn.Module, _: object, y: Tensor) -> Tensor:
        assert isinstance(module, PixelInput)
        pixels, border = y.tensor_split([module.out_channels - module.border], 1)
        read.append(pixels.detach().requires_grad_())
        return torch.cat([read[-1], border], 1)

    for module in inputs:
        module.register_forward_hook(remember)
    device = next(copy.parameters()).device
    generator = torch.Generator().manual_seed(0)
    shape = (num_images, channels, height, width)
    x = torch.randint(copy.likelihood.levels, shape, generator=generator).to(device)
    if context is not None:
        context = context.to(device, torch.float64).expand(num_images, *context.shape[1:])
    with torch.enable_grad():
        parameters = copy(x, context)[:, :, row, column]
        direction = torch.randn(parameters.shape, generator=generator, dtype=torch.float64)
        total = (parameters * direction.to(device)).sum()
        gradients = torch.autograd.grad(total, read, allow_unused=True)
    seen = torch.zeros(height, width, dtype=torch.bool, device=device)
    for gradient in gradients:
        if gradient is not None:
            seen |= (gradient != 0).any(0).any(0)
    return seen
