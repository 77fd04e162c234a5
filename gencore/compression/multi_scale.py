"""Images of a `MultiScalePixelRNN`: the small image, and then the pixels that it has not."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gencore.compression.exact_arithmetic import exact_arithmetic, exact_copy
from gencore.compression.exact_context import session_given
from gencore.compression.exact_model import ExactModel
from gencore.compression.exact_sessions import ImageSession
from gencore.compression.session import ChainModel, Code

if TYPE_CHECKING:
    from gencore.models import MultiScalePixelRNN

__all__ = ["MultiScaleModel"]


class MultiScaleModel(ChainModel):
    r"""A multi-scale PixelRNN as a model that codes, by exact arithmetic as `ExactModel`.

    .. math:: -\log_2 p(x) = -\log_2 p_{\text{small}}(x_S)
              - \sum_{i \notin S} \log_2 p(x_i \mid x_{<i}, u(x_S))

    Args:
        model: with `Categorical` likelihoods. A small model that is compiled, a `PixelCNN` say,
            codes as it does elsewhere.

    Raises:
        ValueError: for another likelihood.

    Example:
        >>> import torch
        >>> from gencore.compression import MultiScaleModel, compress, decompress
        >>> from gencore.models import MultiScalePixelRNN
        >>> model = MultiScaleModel(MultiScalePixelRNN((1, 4, 4), 4, num_layers=1, levels=4))
        >>> x = torch.randint(4, (10, 1, 4, 4))
        >>> decompress(model, compress(model, x)).equal(x)
        True
    """

    def __init__(self, model: "MultiScalePixelRNN") -> None:
        from gencore.models import MultiScalePixelRNN, PixelRNN

        self.model = model
        self.image_shape = model.image_shape
        self.levels = ExactModel(model.large).levels
        small = model.small
        self.small = (
            MultiScaleModel(small) if isinstance(small, MultiScalePixelRNN)
            else ExactModel(small) if isinstance(small, PixelRNN)
            else small
        )  # fmt: skip

    def code(
        self, code: Code, num: int, x: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """The small images, and then the other pixels; arguments as of `ChainModel`.

        Raises:
            ValueError: for a context.
        """
        if context is not None:
            raise ValueError("MultiScaleModel: got a context; expected none")
        small = None if x is None else self.model.subsample(x)
        if isinstance(self.small, MultiScaleModel):
            small = self.small.code(code, num, small)
        else:
            shape = (num, *self.small.image_shape)
            small = code(session_given(self.small, num, None), shape, small)
        start = torch.full((num, *self.image_shape), -1, device=small.device)
        self.model.subsample(start).copy_(small)
        upsampling, large = exact_copy(self.model.upsampling), exact_copy(self.model.large)
        with exact_arithmetic("MultiScaleModel"):
            features = upsampling(small.cpu())
        return code(ImageSession(large, features), tuple(start.shape), x, start)

    def state_dict(self) -> Mapping[str, Any]:
        """The model's weights."""
        return self.model.state_dict()
