"""Images of an `AuxiliaryPixelCNN`: the auxiliary image, and then the pixels given it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gencore.compression.exact_arithmetic import exact_arithmetic, exact_copy
from gencore.compression.exact_context import session_given
from gencore.compression.session import ChainModel, Code

if TYPE_CHECKING:
    from gencore.models import AuxiliaryPixelCNN

__all__ = ["AuxiliaryPixelCNNModel"]


class AuxiliaryPixelCNNModel(ChainModel):
    r"""A PixelCNN of an auxiliary image y and one of the image given it, as a model that codes.

    An image takes :math:`-\log_2 p(y) - \log_2 p(x \mid y)` bits, with y its own.

    Args:
        model: whose networks can be compiled.

    Example:
        >>> import torch
        >>> from gencore.compression import AuxiliaryPixelCNNModel, compress, decompress
        >>> from gencore.models import AuxiliaryPixelCNN, DownSampledTarget, PixelCNN
        >>> target = DownSampledTarget((1, 4, 4), 2, levels=4)
        >>> auxiliary = PixelCNN((1, 2, 2), channels=4, num_layers=1, levels=4)
        >>> pixels = PixelCNN((1, 4, 4), 4, num_layers=1, levels=4, context_channels=1)
        >>> model = AuxiliaryPixelCNNModel(AuxiliaryPixelCNN(auxiliary, pixels, target))
        >>> x = torch.randint(4, (10, 1, 4, 4))
        >>> decompress(model, compress(model, x)).equal(x)
        True
    """

    def __init__(self, model: "AuxiliaryPixelCNN") -> None:
        self.model = model
        self.image_shape = model.primary.image_shape
        self.levels = model.primary.likelihood.levels

    def code(
        self, code: Code, num: int, x: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """The auxiliary images and the images; arguments as of `ChainModel`.

        Raises:
            ValueError: for a context, and for networks that cannot be compiled or be computed
                exactly.
        """
        if context is not None:
            raise ValueError("AuxiliaryPixelCNNModel: got a context; expected none")
        auxiliary = self.model.auxiliary
        y = None if x is None else self.model.numbers(self.model.target.target(x))
        y = code(session_given(auxiliary, num, None), (num, *auxiliary.image_shape), y)
        network = exact_copy(self.model)
        with exact_arithmetic("AuxiliaryPixelCNNModel"):
            maps = network.context(y.cpu())
        return code(session_given(self.model.primary, num, maps), (num, *self.image_shape), x)

    def state_dict(self) -> Mapping[str, Any]:
        """The model's weights."""
        return self.model.state_dict()
