"""The discriminator of pairs of a data point and its label, which look-up tables condition."""

from collections.abc import Sequence

from torch import Tensor, nn

from gencore.nn.look_up_add import LookUpAdd
from gencore.sizes import check_positive

__all__ = ["LookUpDiscriminator"]


class LookUpDiscriminator(nn.Module):
    """One logit of how real a data point looks, given its label.

    The label's maps are added to the features of each layer, which :class:`LookUpAdd` does. Layers
    are 5×5 convolutions of stride 2 for images, whose tables all have maps of the coarsest sides,
    and linear for vectors; leaky ReLU of slope 0.2 follows each. The maps of the last layer only
    shift the logit of a label: it takes two layers for data and labels to interact. The thesis'
    network normalises over the batch besides; this one does not.

    Args:
        shape: of the data, [C, H, W] with sides that are multiples of 2^widths, or [D].
        num_labels: of the table at each layer, or of each of several independent tables, one a
            kind of label; all widths are multiples of their number then.
        widths: channels, or units, of each layer.

    Shape:
        [N, *shape] and labels int64 [N], or [N, K] → [N].

    Raises:
        ValueError: for sizes that do not fit.

    References:
        Mathieu, "Unsupervised learning under uncertainty", 2017, table 5.1.

    Example:
        >>> import torch
        >>> from gencore.nn import LookUpDiscriminator
        >>> discriminator = LookUpDiscriminator((1, 16, 16), 10, widths=(4, 8))
        >>> discriminator(torch.zeros(3, 1, 16, 16), torch.tensor([0, 1, 9])).shape
        torch.Size([3])
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_labels: int | Sequence[int],
        *,
        widths: Sequence[int] = (16, 32, 64),
    ) -> None:
        super().__init__()
        name, factor = "LookUpDiscriminator", 2 ** len(widths)
        if not widths or len(shape) not in (1, 3) or any(side % factor for side in shape[1:]):
            raise ValueError(
                f"{name}: shape is {tuple(shape)} and widths {tuple(widths)}; expected [D], or "
                f"[C, H, W] with sides that are multiples of {factor}, and at least one width"
            )
        check_positive(name, least_size=min(shape), least_width=min(widths))
        coarse = [side // factor for side in shape[1:]]
        self.layers, self.look_ups = nn.ModuleList(), nn.ModuleList()
        before = shape[0]
        for width in widths:
            linear = nn.Conv2d(before, width, 5, 2, 2) if coarse else nn.Linear(before, width)
            self.layers.append(nn.Sequential(linear, nn.LeakyReLU(0.2)))
            self.look_ups.append(LookUpAdd(num_labels, (width, *coarse)))
            before = width
        values = before * (coarse[0] * coarse[1] if coarse else 1)
        self.last = nn.Linear(values, 1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        for layer, look_up in zip(self.layers, self.look_ups, strict=True):
            x = look_up(layer(x), labels)
        logits: Tensor = self.last(x.flatten(1))
        return logits.squeeze(1)
