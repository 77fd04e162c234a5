"""An autoregressive model of a simpler image, and one of the image given it."""

from copy import deepcopy

import torch
from torch import Generator, Tensor, nn

from gencore.models.autoregressive.agave import AuxiliarySample
from gencore.models.autoregressive.auxiliary_targets import AuxiliaryTarget
from gencore.models.autoregressive.bound_terms import BoundTerms
from gencore.models.autoregressive.image_model import AutoregressiveImageModel, SamplingMethod

__all__ = ["AuxiliaryPixelCNN"]


class AuxiliaryPixelCNN(nn.Module):
    r"""An image in two steps: an auxiliary image y, pixel by pixel, and then x given it.

    .. math:: \log p(x) \ge \sum_j \log p(y_j \mid y_{<j}) + \sum_i \log p(x_i \mid x_{<i}, y),
              \qquad y = y(x)

    There are no latents, and nothing is approximated. The right side is what the model gives the
    pair, and a lower bound of log p(x) because x may follow from other y too.

    Args:
        auxiliary: of y, in the numbers of its bins: images of ``target.shape`` and
            ``target.bins`` levels.
        primary: of x, given maps [N, K, H, W] of what `stack` makes.
        target: y, of which a copy is kept. Its own, factorised likelihood is not used.
        stack: of y in the resolution of x, its levels scaled to [−1, 1], makes the maps; without it
            they are y.

    Raises:
        ValueError: for models of other images.

    References:
        Kolesnikov and Lampert, "PixelCNN models with auxiliary variables for natural image
        modeling", 2017, (3) and section 3.2. Lucas, "Deep generative models: over-generalisation
        and mode-dropping", 2020, section 3.2.
    """

    def __init__(
        self,
        auxiliary: AutoregressiveImageModel,
        primary: AutoregressiveImageModel,
        target: AuxiliaryTarget,
        stack: nn.Module | None = None,
    ) -> None:
        super().__init__()
        for name, model, shape, levels in (
            ("auxiliary", auxiliary, target.shape, target.bins),
            ("primary", primary, target.image_shape, target.levels),
        ):
            if (model.image_shape, model.likelihood.levels) != (shape, levels):
                raise ValueError(
                    f"AuxiliaryPixelCNN: {name} makes images {list(model.image_shape)} of "
                    f"{model.likelihood.levels} levels; expected {list(shape)} of {levels}"
                )
        self.auxiliary, self.primary = auxiliary, primary
        # A copy: its likelihood learns nothing here, but may elsewhere.
        self.target = deepcopy(target).requires_grad_(False)
        self.stack = nn.Identity() if stack is None else stack

    def loss_terms(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> BoundTerms:
        """log p(x | y), log p(y) and no divergence, of levels x [N, C, H, W]; nothing is drawn."""
        number = self.numbers(self.target.target(x))
        primary = self.primary.log_prob(x, self.context(number))
        return BoundTerms(primary, self.auxiliary.log_prob(number), torch.zeros_like(primary))

    def bound(
        self,
        x: Tensor,
        *,
        generator: Generator | None = None,
        key: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """A lower bound of log p(x), [N] in nats: log p(y) + log p(x | y)."""
        terms = self.loss_terms(x)
        return terms.primary + terms.auxiliary

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        return_aux: bool = False,
        method: SamplingMethod = "incremental",
        generator: Generator | None = None,
    ) -> Tensor | AuxiliarySample:
        """Images, and with `return_aux` their auxiliary images, of levels scaled to [−1, 1];
        arguments as for `AGAVE.sample`."""
        number = self.auxiliary.sample(num, method=method, generator=generator)
        context = self.context(number)
        x = self.primary.sample(num, context, method=method, generator=generator)
        return AuxiliarySample(x, self._scaled(number)) if return_aux else x

    def numbers(self, y: Tensor) -> Tensor:
        """The numbers of the bins of auxiliary images y, whose levels are multiples of L/b."""
        return y.div(self.target.levels // self.target.bins, rounding_mode="floor")

    def _scaled(self, number: Tensor) -> Tensor:
        """Numbers of bins as levels from −1 to 1, where the middle of the bin lies."""
        dtype = next(self.primary.parameters()).dtype
        return (number.to(dtype) + 0.5) * (2 / self.target.bins) - 1

    def context(self, number: Tensor) -> Tensor:
        """What the pixels are given, [N, K, H, W], of numbers of bins [N, *target.shape]."""
        context: Tensor = self.stack(self.target.context(self._scaled(number)))
        return context
