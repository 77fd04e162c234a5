"""Prediction with a latent for what the input does not tell, chosen to fit the target."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gencore.inference import infer_latents

__all__ = ["LatentPrediction"]


class LatentPrediction(nn.Module):
    r"""The squared error of a prediction from an input x and a latent z, and a cost of the latent.

    .. math:: \min_\theta \sum_n \min_{z_n} \lVert y_n - f_\theta(x_n, z_n) \rVert^2 + R(z_n)
              \qquad (6.3), (6.4)

    Of several values that y may have given x the best prediction without a latent is their mean.
    The latent says which of them it was. R limits what it may say: where R makes all values but one
    too dear, the prediction is the mean again. A call is the inner sum, [N], at given latents;
    `descend` and `choose` find those of the inner minimum. They come without a graph: at a minimum
    over z the gradient by θ is that of the call with z held fixed.

    A penalty that grows with z limits nothing by itself where f can be of any scale: for
    f = wz and R = λz² the minimum is y²λ/(λ + w²), which is 0 for w → ∞. Finitely many latents have
    no such fault.

    Args:
        network: f, (x, z) → the prediction of y.
        penalty: R, latents [N, ...] → [N]; 0 if ``None``.

    Raises:
        ValueError: on a call, if the prediction or the penalty has another shape.

    References:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §6.2.2.

    Example:
        >>> import torch
        >>> from gencore.objectives import LatentPrediction
        >>> loss = LatentPrediction(lambda x, z: x + 2 * z - 1, lambda z: 0.1 * z.sum(1))
        >>> x, y = torch.zeros(2, 1), torch.tensor([[-1.0], [1.0]])
        >>> z = loss.choose(x, y, torch.tensor([[0.0], [1.0]]))
        >>> z, loss(x, y, z)
        (tensor([[0.],
                [1.]]), tensor([0.0000, 0.1000]))
    """

    def __init__(
        self,
        network: Callable[[Tensor, Tensor], Tensor],
        penalty: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.penalty = network, penalty

    def forward(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """‖y − f(x, z)‖² + R(z) of N rows, [N]."""
        prediction = self.network(x, z)
        if prediction.shape != y.shape:
            raise ValueError(
                f"LatentPrediction: the network gives {list(prediction.shape)} for a target "
                f"{list(y.shape)}; expected the same shape"
            )
        error = (y - prediction).square().flatten(1).sum(1)
        if self.penalty is None:
            return error
        cost = self.penalty(z)
        if cost.shape != error.shape:
            raise ValueError(
                f"LatentPrediction: the penalty gives {list(cost.shape)} for latents "
                f"{list(z.shape)}; expected {list(error.shape)}"
            )
        return error + cost

    def descend(
        self, x: Tensor, y: Tensor, start: Tensor, *, num_steps: int, step_size: float | Tensor
    ) -> Tensor:
        """The latents [N, ...] after steps of gradient descent, detached: a local minimum.

        Args:
            x: inputs [N, ...].
            y: targets [N, ...].
            start: of the descent, [N, ...].
            num_steps: as of :func:`gencore.inference.infer_latents`, like the next.
            step_size: as there.

        Raises:
            TypeError, ValueError: as there.
        """
        return infer_latents(
            lambda z: self(x, y, z), start, num_steps=num_steps, step_size=step_size
        )

    @torch.no_grad()
    def choose(self, x: Tensor, y: Tensor, candidates: Tensor) -> Tensor:
        """The best of M latents for each row, [N, ...]: the minimum over them, the first of equals.

        Args:
            x: inputs [N, ...].
            y: targets [N, ...].
            candidates: [M, ...], which may also be integers.

        Raises:
            ValueError: for no candidates, or as a call.
        """
        if candidates.dim() == 0 or len(candidates) == 0:
            raise ValueError(
                f"LatentPrediction.choose: candidates have shape {list(candidates.shape)}; "
                "expected [M, ...] of at least one"
            )
        # One candidate at a time: the network never sees more than N rows.
        rows = (z.expand(len(x), *z.shape) for z in candidates)
        return candidates[torch.stack([self(x, y, z) for z in rows]).argmin(0)]
