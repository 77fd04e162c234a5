"""The linearising auto-encoder with latents for what two frames do not tell about the third."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.inference import DecoderError, infer_latents
from gencore.models.video.linearizing_autoencoder import Code, LinearizingAutoencoder, PhaseCode
from gencore.nn import DeltaCode
from gencore.objectives.linearity import squared_error

__all__ = ["LatentLinearizingAutoencoder", "LatentLinearizingLoss"]


class LatentLinearizingLoss(NamedTuple):
    """The objective and its two terms, an entry a film, and the latents that it was taken at."""

    loss: Tensor
    """[N]: what is minimised (3.12)."""
    prediction_error: Tensor
    """[N]: the squared distance of the predicted frame from the true one."""
    cosine: Tensor
    """[N]: of the angle between the codes' steps."""
    delta: Tensor
    """[N, K]: δ, without a graph."""


class LatentLinearizingAutoencoder(nn.Module):
    r"""A linearising auto-encoder whose predictions depend on latents δ, inferred from the target.

    .. math:: \tilde y_\delta = \mathrm{Dec}(\tilde z^3_\delta), \qquad
              L(\delta) = \lVert \tilde y_\delta - y \rVert^2 - \lambda \cos(z^2 - z^1, z^3 - z^2),
              \qquad \min_\theta \min_\delta L(\delta) \qquad (3.11), (3.12), (3.13)

    The latents of each film come from k steps of gradient descent from δ = 0 (Algorithm 3.1);
    then θ follows the gradient at that δ. Where the future is one of several, the prediction
    without δ is their average and blurred; with δ it is one of them. To predict without a target,
    draw δ from a :class:`gencore.inference.LatentDistribution` of those of training films.

    Without phase pooling, what the decoder does before its first non-linearity is done once and not
    in each step (see :class:`gencore.inference.DecoderError`).

    Args:
        autoencoder: of codes or of magnitudes and phases; δ corrects phases where there are any.
        delta_code: of the size of a frame's code, or of its phases.
        num_steps: k.
        step_size: α.

    Raises:
        ValueError: from the first use, if `delta_code` is of another size.

    References:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, §3.2.2; Goroshin, Mathieu and
        LeCun, "Learning to linearize under uncertainty", 2015.

    Example:
        >>> import torch
        >>> from gencore.models import LatentLinearizingAutoencoder, LinearizingAutoencoder
        >>> from gencore.nn import DeltaCode, NotatedNetwork
        >>> model = LatentLinearizingAutoencoder(
        ...     LinearizingAutoencoder(
        ...         NotatedNetwork("32 -FC,ReLU-> 128 -FC-> 64"),
        ...         NotatedNetwork("64 -FC,ReLU-> 128 -FC-> 32"),
        ...     ),
        ...     DeltaCode(64, 3),
        ... )
        >>> x1, x2, y = torch.rand(3, 5, 32)
        >>> terms = model.loss(x1, x2, y)
        >>> terms.loss.mean().backward()
        >>> model(x1, x2, terms.delta).shape
        torch.Size([5, 32])
    """

    def __init__(
        self,
        autoencoder: LinearizingAutoencoder,
        delta_code: DeltaCode,
        *,
        num_steps: int = 10,
        step_size: float = 0.02,
    ) -> None:
        super().__init__()
        self.autoencoder, self.delta_code = autoencoder, delta_code
        self.num_steps, self.step_size = num_steps, step_size

    def predict_code(self, first: Code, second: Code, delta: Tensor) -> Code:
        """The code that follows two, given δ [N, K] (3.11); with phase pooling, (3.9) and, for
        (3.10), (3.11) of phases."""
        if isinstance(first, PhaseCode) and isinstance(second, PhaseCode):
            following = self.autoencoder.predict_code(first, second)
            assert isinstance(following, PhaseCode)
            return following._replace(phase=self.delta_code(first.phase, second.phase, delta))
        assert isinstance(first, Tensor)
        assert isinstance(second, Tensor)
        return self.delta_code(first, second, delta)

    def forward(self, first: Tensor, second: Tensor, delta: Tensor) -> Tensor:
        """The frame ỹ [N, ...] that follows two frames x¹ and x², given δ [N, K]."""
        z1, z2 = self.autoencoder.encode_all(first, second)
        return self.autoencoder.decode(self.predict_code(z1, z2, delta))

    def infer(self, first: Tensor, second: Tensor, target: Tensor) -> Tensor:
        """δ [N, K] of films, whose third frame is the target, without a graph."""
        with torch.no_grad():
            z1, z2 = self.autoencoder.encode_all(first, second)
            return self._infer(z1, z2, target)

    def loss(
        self, first: Tensor, second: Tensor, target: Tensor, curvature_weight: float = 0.0
    ) -> LatentLinearizingLoss:
        """The objective (3.13), a sum over pixels for each film, at the δ that is inferred.

        Args:
            first, second: x¹ and x², [N, ...].
            target: y, the frame that follows.
            curvature_weight: λ.

        Raises:
            ValueError: if latents are not finite, as where `step_size` is too large.
        """
        z1, z2, z3 = self.autoencoder.encode_all(first, second, target)
        delta = self._infer(z1, z2, target)
        predicted = self.autoencoder.decode(self.predict_code(z1, z2, delta))
        error = squared_error(predicted, target)
        cosine = self.autoencoder.cosine(z1, z2, z3)
        return LatentLinearizingLoss(error - curvature_weight * cosine, error, cosine, delta)

    @torch.no_grad()
    def _infer(self, first: Code, second: Code, target: Tensor) -> Tensor:
        """Steps on the squared error alone: the cosine does not depend on δ."""
        return infer_latents(
            self._error(first, second, target),
            target.new_zeros(len(target), self.delta_code.weight.shape[1]),
            num_steps=self.num_steps,
            step_size=self.step_size,
        )

    def _error(self, first: Code, second: Code, target: Tensor) -> Callable[[Tensor], Tensor]:
        """The squared error of films as a function of δ alone."""
        if isinstance(first, PhaseCode) or isinstance(second, PhaseCode):
            return lambda delta: squared_error(
                self.autoencoder.decode(self.predict_code(first, second, delta)), target
            )
        affine = self.delta_code.affine(first, second)
        return DecoderError(self.autoencoder.decoder, *affine, target, num_calls=self.num_steps)
