"""The gradient penalty, which holds a critic's slope near 1."""

import math
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Generator, Tensor

from gencore.ops import random_key
from gencore.ops.random import philox_uniform

__all__ = ["gradient_penalty"]


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    *,
    weight: float = 10.0,
    one_sided: bool = False,
    generator: Generator | None = None,
    key: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    r"""λ times the mean squared deviation from 1 of the critic's slope between data and samples.

    .. math:: \lambda\, \mathbb E\big[(\lVert \nabla D(\hat x) \rVert_2 - 1)^2\big], \qquad
              \hat x = u x + (1 - u) \tilde x, \quad u \sim U[0, 1)

    with one u a row; one-sided it is the mean of ([‖∇D(x̂)‖ − 1]⁺)², which leaves smaller slopes
    alone. (2.77) does not say where the slope is taken; here it is on the lines between
    data and samples, as in the paper that it goes back to. Differentiable in the critic's weights:
    the backward pass goes twice through the critic. Data and samples get no gradient.

    Code of torch.compile cannot be differentiated twice. So a compiled critic runs uncompiled here,
    and a compiled step leaves its graph for the penalty.

    Args:
        critic: D, [N, ...] → [N], where a row depends on its own x alone.
        real: data x [N, ...].
        fake: samples x̃, like them.
        weight: λ.
        one_sided: whether slopes below 1 are free, as all critics of the Wasserstein distance may
            have them.
        generator: draws the key where none is given.
        key: int64 [seed, offset] of u.
        first: number of rows of the batch before these.

    Returns:
        A scalar.

    Raises:
        ValueError: for samples of another shape, or a critic that does not give [N].

    References:
        Gulrajani et al., "Improved training of Wasserstein GANs", 2017, (3) and §4. Lucas, "Deep
        generative models: over-generalisation and mode-dropping", 2020, (2.77).

    Example:
        >>> import torch
        >>> x, w = torch.randn(8, 2), torch.tensor([3.0, 4.0])
        >>> gradient_penalty(lambda x: x @ w, x, x + 1)  # 10 (5 − 1)²
        tensor(160.)
    """
    if torch.compiler.is_compiling():
        from gencore.objectives.uncompiled_penalty import uncompiled_gradient_penalty

        return uncompiled_gradient_penalty(
            critic, real, fake, weight=weight, one_sided=one_sided, generator=generator, key=key,
            first=first,
        )  # fmt: skip
    if fake.shape != real.shape:
        raise ValueError(
            f"gradient_penalty: fake has shape {list(fake.shape)}; expected {list(real.shape)}, "
            "as real has"
        )
    if key is None:
        key = random_key(generator, device=real.device)
    num = len(real)
    dtype = torch.float64 if real.dtype == torch.float64 else torch.float32
    u = philox_uniform((num,), key, first_element=first, dtype=dtype).to(real.dtype)
    with torch.enable_grad():
        x = torch.lerp(fake, real, u.view(-1, *[1] * (real.dim() - 1))).detach().requires_grad_()
        with _uncompiled():
            value = critic(x)
        if value.shape != (num,):
            raise ValueError(
                f"gradient_penalty: the critic gives {list(value.shape)}; expected [{num}]"
            )
        (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        norm = torch.linalg.vector_norm(slope.reshape(num, math.prod(x.shape[1:])), dim=1)
        excess = (norm - 1).relu() if one_sided else norm - 1
        return weight * excess.square().mean()


def _uncompiled() -> AbstractContextManager[object]:
    """Where compiled modules run uncompiled; there are none before torch's compiler is imported,
    which takes long."""
    if "torch._dynamo" in sys.modules:
        return torch.compiler.set_stance("force_eager")
    return nullcontext()
