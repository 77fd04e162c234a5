"""The linearising auto-encoder: frames one by one become codes that move on a line."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn

from gencore.choices import check_choice
from gencore.models.video.names import CurvatureOf
from gencore.objectives.linearity import check_length, curvature_cosine, squared_error

__all__ = ["Code", "LinearizingAutoencoder", "LinearizingLoss", "PhaseCode", "SiameseAutoencoder"]


class PhaseCode(NamedTuple):
    """The code of frames under phase pooling."""

    magnitude: Tensor
    """What is seen, m: [N, G, h, w]."""
    phase: Tensor
    """Where it is within its pool, p: [N, G, dims, h, w]."""


Code: TypeAlias = Tensor | PhaseCode


class LinearizingLoss(NamedTuple):
    """The objective and its two terms, an entry a film."""

    loss: Tensor
    """[N]: what is minimised (3.6)."""
    prediction_error: Tensor
    """[N]: the squared distance of the predicted frame from the true one."""
    cosine: Tensor
    """[N]: of the angle between the codes' steps."""


class LinearizingAutoencoder(nn.Module):
    r"""An encoder of single frames, in whose codes z the next frame is the line's next point.

    .. math:: \tilde z^3 = 2 z^2 - z^1, \qquad \tilde y = \mathrm{Dec}(\tilde z^3)
              \qquad (3.4), (3.5)

    With phase pooling a code is magnitudes m and phases p. What is seen stays, where it is moves:

    .. math:: \tilde m^3 = \tfrac12 (m^1 + m^2), \qquad \tilde p^3 = 2 p^2 - p^1
              \qquad (3.9), (3.10)

    The objective is the error of the prediction and the curvature of the codes, or of the phases:

    .. math:: L = \tfrac12 \lVert \tilde y - y \rVert^2 - \lambda \frac{(z^2 - z^1)^\top
              (z^3 - z^2)}{\lVert z^2 - z^1 \rVert \, \lVert z^3 - z^2 \rVert} \qquad (3.6)

    Without the second term a decoder that takes many codes for one frame may hide a curved path.
    The cosine by itself says little: it can be 1 where predictions are useless.

    Args:
        encoder: frames [N, ...] → maps [N, ...]; with a pool [N, F, H, W], which should not be
            negative.
        decoder: such maps → frames.
        pool: maps → magnitudes and phases, such as :class:`gencore.nn.PhasePool`.
        unpool: magnitudes and phases → maps, such as :class:`gencore.nn.PhaseUnpool`.
        learned_predictor: make parameters of the coefficients of (3.4), or (3.9) and (3.10), which
            are their first values.
        curvature_of: the vector whose steps are compared, "code" for the whole one (of phases only,
            if there are any), or "pool" for the mean over pools of the cosine of each one's phase.

    Attributes:
        encoder, decoder, pool, unpool: as given.
        extrapolation: (a₂, a₁) = (2, −1), of z² and z¹, or of p² and p¹.
        average: (½, ½), of m² and m¹.

    Shape:
        Two frames [N, ...] → the next [N, ...].

    Raises:
        ValueError: for a pool without its inverse or the reverse, and another `curvature_of`.

    References:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, chapter 3; Goroshin, Mathieu and
        LeCun, "Learning to linearize under uncertainty", 2015.

    Example:
        >>> import torch
        >>> from gencore.models import LinearizingAutoencoder
        >>> from gencore.nn import NotatedNetwork
        >>> encoder = NotatedNetwork("32 -FC,ReLU-> 128 -FC-> 64")
        >>> decoder = NotatedNetwork("64 -FC,ReLU-> 128 -FC-> 32")
        >>> model = LinearizingAutoencoder(encoder, decoder)
        >>> x = torch.rand(5, 3, 32)
        >>> model.loss(*x.unbind(1), curvature_weight=0.3).loss.mean().backward()
        >>> model(x[:, 0], x[:, 1]).shape, model.curvature(x).shape
        (torch.Size([5, 32]), torch.Size([5, 1]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        pool: nn.Module | None = None,
        unpool: nn.Module | None = None,
        *,
        learned_predictor: bool = False,
        curvature_of: CurvatureOf = "code",
    ) -> None:
        super().__init__()
        if (pool is None) != (unpool is None):
            raise ValueError(
                f"LinearizingAutoencoder: pool is {pool} and unpool {unpool}; expected both, or "
                "neither"
            )
        check_choice("LinearizingAutoencoder", "curvature_of", curvature_of, get_args(CurvatureOf))
        if curvature_of == "pool" and pool is None:
            raise ValueError("LinearizingAutoencoder: curvature_of is 'pool', but there is none")
        self.encoder, self.decoder, self.pool, self.unpool = encoder, decoder, pool, unpool
        self.curvature_of = curvature_of
        self.extrapolation: Sequence[float] | Tensor = (2.0, -1.0)
        self.average: Sequence[float] | Tensor = (0.5, 0.5)
        if learned_predictor:
            self.extrapolation = nn.Parameter(torch.tensor(self.extrapolation))
            if pool is not None:
                self.average = nn.Parameter(torch.tensor(self.average))

    def encode(self, frames: Tensor) -> Code:
        """The code of each frame, [N, ...]."""
        z: Tensor = self.encoder(frames)
        return z if self.pool is None else PhaseCode(*self.pool(z))

    def decode(self, code: Code) -> Tensor:
        """The frame of each code, [N, ...]."""
        z = code if self.unpool is None else self.unpool(*code)
        frames: Tensor = self.decoder(z)
        return frames

    def predict_code(self, first: Code, second: Code) -> Code:
        """The code that follows two: (3.4), or (3.9) and (3.10)."""
        if isinstance(first, PhaseCode) and isinstance(second, PhaseCode):
            return PhaseCode(
                _combined(self.average, first.magnitude, second.magnitude),
                _combined(self.extrapolation, first.phase, second.phase),
            )
        assert isinstance(first, Tensor)
        assert isinstance(second, Tensor)
        return _combined(self.extrapolation, first, second)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The frame that follows two; see :meth:`predict`."""
        return self.predict(first, second)

    def predict(self, first: Tensor, second: Tensor) -> Tensor:
        """The frame ỹ [N, ...] that follows two frames x¹ and x² (3.5)."""
        return self.decode(self.predict_code(*self.encode_all(first, second)))

    def code_at(self, first: Code, second: Code, t: float) -> Code:
        """The code at time t of the path through two codes.

        It goes through the first at t = 0, the second at 1, then from one prediction to the next,
        and before t = 0 likewise backwards in time, in straight lines between. Without phase
        pooling and with the fixed predictor that is one line.

        Raises:
            ValueError: for a time that is not finite.
        """
        _check_time(type(self).__name__, t)
        if t < 0:
            first, second, t = second, first, 1 - t
        while t > 1:
            first, second, t = second, self.predict_code(first, second), t - 1
        return _between(first, second, t)

    def interpolate(self, first: Tensor, second: Tensor, t: float) -> Tensor:
        """The frame [N, ...] at any time t: x¹ at t = 0, x² at 1, and the prediction at 2.

        The thesis counts frames from 1: its times, as in figures 3.5 and 3.6, are larger by one.

        Example:
            >>> import torch
            >>> from gencore.models import LinearizingAutoencoder
            >>> model = LinearizingAutoencoder(torch.nn.Identity(), torch.nn.Identity())
            >>> x1, x2 = torch.tensor([[0.0]]), torch.tensor([[1.0]])
            >>> [model.interpolate(x1, x2, t).item() for t in (-1, 0.5, 2)]
            [-1.0, 0.5, 2.0]
        """
        z1, z2 = self.encode_all(first, second)
        return self.decode(self.code_at(z1, z2, t))

    def cosine(self, first: Code, second: Code, third: Code) -> Tensor:
        """Of the angle between two steps of codes, [N]; with phase pooling, of their phases."""
        return self._cosine(*map(_moving, (first, second, third)))

    def curvature(self, films: Tensor) -> Tensor:
        """How straight the codes of films [N, T, ...] move: the cosines [N, T − 2] of the angles
        between successive steps, 1 on a line.

        Raises:
            ValueError: for fewer than three frames.
        """
        check_length(f"{type(self).__name__}.curvature", films)
        length = films.shape[1] - 2
        codes = _moving(self.encode(films.flatten(0, 1))).unflatten(0, films.shape[:2])
        steps = (codes[:, start : start + length].flatten(0, 1) for start in range(3))
        return self._cosine(*steps).unflatten(0, (len(films), length))

    def loss(
        self, first: Tensor, second: Tensor, target: Tensor, curvature_weight: float = 0.0
    ) -> LinearizingLoss:
        """The objective (3.6), a sum over pixels for each film.

        Args:
            first, second: x¹ and x², [N, ...].
            target: y, the frame that follows.
            curvature_weight: λ.
        """
        z1, z2, z3 = self.encode_all(first, second, target)
        error = squared_error(self.decode(self.predict_code(z1, z2)), target)
        cosine = self.cosine(z1, z2, z3)
        return LinearizingLoss(0.5 * error - curvature_weight * cosine, error, cosine)

    def encode_all(self, *frames: Tensor) -> tuple[Code, ...]:
        """The codes of several frames [N, ...] of each film, in one call of the encoder."""
        shapes = [list(frame.shape) for frame in frames]
        if shapes != shapes[:1] * len(shapes) or not frames[0].is_floating_point():
            raise ValueError(
                f"{type(self).__name__}: frames are {frames[0].dtype} of shapes {shapes}; expected "
                "floating point of one shape"
            )
        codes, size = self.encode(torch.cat(frames)), (len(frames), len(frames[0]))
        if isinstance(codes, PhaseCode):
            magnitude, phase = (part.unflatten(0, size).unbind() for part in codes)
            return tuple(map(PhaseCode, magnitude, phase))
        return codes.unflatten(0, size).unbind()

    def _cosine(self, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
        if self.curvature_of == "code":
            return curvature_cosine(first, second, third)
        # The phases [N, G, dims, h, w] of each pool as a row.
        rows = (phase.movedim(2, -1).flatten(0, -2) for phase in (first, second, third))
        return curvature_cosine(*rows).unflatten(0, (len(first), first[:1, :, 0].numel())).mean(1)


class SiameseAutoencoder(LinearizingAutoencoder):
    """The baseline without a predictor: the decoder has the codes of both frames, and its first
    layer may learn to combine them.

    The frame at time t is decoded from the codes at t − 2 and t − 1 on the line through two.

    Args:
        encoder: frames [N, ...] → vectors [N, D].
        decoder: [N, 2D] → frames.

    Source:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, §3.3.2, deep architecture 1.

    Example:
        >>> import torch
        >>> from gencore.models import SiameseAutoencoder
        >>> model = SiameseAutoencoder(torch.nn.Linear(8, 3), torch.nn.Linear(6, 8))
        >>> model.interpolate(torch.rand(5, 8), torch.rand(5, 8), 0.5).shape
        torch.Size([5, 8])
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__(encoder, decoder)

    def predict_code(self, first: Code, second: Code) -> Code:
        """Both codes side by side, [N, 2D]."""
        return _mapped(lambda *pair: torch.cat(pair, 1), first, second)

    def code_at(self, first: Code, second: Code, t: float) -> Code:
        """Both codes of which the frame at time t is decoded, [N, 2D]."""
        _check_time(type(self).__name__, t)
        return self.predict_code(_between(first, second, t - 2), _between(first, second, t - 1))


def _check_time(owner: str, t: float) -> None:
    if not math.isfinite(t):
        raise ValueError(f"{owner}: time is {t}; expected a finite number")


def _mapped(function: Callable[..., Tensor], *codes: Code) -> Code:
    """A function of codes' tensors, of magnitudes and of phases where they have these."""
    if isinstance(codes[0], PhaseCode):
        return PhaseCode(*(function(*parts) for parts in zip(*codes, strict=True)))
    return function(*codes)


def _between(first: Code, second: Code, t: float) -> Code:
    """On the line through two codes, which are at t = 0 and t = 1."""
    return _mapped(lambda a, b: torch.lerp(a, b, t), first, second)


def _combined(weights: Sequence[float] | Tensor, first: Tensor, second: Tensor) -> Tensor:
    return weights[0] * second + weights[1] * first


def _moving(code: Code) -> Tensor:
    """What of a code moves on a line: its phases if it has any."""
    return code.phase if isinstance(code, PhaseCode) else code
