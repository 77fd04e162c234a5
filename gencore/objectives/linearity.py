"""Losses by which the codes of a film's successive frames come to lie on a line."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["curvature_cosine", "linear_prediction_loss", "linearity_loss", "reconstruction_loss"]

Map = Callable[[Tensor], Tensor]


def reconstruction_loss(encoder: Map, decoder: Map, frames: Tensor) -> Tensor:
    r"""The error of an auto-encoder on each frame of a film by itself (3.1).

    .. math:: \mathcal L_{\mathrm{rec}} = \sum_t
              \lVert \mathrm{Dec}(\mathrm{Enc}(x^t)) - x^t \rVert^2

    Args:
        encoder: Enc, [N, ...] → codes [N, ...].
        decoder: Dec, codes → [N, ...].
        frames: x, [N, T, ...].

    Returns:
        [N].

    Example:
        >>> import torch
        >>> reconstruction_loss(lambda x: x / 2, lambda z: z, torch.ones(1, 3, 4))
        tensor([3.])

    References:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, §3.1.1.
    """
    single = frames.flatten(0, 1)
    decoded = decoder(encoder(single)).unflatten(0, frames.shape[:2])
    return squared_error(decoded, frames)


def linearity_loss(codes: Tensor) -> Tensor:
    r"""How far codes are from a steady motion on a line (3.2), of a film's triplets.

    .. math:: \mathcal L_{\mathrm{lin}} = \sum_{t=2}^{T-1} \lVert 2 z^t - z^{t-1} - z^{t+1} \rVert^2

    Beside :func:`reconstruction_loss` it is degenerate: with Enc/γ and Dec(γ ·), γ > 1, which are
    the same auto-encoder, it is γ² times smaller, so that codes shrink in place of straightening.
    (The thesis has 1/γ, which is so of the norm without its square.)
    :func:`linear_prediction_loss` has no such direction.

    Args:
        codes: z, [N, T, ...], T ≥ 3.

    Returns:
        [N].

    Raises:
        ValueError: for fewer than three codes.

    Example:
        >>> import torch
        >>> linearity_loss(torch.tensor([[[0.0], [1.0], [2.0]], [[0.0], [1.0], [1.5]]]))
        tensor([0.0000, 0.2500])

    References:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, §3.1.1.
    """
    check_length("linearity_loss", codes)
    return codes.diff(n=2, dim=1).square().flatten(1).sum(1)


def linear_prediction_loss(
    encoder: Map, decoder: Map, first: Tensor, second: Tensor, target: Tensor
) -> Tensor:
    r"""The error of the frame that continues two on a line of codes (3.3).

    .. math:: \mathcal L_{\mathrm{pred}} =
              \lVert \mathrm{Dec}(2\,\mathrm{Enc}(x^2) - \mathrm{Enc}(x^1)) - x^3 \rVert^2

    Unlike :func:`linearity_loss` it does not depend on the scale of codes, and Dec ∘ Enc = 1 does
    not solve it.

    Args:
        encoder: Enc, [N, ...] → codes [N, ...].
        decoder: Dec, codes → [N, ...].
        first, second: x¹ and x², [N, ...].
        target: x³, like them.

    Returns:
        [N].

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> linear_prediction_loss(lambda x: x, lambda z: z, x, 2 * x, 4 * x)  # 3x is predicted
        tensor([5.])

    References:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, §3.1.1.
    """
    return squared_error(decoder(2 * encoder(second) - encoder(first)), target)


def curvature_cosine(first: Tensor, second: Tensor, third: Tensor, *, eps: float = 1e-8) -> Tensor:
    r"""The cosine of the angle between two successive steps of codes, the second term of (3.6).

    .. math:: c = \frac{(z^2 - z^1)^\top (z^3 - z^2)}
                       {\lVert z^2 - z^1 \rVert \, \lVert z^3 - z^2 \rVert}

    1 on a line, −1 where the second step goes back; it depends neither on the codes' scale nor on
    the steps' lengths, so that a motion need not be steady to have c = 1. Where a step is shorter
    than ε the angle is not defined, and c and its gradient are 0.

    Args:
        first, second, third: z¹, z² and z³, [N, ...].
        eps: ε.

    Returns:
        [N], in float32 for codes of half precision.

    Raises:
        ValueError: for codes of different shapes.

    Example:
        >>> import torch
        >>> z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [1.0, 2.0]])
        >>> on_a_line, at_a_right_angle = z[[0, 1, 2]], z[[0, 1, 3]]
        >>> codes = torch.stack([on_a_line, at_a_right_angle])
        >>> curvature_cosine(*codes.unbind(1))
        tensor([1., 0.])

    References:
        Mathieu, "Unsupervised Learning under Uncertainty", 2017, §3.2.
    """
    shapes = [list(code.shape) for code in (first, second, third)]
    if shapes[0] != shapes[1] or shapes[0] != shapes[2]:
        raise ValueError(
            f"curvature_cosine: codes have shapes {shapes[0]}, {shapes[1]} and {shapes[2]}; "
            "expected three alike"
        )
    if first.dtype in (torch.float16, torch.bfloat16):  # squares of small steps would vanish
        first, second, third = first.float(), second.float(), third.float()
    a, b = (second - first).flatten(1), (third - second).flatten(1)
    lengths = torch.stack([a.square().sum(1), b.square().sum(1)])
    moves = (lengths >= eps**2).all(0)
    # 1 for what is not used, whose gradient would be infinite and not 0.
    scale = lengths.where(moves, 1.0).rsqrt().prod(0)
    return ((a * b).sum(1) * scale).where(moves, 0.0)


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """‖x − y‖² of each row, [N, ...] → [N]."""
    return (x - y).square().flatten(1).sum(1)


def check_length(owner: str, frames: Tensor) -> None:
    """Raise a ValueError unless there are at least three frames, or codes of them, [N, T, ...]."""
    if frames.ndim < 2 or frames.shape[1] < 3:
        raise ValueError(
            f"{owner}: {list(frames.shape)} is no batch of three or more frames, [N, T, ...]"
        )
