"""Weight normalisation whose norms and biases depend on the class (Lucas 2020, §5.6.1)."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gencore.nn.class_labels import check_labels
from gencore.sizes import check_positive

__all__ = ["ConditionalWeightNorm"]

_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class ConditionalWeightNorm(nn.Module):
    r"""A linear or convolutional layer whose filters have a norm and a bias for each class.

    .. math:: w_o(y) = g_o(y) \frac{v_o}{\lVert v_o \rVert}, \qquad
              h_{no} = g_o(y_n) \left(\frac{v_o}{\lVert v_o \rVert} * x_n\right) + b_o(y_n)

    All classes share the directions v. So one layer works on the whole batch, and then each data
    point's channels are scaled: nothing is computed a class. g(y) is a number of either sign, and
    the norm of the filter is its absolute value. The loss has no slope along v, ∇v ⟂ v, so that
    steps of plain gradient descent let ‖v‖ grow only.

    Nothing depends on the rest of the batch, which is why the source has it in the place of
    conditional batch normalisation for models that are trained by likelihood too.

    Args:
        layer: `torch.nn.Linear`, `Conv1d` to `Conv3d`, or `ConvTranspose1d` to `ConvTranspose3d`
            without groups. Its weight becomes v; every class starts with its norms and its bias,
            0 where it has none.
        num_classes: K.

    Shape:
        The layer's input [N, ...] and labels int64 [N] → the layer's output [N, O, ...]; for linear
        layers [N, ..., O].

    Raises:
        TypeError: for another kind of layer.
        ValueError: for no classes, a transposed convolution with groups, a filter of zeros, which
            has no direction; on a call, for labels that are not [N].
        IndexError: on a call, for a label that is no class.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, (5.8).
        Salimans and Kingma, "Weight normalization", 2016, (2) and (3).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gencore.nn import ConditionalWeightNorm
        >>> layer = ConditionalWeightNorm(nn.Conv2d(3, 8, 3, padding=1), num_classes=10)
        >>> layer(torch.zeros(2, 3, 5, 5), torch.tensor([0, 9])).shape
        torch.Size([2, 8, 5, 5])
    """

    def __init__(self, layer: nn.Module, num_classes: int) -> None:
        super().__init__()
        if not isinstance(layer, (*_LINEAR, *_TRANSPOSED)):
            raise TypeError(
                f"ConditionalWeightNorm: layer is {type(layer).__name__}; expected a linear layer, "
                "a convolution or a transposed convolution"
            )
        check_positive("ConditionalWeightNorm", num_classes=num_classes)
        transposed = isinstance(layer, _TRANSPOSED)
        if transposed and layer.groups != 1:
            raise ValueError(
                f"ConditionalWeightNorm: layer has {layer.groups} groups; expected 1 of a "
                "transposed convolution"
            )
        self.num_classes, self.channel_axis = num_classes, int(transposed)
        bias, layer.bias = layer.bias, None
        self.layer = layer
        norms = self._norms().detach()
        if not (norms > 0).all():
            raise ValueError(
                "ConditionalWeightNorm: the layer's weight has a filter of zeros; expected "
                "filters with a direction"
            )
        norms = norms.flatten()
        self.gain = nn.Parameter(norms.repeat(num_classes, 1))
        shift = torch.zeros_like(norms) if bias is None else bias.detach()
        self.bias = nn.Parameter(shift.repeat(num_classes, 1))

    def direction(self) -> Tensor:
        """v / ‖v‖, like the layer's weight: filters of norm 1."""
        return self.layer.weight / self._norms()

    def weight(self, label: int) -> Tensor:
        """w(y), the whole weight of one class, like the layer's."""
        shape = [1] * self.layer.weight.ndim
        shape[self.channel_axis] = -1
        return self.gain[label].view(shape) * self.direction()

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        check_labels("ConditionalWeightNorm", labels, len(x), self.num_classes)
        y: Tensor = functional_call(self.layer, {"weight": self.direction()}, (x,))
        gain, bias = self.gain[labels], self.bias[labels]
        if isinstance(self.layer, nn.Linear):
            shape = (len(x), *[1] * (y.ndim - 2), -1)
        else:
            shape = (len(x), -1, *[1] * (y.ndim - 2))
        return torch.addcmul(bias.view(shape), y, gain.view(shape))

    def _norms(self) -> Tensor:
        weight = self.layer.weight
        axes = [axis for axis in range(weight.ndim) if axis != self.channel_axis]
        return torch.linalg.vector_norm(weight, dim=axes, keepdim=True)

    def extra_repr(self) -> str:
        return f"num_classes={self.num_classes}"
