"""The losses of predicted images, forward and backward, beside the form written in torch."""

from collections.abc import Iterator

import torch
from harness import Case, forms, passes
from torch import Tensor

from gencore.ops import prediction_losses


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    shapes = [(16, 3, 32, 32), (8, 3, 64, 64)]
    for shape in shapes[:1] if quick else shapes:
        for p, alpha in ((1, 1), (2, 2)):
            yield from _training(shape, p, alpha, device)


def _ours(prediction: Tensor, target: Tensor, p: int, alpha: int) -> Tensor:
    losses = prediction_losses(prediction, target, p=p, alpha=alpha)
    return losses.lp + losses.gradient_difference


def _eager(prediction: Tensor, target: Tensor, p: int, alpha: int) -> Tensor:
    """The same sums, as a user writes them."""

    def total(value: Tensor, exponent: int) -> Tensor:
        return (value.abs() if exponent == 1 else value.square()).sum((1, 2, 3))

    across = target.diff(dim=3).abs() - prediction.diff(dim=3).abs()
    down = target.diff(dim=2).abs() - prediction.diff(dim=2).abs()
    return total(target - prediction, p) + total(across, alpha) + total(down, alpha)


def _training(shape: tuple[int, ...], p: int, alpha: int, device: torch.device) -> Iterator[Case]:
    target = torch.randn(shape, device=device)
    prediction = torch.randn(shape, device=device, requires_grad=True)
    case = Case(
        "prediction-losses", f"L{p} and gradient difference, alpha {alpha}",
        "x".join(map(str, shape)),
        forms(
            lambda: _ours(prediction, target, p, alpha),
            lambda: _eager(prediction, target, p, alpha),
        ),
        elements=target.numel(),
        headline=p == 1,
    )  # fmt: skip
    # Read both images; read them again, and write a gradient.
    yield from passes(
        case, lambda prediction: _ours(prediction, target.to(prediction), p, alpha), [prediction],
        [torch.ones(shape[0], device=device)],
        forward_bytes=8 * target.numel(), backward_bytes=12 * target.numel(),
    )  # fmt: skip
