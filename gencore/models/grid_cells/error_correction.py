"""Noise in neurons, and how much of it is left where the place is read off them."""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from gencore.models.grid_cells.conformality import value_and_jacobian
from gencore.sizes import check_positive

__all__ = ["drop_units", "expected_position_error", "perturb_units", "project_position"]


def perturb_units(v: Tensor, alpha: float, *, generator: Generator | None = None) -> Tensor:
    r"""v + ε with ε ~ N(0, α² ‖v‖²/d I), noise of α times the units' root mean square.

    Args:
        v: [N, K, M], of d = K·M units.
        alpha: α.
        generator: of the noise.

    Raises:
        ValueError: for an α that is negative.
    """
    if not 0 <= alpha < math.inf:
        raise ValueError(f"perturb_units: alpha is {alpha}; expected 0 or positive")
    size = v.flatten(-2).square().mean(-1).sqrt()[..., None, None]
    noise = torch.randn(v.shape, generator=generator, dtype=v.dtype, device=v.device)
    return v + alpha * size * noise


def drop_units(v: Tensor, rate: float, *, generator: Generator | None = None) -> Tensor:
    """Sets each unit of v to 0 with a probability, without scaling the others up.

    Args:
        v: [N, K, M].
        rate: the probability.
        generator: of the choice.

    Raises:
        ValueError: for a rate that is no probability.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"drop_units: rate is {rate}; expected from 0 to 1")
    kept = torch.rand(v.shape, generator=generator, device=v.device) >= rate
    return v * kept


def expected_position_error(alpha: float, metric: Tensor | float, num_units: int) -> Tensor | float:
    r"""What a conformal code leaves of neurons' noise, E‖x̂ − x‖², in square metres.

    .. math:: E \lVert \hat x - x \rVert^2 = \frac{2 \tau^2}{s^2} = \frac{2 \alpha^2}{\mu^2 d}
              \qquad (5.25), (5.13)

    It is the part of the noise in the two directions in which the code moves, and holds while this
    is small beside the code's curvature.

    Args:
        alpha: α, as of :func:`perturb_units`.
        metric: μ = ‖f_θ(v)‖ / ‖v‖ of the whole vector, in 1/metre.
        num_units: d.

    References:
        Gao, "Effective Learning of Descriptive and Generator Models", 2021, theorem 3.

    Example:
        >>> from gencore.models import expected_position_error
        >>> expected_position_error(0.5, 10.0, 50) ** 0.5  # a centimetre
        0.01
    """
    check_positive("expected_position_error", num_units=num_units)
    return 2 * alpha**2 / (metric**2 * num_units)


def project_position(
    encode: Callable[[Tensor], Tensor], v: Tensor, start: Tensor, *, num_steps: int = 10
) -> Tensor:
    r"""The position whose vector is nearest to v, by Gauss and Newton's steps from a guess.

    .. math:: \hat x = \arg\min_{x'} \lVert v - v(x') \rVert^2, \qquad
              x \leftarrow x + (J^\top J)^{-1} J^\top (v - v(x))

    Unlike the places of a lattice it is not rounded.

    Args:
        encode: positions [N, 2] → vectors [N, ...], smooth, each of its own position.
        v: [N, ...].
        start: guesses [N, 2], within about an eighth of the shortest period of the position.
        num_steps: of Gauss and Newton.

    Returns:
        x̂ [N, 2].

    Raises:
        ValueError: for guesses that are not a pair a vector.

    Example:
        >>> import torch
        >>> from gencore.data import PlaceLattice
        >>> from gencore.models import HexagonCode, project_position
        >>> code = HexagonCode(PlaceLattice(40), [0.5])
        >>> x = torch.tensor([[0.31, 0.42]])
        >>> project_position(code.encode, code.encode(x), x + 0.03).sub(x).abs().max() < 1e-5
        tensor(True)
    """
    check_positive("project_position", num_steps=num_steps)
    if start.shape != (len(v), 2):
        raise ValueError(
            f"project_position: start has shape {list(start.shape)}; expected [{len(v)}, 2]"
        )
    x = start.to(v.dtype)
    for _ in range(num_steps):
        nearest, jacobian = value_and_jacobian(encode, x)
        residual = (v.flatten(1) - nearest)[..., None]
        metric = jacobian.mT @ jacobian
        x = x + torch.linalg.solve(metric, jacobian.mT @ residual).squeeze(-1)
    return x
