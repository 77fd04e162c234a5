"""Virtual adversarial training: labels should not change where they change most easily."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from gencore.nn.held_norms import held_norms
from gencore.ops import philox_normal, random_key
from gencore.ops._support.checks import check_count, finite

__all__ = ["virtual_adversarial_loss", "virtual_adversarial_perturbation"]

Classifier = Callable[[Tensor], Tensor]


def virtual_adversarial_perturbation(
    classifier: Classifier,
    x: Tensor,
    radius: float,
    *,
    num_iterations: int = 1,
    step: float = 1e-3,
    generator: Generator | None = None,
    key: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    r"""The small perturbation of each point that changes its label distribution most.

    .. math:: r = \arg\max_{\lVert r\rVert = \epsilon} D(r), \qquad
              D(r) = \mathrm{KL}\big(p(\cdot \mid x) \,\Vert\, p(\cdot \mid x + r)\big)

    Near 0, D is ½ rᵀHr, so that r is ε times the dominant eigenvector of H. The power iteration d ←
    ∇D(ξd)/‖∇D(ξd)‖ finds it from a random direction, where Hd ≈ ∇D(ξd)/ξ.

    Args:
        classifier: logits, [N, ...] → [N, K], each row by itself.
        x: points [N, ...].
        radius: ε.
        num_iterations: of the power iteration; with 0 the direction stays random.
        step: ξ. The source takes 10⁻⁶, of which few digits are left in float32.
        generator: draws the key where none is given.
        key: int64 [seed, offset] of the first directions.
        first: number of rows before these, of other processes.

    Returns:
        r, like x, without a graph. Where ∇D is 0 the direction before it stays.

    Raises:
        ValueError: for a radius or a step that is not positive, or a negative number.
        TypeError: for points below float32.

    Example:
        >>> line = torch.nn.Linear(2, 2)
        >>> r = virtual_adversarial_perturbation(line, torch.randn(5, 2), 0.3)
        >>> bool((r.norm(dim=1) - 0.3).abs().max() < 1e-6)
        True

    References:
        Miyato, Maeda, Koyama and Ishii, "Virtual adversarial training: a regularization method for
        supervised and semi-supervised learning", 2018, Algorithm 1.
    """
    name = "virtual_adversarial_perturbation"
    for what, value in (("radius", radius), ("step", step)):
        if not finite(name, what, value) > 0:
            raise ValueError(f"{name}: {what} is {value}; expected a positive number")
    check_count(name, "num_iterations", num_iterations)
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"{name}: x is {x.dtype}; expected float32 or float64, in which x + {step:g} d is not x"
        )
    x = x.detach()
    if key is None:
        key = random_key(generator, device=x.device)
    noise = philox_normal(x.shape, key, first_element=first * x[:1].numel(), dtype=x.dtype)
    direction = _unit(noise, noise)
    with held_norms(classifier):
        if num_iterations:
            with torch.no_grad():
                target = _log_probabilities(name, classifier, x)
        for _ in range(num_iterations):
            with torch.enable_grad():
                r = (step * direction).requires_grad_()
                divergence = _divergence(target, _log_probabilities(name, classifier, x + r))
                (gradient,) = torch.autograd.grad(divergence.sum(), r)
            direction = _unit(gradient, direction)
    return radius * direction


def virtual_adversarial_loss(
    classifier: Classifier,
    x: Tensor,
    radius: float,
    *,
    num_iterations: int = 1,
    step: float = 1e-3,
    generator: Generator | None = None,
    key: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """The mean of KL(p(·|x) ‖ p(·|x + r)) over points, labelled or not, with the perturbation r of
    `virtual_adversarial_perturbation`; arguments and errors as there.

    p(·|x) and r are held fixed: the gradient goes through p(·|x + r) alone.

    Example:
        >>> flat = torch.nn.Linear(2, 3)
        >>> _ = torch.nn.init.zeros_(flat.weight)
        >>> virtual_adversarial_loss(flat, torch.randn(5, 2), 0.3).item()
        0.0
    """
    name = "virtual_adversarial_loss"
    with held_norms(classifier):
        r = virtual_adversarial_perturbation(
            classifier, x, radius, num_iterations=num_iterations, step=step,
            generator=generator, key=key, first=first,
        )  # fmt: skip
        with torch.no_grad():
            target = _log_probabilities(name, classifier, x)
        return _divergence(target, _log_probabilities(name, classifier, x.detach() + r)).mean()


def _log_probabilities(owner: str, classifier: Classifier, x: Tensor) -> Tensor:
    logits = classifier(x)
    if logits.dim() != 2 or len(logits) != len(x):
        raise ValueError(
            f"{owner}: the classifier gives {list(logits.shape)} for x of shape {list(x.shape)}; "
            f"expected logits [{len(x)}, K]"
        )
    return logits.log_softmax(1)


def _divergence(target: Tensor, log_p: Tensor) -> Tensor:
    """KL(target ‖ p) of log-probabilities [N, K], [N]."""
    return (target.exp() * (target - log_p)).sum(1)


def _unit(vectors: Tensor, otherwise: Tensor) -> Tensor:
    """Rows of length 1, and where a row is 0 that of `otherwise`."""
    # By the largest entry first, since squares of small gradients vanish in float32.
    flat = vectors.flatten(1)
    scaled = flat / flat.abs().amax(1, keepdim=True)
    unit = scaled / scaled.norm(dim=1, keepdim=True)
    return torch.where(unit.isfinite(), unit, otherwise.flatten(1)).view_as(vectors)
