"""Log-likelihoods of discrete pixels, forward and backward, beside the forms written in torch."""

from collections.abc import Iterator

import torch
from harness import Case, forms, passes
from torch import Tensor
from torch.nn import functional

from gencore.ops import (
    categorical_log_prob,
    discretized_logistic_log_prob,
    logistic_mixture_log_prob,
)

_COMPONENTS = 10


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(1)
    images, side = (4, 16) if quick else (16, 32)
    x = torch.randint(0, 256, (images, 3, side, side), generator=generator)
    x = x.to(device, torch.uint8)
    yield from _mixture(x, "10 logistics, 3 channels coupled")
    yield from _mixture(x[:, :1].contiguous(), "10 logistics, 1 channel")
    yield from _single(x)
    yield from _categorical(x)


def _mixture(x: Tensor, what: str) -> Iterator[Case]:
    channels = x.shape[1]
    number = _COMPONENTS * (1 + 2 * channels + channels * (channels - 1) // 2)

    def ours(parameters: Tensor) -> Tensor:
        return logistic_mixture_log_prob(parameters, x, num_components=_COMPONENTS)

    yield from _passes("mixture log-prob", what, ours, _eager_mixture, number, x)


def _single(x: Tensor) -> Iterator[Case]:
    def ours(parameters: Tensor) -> Tensor:
        return discretized_logistic_log_prob(parameters, x)

    yield from _passes("logistic log-prob", "3 channels", ours, _eager_single, 6, x)


def _categorical(x: Tensor) -> Iterator[Case]:
    def ours(logits: Tensor) -> Tensor:
        return categorical_log_prob(logits, x)

    yield from _passes("categorical log-prob", "256 levels, 3 channels", ours, _eager_categorical,
                       768, x, headline=True)  # fmt: skip


def _passes(name, what, ours, eager, number, x, *, headline=False) -> Iterator[Case]:
    n, _, height, width = x.shape
    parameters = torch.randn(n, number, height, width, generator=torch.Generator().manual_seed(2))
    parameters = parameters.to(x.device).requires_grad_()
    case = Case(
        "likelihoods", name, f"{n}x{number}x{height}x{width}, {what}",
        forms(lambda: ours(parameters), lambda: eager(parameters, x)),
        elements=x.numel(),
        headline=headline or "coupled" in what,
    )  # fmt: skip
    # Read the parameters; read them and write their gradients.
    size = 4 * parameters.numel()
    weights = torch.randn(n, height, width, device=x.device)
    yield from passes(
        case, ours, [parameters], [weights], forward_bytes=size, backward_bytes=2 * size
    )


def _eager_categorical(logits: Tensor, x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    blocks = logits.view(n * channels, -1, height, width)
    entropy = functional.cross_entropy(blocks, x.view(-1, height, width).long(), reduction="none")
    return -entropy.view(x.shape).sum(1)


def _eager_mixture(parameters: Tensor, x: Tensor) -> Tensor:
    """As ports of PixelCNN++ write it."""
    m, (n, channels, height, width) = _COMPONENTS, x.shape
    pairs = channels * (channels - 1) // 2
    logits, means, log_scales, coefficients = parameters.split(
        [m, m * channels, m * channels, m * pairs], 1
    )
    scaled = (x.float() * (2 / 255) - 1).unsqueeze(2)
    means = means.view(n, channels, m, height, width)
    log_scales = log_scales.view(n, channels, m, height, width)
    if pairs:
        k = torch.tanh(coefficients.view(n, pairs, m, height, width))
        second = means[:, 1] + k[:, 0] * scaled[:, 0]
        third = means[:, 2] + k[:, 1] * scaled[:, 0] + k[:, 2] * scaled[:, 1]
        means = torch.stack([means[:, 0], second, third], 1)
    terms = _eager_bins(means, log_scales, scaled).sum(1)
    return torch.logsumexp(terms + functional.log_softmax(logits, 1), 1)


def _eager_single(parameters: Tensor, x: Tensor) -> Tensor:
    means, log_scales = parameters.chunk(2, 1)
    return _eager_bins(means, log_scales, x.float() * (2 / 255) - 1).sum(1)


def _eager_bins(means: Tensor, log_scales: Tensor, scaled: Tensor) -> Tensor:
    """With the density in the place of the probability where that is too small."""
    log_scales = log_scales.clamp(min=-7)
    centred, inverse = scaled - means, torch.exp(-log_scales)
    above, below = inverse * (centred + 1 / 255), inverse * (centred - 1 / 255)
    first = above - functional.softplus(above)
    last = -functional.softplus(below)
    share = torch.sigmoid(above) - torch.sigmoid(below)
    middle = inverse * centred
    density = middle - log_scales - 2 * functional.softplus(middle) - 4.848116
    inner = torch.where(share > 1e-5, torch.log(share.clamp(min=1e-12)), density)
    return torch.where(scaled < -0.999, first, torch.where(scaled > 0.999, last, inner))
