"""Models whose networks run whole for each value, by exact arithmetic: any of them can code."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gencore.compression.exact_arithmetic import exact_copy, to_grid
from gencore.compression.exact_sessions import ImageSession, VectorSession, VectorSteps
from gencore.compression.session import LevelFrequencies

__all__ = ["ExactModel"]


class ExactModel:
    """An autoregressive model as one that codes, without a compiled plan of its network.

    Its weights are rounded to multiples of 2⁻¹⁶, and its network runs in float64 without rounding
    (:mod:`gencore.compression.exact_arithmetic`), so that its frequencies have the same bits on
    every machine. They differ from those of the model by rounding alone, some millionths of a bit a
    value. To decode, the network of a model of images runs once for each pixel, or each value where
    channels depend on each other: for small images, or where nothing faster is to be had.

    Args:
        model: an `AutoregressiveImageModel` with a `Categorical` likelihood; or an
            `AutoregressiveVectorModel`, in the order in which its coordinates come.
        image_shape: [1, H, W] of the images whose pixels in raster order are the vectors of a model
            of vectors.

    Attributes:
        model: as given.
        image_shape: [C, H, W].
        levels: of each value.

    Raises:
        ValueError: for another model, or one of another likelihood, shape or order.

    Example:
        >>> import torch
        >>> from gencore.compression import compress, decompress
        >>> from gencore.models import PixelCNN
        >>> model = ExactModel(PixelCNN((1, 3, 3), channels=4, num_layers=1, levels=4))
        >>> x = torch.randint(4, (10, 1, 3, 3))
        >>> decompress(model, compress(model, x)).equal(x)
        True
    """

    def __init__(self, model: nn.Module, image_shape: tuple[int, int, int] | None = None) -> None:
        self.model = model
        self.image_shape: tuple[int, int, int]
        self.is_vector = hasattr(model, "steps") and hasattr(model, "order")
        if self.is_vector:
            self.image_shape = _shape_of_vectors(model, image_shape)  # type: ignore[arg-type]
            self.levels = int(model.levels)  # type: ignore[arg-type]
        else:
            from gencore.models import AutoregressiveImageModel
            from gencore.nn import Categorical

            likelihood, base = getattr(model, "likelihood", None), AutoregressiveImageModel
            if not isinstance(model, base) or type(model).log_prob is not base.log_prob:
                raise ValueError(
                    f"ExactModel: {type(model).__name__} is no product of distributions in raster "
                    "order; expected an AutoregressiveImageModel or AutoregressiveVectorModel"
                )
            if not isinstance(likelihood, Categorical):
                raise ValueError(
                    f"ExactModel: {type(model).__name__} has the likelihood "
                    f"{type(likelihood).__name__}; expected Categorical"
                )
            self.image_shape = model.image_shape
            self.levels = likelihood.levels

    def coding_session(self, num: int, context: Tensor | None = None) -> LevelFrequencies:
        """A session for `num` images.

        Raises:
            ValueError: for a context of a model of vectors.
        """
        network = exact_copy(self.model)
        if not self.is_vector:
            return ImageSession(
                network, None if context is None else to_grid(context.cpu().double())
            )
        if context is not None:
            raise ValueError("ExactModel: a model of vectors takes no context")
        return VectorSession(network)  # type: ignore[arg-type]

    def state_dict(self) -> Mapping[str, Any]:
        """The model's weights."""
        return {f"{type(self.model).__name__}.{k}": v for k, v in self.model.state_dict().items()}


def _shape_of_vectors(
    model: VectorSteps, shape: tuple[int, int, int] | None
) -> tuple[int, int, int]:
    name = type(model).__name__
    if shape is None or shape[0] != 1 or shape[1] * shape[2] != model.features:
        raise ValueError(
            f"ExactModel: image_shape is {shape}; expected [1, H, W] of the {model.features} "
            f"coordinates of {name}"
        )
    if not bool((model.order.cpu() == torch.arange(model.features)).all()):
        raise ValueError(f"ExactModel: {name} has another order than that of coding")
    if getattr(model, "num_masks", 1) > 1:
        raise ValueError(f"ExactModel: {name} is a mean over several sets of masks; expected one")
    return shape
