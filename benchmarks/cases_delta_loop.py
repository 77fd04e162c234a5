"""Inference of the latents δ of Algorithm 3.1 (k = 10), alone and within a training step."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from harness import Call, Case, float64_error
from torch import Tensor, nn

from gencore.models import Code, LatentLinearizingAutoencoder, LinearizingAutoencoder
from gencore.nn import DeltaCode, NotatedNetwork
from gencore.samplers import CompiledEnergy

_STEPS, _STEP_SIZE = 10, 1e-3

Loop = Callable[[Tensor, Tensor, Tensor], Tensor]
"""z¹, z² and y → δ."""


class _Work(NamedTuple):
    """A model of a size, and a batch for it."""

    size: str
    model: LatentLinearizingAutoencoder
    batch: tuple[Tensor, ...]


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    sizes = [_mlp, _convolutional, _deep]
    for make in sizes[:1] if quick else sizes:
        yield from _cases(make(device))


def _work(
    size: str, encoder: nn.Module, decoder: nn.Module, shape: tuple[int, ...], device: torch.device
) -> _Work:
    autoencoder = LinearizingAutoencoder(encoder, decoder)
    batch = tuple(torch.rand(3, *shape, device=device))
    with torch.no_grad():
        code_size = encoder(batch[0][:1].cpu()).numel()
    model = LatentLinearizingAutoencoder(
        autoencoder, DeltaCode(code_size, 3), num_steps=_STEPS, step_size=_STEP_SIZE
    )
    return _Work(size, model.to(device), batch)


def _mlp(device: torch.device) -> _Work:
    encoder = NotatedNetwork("32 -FC,ReLU-> 128 -FC-> 64")
    decoder = NotatedNetwork("64 -FC,ReLU-> 128 -FC-> 32")
    return _work("128x32, decoder 64-128-32", encoder, decoder, (128, 32), device)


def _convolutional(device: torch.device) -> _Work:
    encoder = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1)
    )
    decoder = nn.Sequential(
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 3, 3, padding=1)
    )
    return _work("16x3x32x32, decoder 64-64-3", encoder, decoder, (16, 3, 32, 32), device)


def _deep(device: torch.device) -> _Work:
    encoder = NotatedNetwork(
        "1@32x32 -conv9,ReLU-> 16@24x24 -conv9,ReLU-> 32@16x16 -FC,ReLU-> 4096"
    )
    decoder = nn.Sequential(
        nn.Linear(4096, 8192), nn.ReLU(), nn.Unflatten(1, (32, 16, 16)),
        nn.Conv2d(32, 16, 9, padding=8), nn.ReLU(), nn.Conv2d(16, 1, 9, padding=8),
    )  # fmt: skip
    return _work("16x1x32x32, deep architecture 2", encoder, decoder, (16, 1, 32, 32), device)


def _cases(work: _Work) -> Iterator[Case]:
    model, (x1, x2, y) = work.model, work.batch
    with torch.no_grad():
        z1, z2 = model.autoencoder.encode_all(x1, x2)
    compiled = _compiled(model, z1, z2, y)
    loops: dict[str, Loop] = {
        "eager": partial(_eager, model),
        "eager, all gradients": partial(_all_gradients, model),
        "compiled": lambda z1, z2, y: compiled(),
    }

    def infer(model: LatentLinearizingAutoencoder, *batch: Tensor) -> Tensor:
        return model.infer(*batch)

    contenders: dict[str, Call] = {
        "ours": lambda: model.infer(x1, x2, y),
        "encoder in the loop": partial(_encoder_in_loop, model, x1, x2, y),
    }
    contenders |= {name: partial(_infer, work, loop) for name, loop in loops.items()}
    error = float64_error(infer, model, x1, x2, y)
    yield Case("delta-loop", "delta loop", work.size, contenders, error=error)
    steps: dict[str, Call] = {
        "ours": partial(_train_ours, work),
        "encoder in the loop": partial(_train_with_encoder_in_loop, work),
    }
    steps |= {name: partial(_train, work, loop) for name, loop in loops.items()}
    yield Case("delta-loop", "training step with delta loop", work.size, steps, headline=True)


def _infer(work: _Work, loop: Loop) -> Tensor:
    x1, x2, y = work.batch
    with torch.no_grad():
        z1, z2 = work.model.autoencoder.encode_all(x1, x2)
    return loop(z1, z2, y)


def _train(work: _Work, loop: Loop) -> None:
    """The latents, then one backward pass for the parameters, from codes that are made once."""
    model, (x1, x2, y) = work.model, work.batch
    z1, z2, z3 = model.autoencoder.encode_all(x1, x2, y)
    assert isinstance(z1, Tensor)
    assert isinstance(z2, Tensor)
    delta = loop(z1.detach(), z2.detach(), y)
    _descend_parameters(model, z1, z2, z3, y, delta)


def _train_with_encoder_in_loop(work: _Work) -> None:
    x1, x2, y = work.batch
    delta = _encoder_in_loop(work.model, x1, x2, y)
    _descend_parameters(work.model, *work.model.autoencoder.encode_all(x1, x2, y), y, delta)


def _descend_parameters(
    model: LatentLinearizingAutoencoder, z1: Code, z2: Code, z3: Code, y: Tensor, delta: Tensor
) -> None:
    """(3.12) at δ, and its gradients by the parameters."""
    predicted = model.autoencoder.decode(model.predict_code(z1, z2, delta))
    error = (predicted - y).square().flatten(1).sum(1)
    (error - 0.3 * model.autoencoder.cosine(z1, z2, z3)).mean().backward()
    model.zero_grad()


def _train_ours(work: _Work) -> None:
    work.model.loss(*work.batch, curvature_weight=0.3).loss.mean().backward()
    work.model.zero_grad()


def _eager(model: LatentLinearizingAutoencoder, z1: Tensor, z2: Tensor, y: Tensor) -> Tensor:
    """The best a user writes: the gradient by δ alone."""
    direction = 2 * z2 - z1
    delta = y.new_zeros(len(y), 3)
    for _ in range(_STEPS):
        delta.requires_grad_()
        code = z2 + (delta @ model.delta_code.weight.T).view_as(z2) * direction
        error = (model.autoencoder.decode(code) - y).square().sum()
        (grad,) = torch.autograd.grad(error, delta)
        delta = delta.detach() - _STEP_SIZE * grad
    return delta


def _all_gradients(
    model: LatentLinearizingAutoencoder, z1: Tensor, z2: Tensor, y: Tensor
) -> Tensor:
    """Algorithm 3.1 with `backward()` in each step, which takes parameters' gradients too."""
    delta = y.new_zeros(len(y), 3).requires_grad_()
    for _ in range(_STEPS):
        _descend(delta, model.autoencoder.decode(model.predict_code(z1, z2, delta)), y)
    model.zero_grad()
    return delta.detach()


