"""Images of a model that knows their classes, which the stream says before them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gencore.compression.exact_context import session_given
from gencore.compression.exact_model import ExactModel
from gencore.compression.fixed_frequencies import uniform
from gencore.compression.session import ChainModel, Code

if TYPE_CHECKING:
    from gencore.models import AutoregressiveImageModel

__all__ = ["ClassConditionalModel"]


class ClassConditionalModel(ChainModel):
    r"""A class-conditional model that codes each image's class, and then the image given it.

    An image takes :math:`\log_2 K - \log_2 p(x \mid \text{class})` bits. Where the classes are not
    given, each image has the one that makes it the shortest, for which all K are tried. Whoever
    decompresses needs no classes.

    Args:
        model: a model of images given a context, or the `ExactModel` of one.
        contexts: what it is given for each class, float [K, ...].
        labels: the numbers that the classes are called by; 0, …, K − 1 by default.

    Attributes:
        labels: as given.

    Raises:
        ValueError: for no classes, or labels that are not as many as the contexts or not distinct.

    Example:
        >>> import torch
        >>> from gencore.compression import ClassConditionalModel, compress, decompress
        >>> from gencore.models import PixelCNN
        >>> network = PixelCNN((1, 3, 3), channels=4, num_layers=1, levels=4, context_channels=2)
        >>> model = ClassConditionalModel(network, torch.eye(2), labels=[3, 7])
        >>> x = torch.randint(4, (10, 1, 3, 3))
        >>> decompress(model, compress(model, x)).equal(x)
        True
        >>> data = compress(model, x, context=torch.full((10,), 7))
        >>> decompress(model, data).equal(x)
        True
    """

    def __init__(
        self,
        model: "AutoregressiveImageModel | ExactModel",
        contexts: Tensor,
        labels: Sequence[int] | None = None,
    ) -> None:
        self.model, self.contexts = model, contexts
        self.labels = list(range(len(contexts))) if labels is None else list(labels)
        if not len(contexts) or len(set(self.labels)) != len(contexts):
            raise ValueError(
                f"ClassConditionalModel: {len(contexts)} contexts have the labels {self.labels}; "
                "expected a label for each, of one class at least"
            )
        self.network: AutoregressiveImageModel = (
            model.model if isinstance(model, ExactModel) else model  # type: ignore[assignment]
        )
        self.image_shape = self.network.image_shape
        self.levels = self.network.likelihood.levels

    def code(
        self, code: Code, num: int, x: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """The numbers of the classes, if there are several, and then the images.

        Args:
            code, num, x: as of `ChainModel`.
            context: labels, int64 [num]; without them those that make the images the shortest.

        Raises:
            ValueError: for a label that no class has.
        """
        places = torch.zeros(num, dtype=torch.int64)
        if len(self.labels) > 1:
            if x is not None:
                places = self._shortest(x) if context is None else self._places(context)
            session = uniform(len(self.labels), 1)
            shape = (num, 1, 1, 1)
            given = None if x is None else places.view(shape)
            places = code(session, shape, given).flatten()
        context = self.contexts[places.to(self.contexts.device)]
        return code(session_given(self.model, num, context), (num, *self.image_shape), x)

    def state_dict(self) -> Mapping[str, Any]:
        """The model's weights, and its classes."""
        classes = {"contexts": self.contexts, "labels": torch.tensor(self.labels)}
        return {f"{type(self.network).__name__}.{k}": v for k, v in self.model.state_dict().items()
                } | classes  # fmt: skip

    def _places(self, labels: Tensor) -> Tensor:
        try:
            return torch.tensor([self.labels.index(label) for label in labels.tolist()])
        except ValueError:
            unknown = sorted(set(labels.tolist()).difference(self.labels))
            raise ValueError(
                f"ClassConditionalModel: there is no class {unknown[0]}; the classes are "
                f"{', '.join(map(str, self.labels))}"
            ) from None

    def _shortest(self, x: Tensor) -> Tensor:
        device = next(self.network.parameters()).device
        each = [
            self.network.log_prob(x.to(device), context.expand(len(x), *context.shape).to(device))
            for context in self.contexts
        ]
        return torch.stack(each).argmax(0).cpu()
