"""Representations of patches that tell where one patch lies as seen from another."""

import torch
from torch import Tensor, nn

from gencore.models.representations.patch_pairs import POSITIONS
from gencore.sizes import check_positive

__all__ = ["RelativePatches", "patch_encoder"]


class RelativePatches(nn.Module):
    """A siamese network that guesses which of eight neighbours one patch is of another.

    Both patches go through the same encoder; two layers see the codes side by side and give the
    logits of the eight positions. To tell where an ear is from where an eye is, the encoder has to
    know what ears and eyes are. Train with the cross-entropy of `draw_patch_pairs`.

    Args:
        encoder: patches [N, C, P, P] → codes [N, code_size].
        code_size: numbers of a code.
        hidden_size: units of the layer between the codes and the logits.

    Raises:
        ValueError: a size is below 1.

    References:
        Doersch, Gupta and Efros, "Unsupervised visual representation learning by context
        prediction", 2015, figure 3, whose encoder is an AlexNet for patches of 96 pixels; Bruna,
        "Inference and representation", lecture 11.

    Example:
        >>> import torch
        >>> from gencore.models import RelativePatches, draw_patch_pairs, patch_encoder
        >>> model = RelativePatches(patch_encoder((3, 16, 16), 32), 32)
        >>> pairs = draw_patch_pairs(torch.rand(4, 3, 64, 64), patch_size=16, gap=8, jitter=2)
        >>> model(pairs.first, pairs.second).shape
        torch.Size([4, 8])
        >>> model.encode(pairs.first).shape
        torch.Size([4, 32])
    """

    def __init__(self, encoder: nn.Module, code_size: int, *, hidden_size: int = 128) -> None:
        super().__init__()
        check_positive("RelativePatches", code_size=code_size, hidden_size=hidden_size)
        self.encoder = encoder
        self.head = nn.Sequential(
            nn.Linear(2 * code_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, len(POSITIONS)),
        )

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Logits [N, 8] of where the second patches are, as `PatchPairs.position` has it, of
        patches [N, C, P, P] each."""
        # One pass for both: batch norm, if the encoder has it, then sees them alike.
        codes = self.encode(torch.cat([first, second]))
        logits: Tensor = self.head(torch.cat(codes.chunk(2), 1))
        return logits

    def encode(self, patches: Tensor) -> Tensor:
        """The codes of patches [N, C, P, P], [N, code_size]."""
        codes: Tensor = self.encoder(patches)
        return codes


def patch_encoder(
    patch_shape: tuple[int, int, int], code_size: int, *, channels: int = 32
) -> nn.Module:
    """Three 3×3 convolutions, of which each but the first halves the sides, and a linear layer.

    Args:
        patch_shape: [C, P, P], sides that 4 divides.
        code_size: numbers of a code.
        channels: of the first convolution, a multiple of 8; twice and four times as many follow.

    Raises:
        ValueError: a size does not fit.

    Example:
        >>> patch_encoder((3, 16, 16), 32)(torch.zeros(1, 3, 16, 16)).shape
        torch.Size([1, 32])
    """
    check_positive("patch_encoder", code_size=code_size, channels=channels)
    if channels % 8 or len(patch_shape) != 3 or any(side % 4 for side in patch_shape[1:]):
        raise ValueError(
            f"patch_encoder: channels is {channels} and patch_shape {tuple(patch_shape)}; expected "
            "a multiple of 8, and [C, P, P] with sides that 4 divides"
        )
    in_channels, height, width = patch_shape
    layers: list[nn.Module] = []
    for out_channels, stride in ((channels, 1), (2 * channels, 2), (4 * channels, 2)):
        layers += [
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1),
            nn.GroupNorm(8, out_channels),
            nn.ReLU(),
        ]
        in_channels = out_channels
    size = in_channels * (height // 4) * (width // 4)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, code_size), nn.ReLU())