def _encoder_in_loop(
    model: LatentLinearizingAutoencoder, x1: Tensor, x2: Tensor, y: Tensor
) -> Tensor:
    """The whole model, as in training, and `backward()` in each step."""
    delta = y.new_zeros(len(y), 3).requires_grad_()
    for _ in range(_STEPS):
        _descend(delta, model(x1, x2, delta), y)
    model.zero_grad()
    return delta.detach()


def _descend(delta: Tensor, predicted: Tensor, target: Tensor) -> None:
    (predicted - target).square().sum().backward()
    assert delta.grad is not None
    with torch.no_grad():
        delta -= _STEP_SIZE * delta.grad
    delta.grad = None


def _compiled(
    model: LatentLinearizingAutoencoder, z1: Code, z2: Code, y: Tensor
) -> Callable[[], Tensor]:
    """The loss and its gradient by δ as one compiled function, for these codes."""

    def loss(delta: Tensor) -> Tensor:
        predicted = model.autoencoder.decode(model.predict_code(z1, z2, delta))
        return (predicted - y).square().flatten(1).sum(1)

    compiled = CompiledEnergy(loss)

    def run() -> Tensor:
        delta = y.new_zeros(len(y), 3)
        for _ in range(_STEPS):
            delta = delta - _STEP_SIZE * compiled.energy_and_grad(delta)[1]
        return delta

    return run
