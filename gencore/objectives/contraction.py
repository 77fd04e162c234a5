"""How much a code changes where the data change."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from gencore.ops import philox_normal, random_key
from gencore.ops._support.checks import index

__all__ = ["contraction_penalty"]


def contraction_penalty(
    encoder: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    num_probes: int | None = None,
    generator: Generator | None = None,
    key: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    r"""The squared Frobenius norm of a code's Jacobian, of each data point.

    .. math:: \lVert J(x) \rVert_F^2 = \sum_{ij} \left( \frac{\partial h_j}{\partial x_i} \right)^2
              = \mathbb E_{v \sim N(0, I)} \lVert J(x)^\top v \rVert^2

    It is differentiable in `x` and in the encoder's parameters. Exact, it costs a backward pass for
    each component of the code; with probes v, one for each of them, and it is unbiased.

    Args:
        encoder: h, [N, ...] → [N, ...], each row by itself.
        x: data, [N, ...].
        num_probes: number of probes v; exact where it is missing.
        generator: draws the key where none is given; torch's default where both are missing.
        key: int64 [seed, offset] of the probes.
        first: number of rows of the processes before this one.

    Returns:
        [N].

    Raises:
        ValueError: for fewer than one probe, or codes that do not depend on x.

    Example:
        >>> contraction_penalty(lambda x: 3 * x, torch.zeros(2, 4))
        tensor([36., 36.])

    References:
        Rifai, Vincent, Muller, Glorot and Bengio, "Contractive auto-encoders: explicit invariance
        during feature extraction", 2011, (1); Mathieu, "Unsupervised Learning under Uncertainty",
        2017, §2.1.2.1.
    """
    if num_probes is not None and index("contraction_penalty", "num_probes", num_probes) < 1:
        raise ValueError(
            f"contraction_penalty: num_probes is {num_probes}; expected 1 or more, or None"
        )
    with torch.enable_grad():
        if not x.requires_grad:
            x = x.detach().requires_grad_()
        code = encoder(x).flatten(1)
        if not code.requires_grad:
            raise ValueError("contraction_penalty: the codes do not depend on x")
        if num_probes is None:
            probes = torch.eye(code.shape[1], dtype=code.dtype, device=code.device).unsqueeze(1)
            probes = probes.expand(-1, len(x), -1)
        else:
            key = random_key(generator, device=x.device) if key is None else key
            shape = (len(x), num_probes, code.shape[1])
            first_element = first * num_probes * code.shape[1]
            probes = philox_normal(shape, key, first_element=first_element, dtype=code.dtype)
            probes = probes.transpose(0, 1)
        penalty = code.new_zeros(len(x))
        for probe in probes:
            (grad,) = torch.autograd.grad(code, x, probe, create_graph=True, allow_unused=True)
            if grad is None:
                raise ValueError("contraction_penalty: the codes do not depend on x")
            penalty = penalty + grad.flatten(1).square().sum(1)
        return penalty if num_probes is None else penalty / num_probes
