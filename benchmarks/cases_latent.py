"""The hot loops of latent-variable models, beside the least time that a kernel could take for them.

They have no kernels, except for the noise. The floors say what one could gain:

- "floor, copy" is a copy that reads and writes as many bytes as the work has to, out of the same
  caches;
- "floor, functions" is a compiled loop over the elements with the exponentials and logarithms that
  the work has to take, and with the noise;
- "floor, networks" is what is left of a training step or of a bound without these loops.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from itertools import cycle, pairwise
from typing import Any

import torch
from harness import Call, Case, float64_error, one_thread
from torch import Tensor, nn
from torch.nn import functional

from gencore.inference import DataLatents, NormalParameters
from gencore.inference.gaussian_posterior import reparametrise, standard_normal_kl
from gencore.models import (
    VAE,
    VLO,
    BernoulliLikelihood,
    DecoderLikelihood,
    GaussianLikelihood,
)
from gencore.models.latent.importance_bounds import ImportanceBounds
from gencore.nn import MLP
from gencore.ops import philox_normal, random_key

Function = Callable[..., Any]

# The preset yan2022-mnist-40.
_BATCH, _LATENTS, _PIXELS, _WIDTHS = 200, 40, 784, (512, 512)
_INNER_STEPS = 5


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    # Latents of the preset; 32 maps of a level of 16 x 16 of a ladder.
    sizes = [(_BATCH, _LATENTS), (64, 32 * 16 * 16)]
    for rows, size in sizes[:1] if quick else sizes:
        yield _one_gaussian(rows, size, device)
        yield _two_gaussians(rows, size, device)
    for samples in (1,) if quick else (1, 50):
        yield _bernoulli(samples, device)
        yield _gaussian(samples, device)
    yield _log_mean_exp(device)
    yield _importance_weights(device)
    yield _bound(4 if quick else 100, device)
    for rows in (_BATCH,) if quick else (_BATCH, 5000):
        yield _row_update(rows, device)
    yield _vae_step(device)
    if not quick:
        yield _ladder_step(device)
    yield _vlo_step(device)


def _case(
    name: str,
    size: str,
    contenders: dict[str, Call],
    device: torch.device,
    *,
    grad: bool = True,
    **fields: Any,
) -> Case:
    """Work on one thread, whose own time is taken on a CPU; without gradients where there are no
    backward passes."""

    def context() -> AbstractContextManager[object]:
        stack = ExitStack()
        stack.enter_context(one_thread())
        stack.enter_context(torch.set_grad_enabled(grad))
        return stack

    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    return Case("latent", name, size, contenders, context=context, clock=clock, **fields)


def _copy(elements: int, device: torch.device) -> dict[str, Call]:
    """A copy that reads and writes so many float32 together."""
    source = torch.randn(elements // 2, device=device)
    target = torch.empty_like(source)
    return {"floor, copy": lambda: target.copy_(source)}


def _trained(
    name: str,
    size: str,
    ours: Function,
    eager: Function,
    inputs: list[Tensor],
    grads: list[Tensor],
    floors: dict[str, Call],
    *,
    others: dict[str, Function] | None = None,
    error: Callable[[], float] | None = None,
) -> Case:
    """Forward and backward, on one thread."""

    def both(function: Function) -> Call:
        def run() -> object:
            return torch.autograd.grad(function(*inputs), inputs, grads)

        return run

    contenders = {
        "ours": both(ours),
        "eager": both(eager),
        "compiled": both(torch.compile(eager)),
        "ours, compiled": both(torch.compile(ours)),
        **{other: both(function) for other, function in (others or {}).items()},
        **floors,
    }
    return _case(
        f"{name}, forward and backward", size, contenders, inputs[0].device,
        elements=max(part.numel() for part in inputs), error=error,
    )  # fmt: skip


def _parameters(number: int, rows: int, size: int, device: torch.device) -> list[Tensor]:
    return [(0.5 * torch.randn(rows, size, device=device)).requires_grad_() for _ in range(number)]


def _noise_and_exponentials(log_stds: list[Tensor], key: Tensor) -> Call:
    values = [part.detach() for part in log_stds]
    exponentials = torch.compile(lambda: [part.exp() for part in values])

    def run() -> object:
        philox_normal(values[0].shape, key)
        return exponentials()

    return run


def _one_gaussian(rows: int, size: int, device: torch.device) -> Case:
    inputs = _parameters(2, rows, size, device)
    grads = [torch.randn(rows, size, device=device), torch.ones(rows, device=device)]
    key = random_key(device=device)

    def ours(mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
        posterior = NormalParameters(mean, log_std)
        z, _ = reparametrise(posterior, 1, key)
        return z.squeeze(1), standard_normal_kl(posterior)

    def eager(mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
        std = log_std.exp()
        kl = 0.5 * (mean.square() + std.square() - 1 - 2 * log_std).sum(1)
        return torch.addcmul(mean, std, torch.randn_like(std)), kl

    # Read both, write z; read them and a gradient, write two.
    floors = _copy(8 * rows * size, device)
    floors["floor, functions"] = _noise_and_exponentials(inputs[1:], key)
    return _trained(
        "draw of a Gaussian, KL to N(0, I)", f"{rows:,} x {size:,}", ours, eager, inputs, grads,
        floors,
    )  # fmt: skip


def _two_gaussians_kl(
    mean: Tensor, log_std: Tensor, prior_mean: Tensor, prior_log_std: Tensor
) -> Tensor:
    scaled = (mean - prior_mean) * torch.exp(-prior_log_std)
    difference = log_std - prior_log_std
    return (0.5 * (scaled.square() + torch.expm1(2 * difference)) - difference).sum(1)


def _two_gaussians(rows: int, size: int, device: torch.device) -> Case:
    inputs = _parameters(4, rows, size, device)
    grads = [torch.randn(rows, size, device=device), torch.ones(rows, device=device)]
    key = random_key(device=device)

    def ours(mean: Tensor, log_std: Tensor, *prior: Tensor) -> tuple[Tensor, Tensor]:
        z, _ = reparametrise(NormalParameters(mean, log_std), 1, key)
        return z.squeeze(1), _two_gaussians_kl(mean, log_std, *prior)

    def eager(mean: Tensor, log_std: Tensor, *prior: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.addcmul(mean, log_std.exp(), torch.randn_like(mean))
        return z, _two_gaussians_kl(mean, log_std, *prior)

    # Read all four, write z; read them and a gradient, write four.
    floors = _copy(14 * rows * size, device)
    floors["floor, functions"] = _noise_and_exponentials(inputs[1::2], key)
    return _trained(
        "draw of a Gaussian, KL to another", f"{rows:,} x {size:,}", ours, eager, inputs, grads,
        floors,
    )  # fmt: skip


def _bernoulli(samples: int, device: torch.device) -> Case:
    def eager(decoded: Tensor, x: Tensor) -> Tensor:
        target = x.unsqueeze(1).expand_as(decoded)
        entropy = functional.binary_cross_entropy_with_logits(decoded, target, reduction="none")
        return -entropy.sum(2)

    def functions(decoded: Tensor) -> tuple[Tensor, Tensor]:
        small = torch.exp(-decoded.abs())
        return torch.log1p(small).sum(2), 1 / (1 + small)

    return _pixels("Bernoulli", BernoulliLikelihood(), eager, samples, device, functions)


def _gaussian(samples: int, device: torch.device) -> Case:
    def eager(decoded: Tensor, x: Tensor) -> Tensor:
        return -0.5 * (x.unsqueeze(1) - decoded).square().sum(2)

    return _pixels("Gaussian", GaussianLikelihood(), eager, samples, device)


def _pixels(
    name: str,
    likelihood: DecoderLikelihood,
    eager: Callable[[Tensor, Tensor], Tensor],
    samples: int,
    device: torch.device,
    functions: Callable[[Tensor], object] | None = None,
) -> Case:
    x = torch.rand(_BATCH, _PIXELS, device=device)
    decoded = torch.randn(_BATCH, samples, _PIXELS, device=device, requires_grad=True)
    grad = torch.rand(_BATCH, samples, device=device)

    def ours(decoded: Tensor, x: Tensor) -> Tensor:
        return likelihood.log_likelihood(decoded, x.unsqueeze(1))

    def terms(decoded: Tensor) -> Tensor:
        return likelihood.log_prob(decoded, x.unsqueeze(1)).sum(2)

    def gradient(decoded: Tensor) -> tuple[Tensor, ...]:
        log_prob = ours(decoded, x.to(decoded))
        return torch.autograd.grad(log_prob, [decoded], [grad.to(log_prob)])

    # Read what was decoded, and the data; read both again, write a gradient.
    floors = _copy(3 * decoded.numel() + 2 * x.numel(), device)
    if functions is not None:
        compiled, values = torch.compile(functions), decoded.detach()
        floors["floor, functions"] = lambda: compiled(values)
    return _trained(
        f"{name} log-likelihood, summed over pixels", f"{_BATCH:,} x {samples} x {_PIXELS:,}",
        lambda decoded: ours(decoded, x), lambda decoded: eager(decoded, x), [decoded], [grad],
        floors, others={"ours, summed later": terms}, error=float64_error(gradient, decoded),
    )  # fmt: skip


class _Given(ImportanceBounds):
    """Log-weights that are known."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def log_weights(self, x: Tensor, num: int, *, first_sample: int = 0, **_: object) -> Tensor:
        return self.values[:, first_sample : first_sample + num]


def _log_mean_exp(device: torch.device) -> Case:
    """The sum alone, whose weights another has computed."""
    rows, samples, chunk = _BATCH, 5000, 50
    values = 5 * torch.randn(rows, samples, device=device)
    given, key = _Given(values), random_key(device=device)
    exponentials = torch.compile(lambda: values.exp().sum(1))
    contenders: dict[str, Call] = {
        "ours": lambda: given.log_prob_bound(values, samples, chunk_size=chunk, key=key),
        "eager": lambda: values.logsumexp(1),
        "compiled": torch.compile(lambda: values.logsumexp(1)),
        **_copy(values.numel(), device),
        "floor, functions": exponentials,
    }
    return _case(
        "log-mean-exp of weights", f"{rows:,} x {samples:,}, {chunk} at once", contenders, device,
        elements=values.numel(), grad=False,
    )  # fmt: skip


def _importance_weights(device: torch.device) -> Case:
    """As the importance-weighted autoencoder has them in training."""
    values = torch.randn(_BATCH, 10, device=device, requires_grad=True)
    key = random_key(device=device)

    def ours(values: Tensor) -> Tensor:
        return _Given(values).log_prob_bound(values, 10, key=key)

    floors = _copy(4 * values.numel(), device)
    exponentials = torch.compile(lambda: values.detach().exp())
    return _trained(
        "log-mean-exp of weights", f"{_BATCH:,} x 10", ours, lambda values: values.logsumexp(1),
        [values], [torch.ones(_BATCH, device=device)], {**floors, "floor, functions": exponentials},
    )  # fmt: skip


def _networks(device: torch.device) -> tuple[nn.Module, nn.Module]:
    encoder = MLP(_PIXELS, _WIDTHS, 2 * _LATENTS, activation="relu", zero_last=False)
    decoder = MLP(_LATENTS, _WIDTHS, _PIXELS, activation="relu", zero_last=False)
    return encoder.to(device), decoder.to(device)


def _bound(rows: int, device: torch.device) -> Case:
    samples, chunk = 100, 50
    encoder, decoder = _networks(device)
    vae = VAE(encoder, decoder, _LATENTS, likelihood="bernoulli")
    x, key = torch.rand(rows, _PIXELS, device=device), random_key(device=device)
    z = torch.randn(rows * samples, _LATENTS, device=device)

    def eager(x: Tensor) -> Tensor:
        mean, log_std = vae.encode(x)
        noise = torch.randn(rows, chunk, _LATENTS, device=device)
        z = mean[:, None] + log_std.exp()[:, None] * noise
        decoded = decoder(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        entropy = functional.binary_cross_entropy_with_logits(
            decoded, x[:, None].expand_as(decoded), reduction="none"
        )
        log_ratio = 0.5 * (noise.square() - z.square()).sum(2) + log_std.sum(1, keepdim=True)
        return (log_ratio - entropy.sum(2)).logsumexp(1)

    def in_chunks(log_sum: Callable[[Tensor], Tensor]) -> Call:
        return lambda: torch.logaddexp(log_sum(x), log_sum(x))

    contenders: dict[str, Call] = {
        "ours": lambda: vae.log_prob_bound(x, samples, chunk_size=chunk, key=key),
        "eager": in_chunks(eager),
        "compiled": in_chunks(torch.compile(eager)),
        "floor, networks": lambda: [decoder(part) for part in z.chunk(samples // chunk)],
    }
    size = f"{rows} images, {samples} latents, {chunk} at once"
    return _case("importance-weighted bound", size, contenders, device, elements=len(z), grad=False)


class _Gradients:
    """A loss whose gradients are known, one after the other."""

    def __init__(self, grads: list[Tensor]) -> None:
        self._grads = cycle(grads)
        self._energies = grads[0].sum(1)

    def __call__(self, x: Tensor) -> Tensor:
        return self._energies

    def energy_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._energies, next(self._grads)


def _row_update(rows: int, device: torch.device) -> Case:
    """Rows of a table are taken out, and make steps of Adam by given gradients."""
    size = 2 * _LATENTS
    start = torch.randn(60_000, size, device=device)
    index = torch.randperm(len(start), device=device)[:rows]
    grads = [torch.randn(rows, size, device=device) for _ in range(_INNER_STEPS)]
    table = DataLatents(start)
    first, second = torch.zeros(2, *start.shape, device=device)
    gradients = _Gradients(grads)
    num_steps = torch.zeros(len(start), dtype=torch.int64, device=device)

    def ours() -> None:
        table.descend(gradients, index, num_steps=_INNER_STEPS)

    def eager() -> None:
        """In place, for rows of which none is there twice."""
        z, m, v = start[index], first[index], second[index]
        steps = num_steps[index].unsqueeze(1)
        for grad in grads:
            steps = steps + 1
            m.lerp_(grad, 0.1)
            v.mul_(0.999).addcmul_(grad, grad, value=0.001)
            root = (v / (1 - 0.999**steps)).sqrt_().add_(1e-8)
            z.addcdiv_(m / (1 - 0.9**steps), root, value=-0.1)
        start[index], first[index], second[index] = z, m, v
        num_steps[index] = steps.squeeze(1)

    def moved() -> None:
        """The rows of three tables are read and written, and five gradients read."""
        for values in (start, first, second):
            values.index_copy_(0, index, values.index_select(0, index))
        for grad in grads:
            grad.sum()

    root = torch.compile(lambda: [grad.abs().sqrt() for grad in grads])
    contenders: dict[str, Call] = {
        "ours": ours,
        "eager": eager,
        "compiled": torch.compile(eager),
        "floor, copy": moved,
        "floor, functions": root,
    }
    return _case(
        "update of rows of latents",
        f"{rows:,} of {len(start):,} x {size}, {_INNER_STEPS} steps of Adam", contenders, device,
        elements=rows * size, grad=False,
    )  # fmt: skip


def _vae_step(device: torch.device) -> Case:
    """What of a training step of the preset are the loops above."""
    encoder, decoder = _networks(device)
    vae = VAE(encoder, decoder, _LATENTS, likelihood="bernoulli")
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3, fused=True)
    x, key = torch.rand(_BATCH, _PIXELS, device=device), random_key(device=device)
    weight = torch.randn(_BATCH, _PIXELS, device=device)

    def loss() -> Tensor:
        result: Tensor = vae(x, key=key).loss
        return result

    def eager() -> Tensor:
        mean, log_std = encoder(x).chunk(2, 1)
        std = log_std.exp()
        kl = 0.5 * (mean.square() + std.square() - 1 - 2 * log_std).sum()
        decoded = decoder(torch.addcmul(mean, std, torch.randn_like(std)))
        entropy = functional.binary_cross_entropy_with_logits(decoded, x, reduction="sum")
        return (entropy + kl) / _BATCH

    def networks() -> Tensor:
        return (decoder(encoder(x)[:, :_LATENTS]) * weight).sum()

    def step(loss: Callable[[], Tensor]) -> Call:
        def run() -> None:
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

        return run

    contenders = {
        "ours": step(loss),
        "eager": step(eager),
        "compiled": step(torch.compile(eager)),
        "floor, networks": step(networks),
    }
    size = f"{_BATCH} x {_PIXELS}, {_LATENTS} latents, {_WIDTHS[0]}-{_WIDTHS[1]}"
    return _case("training step of the VAE", size, contenders, device)


def _ladder_step(device: torch.device) -> Case:
    """A small level of a ladder: a convolution up and two down, and one to either Gaussian."""
    rows, width, side, maps = 64, 64, 16, 32
    up, down = (_convolutions([width] * number, device) for number in (2, 3))
    heads = [_convolutions([width, 2 * maps], device) for _ in range(2)]
    merge = _convolutions([width + maps, width], device)
    weights = [w for part in (up, down, merge, *heads) for w in part.parameters()]
    x = torch.randn(rows, width, side, side, device=device)
    key = random_key(device=device)

    def level(loops: bool) -> Call:
        def run() -> object:
            above = down(x)
            q, p = heads[0](up(x) + above).flatten(1), heads[1](above).flatten(1)
            mean, log_std = q.chunk(2, 1)
            kl = q.sum() + p.sum()
            if loops:
                kl = _two_gaussians_kl(mean, log_std, *p.chunk(2, 1)).sum()
                mean, _ = reparametrise(NormalParameters(mean, log_std), 1, key)
            z = mean.reshape(rows, maps, side, side)
            return torch.autograd.grad(kl + merge(torch.cat([above, z], 1)).sum(), weights)

        return run

    contenders = {"ours": level(loops=True), "floor, networks": level(loops=False)}
    size = f"{rows} x {maps} x {side} x {side} latents, convolutions of {width}"
    return _case("level of a ladder, forward and backward", size, contenders, device)


def _convolutions(widths: list[int], device: torch.device) -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ELU()]
    return nn.Sequential(*layers[:-1]).to(device)


def _vlo_step(device: torch.device) -> Case:
    """What of a training step without an encoder are the loops above."""
    decoder = _networks(device)[1]
    start = torch.zeros(60_000, _LATENTS, device=device)
    vlo = VLO(decoder, NormalParameters(start, start), likelihood="bernoulli")
    optimizer = torch.optim.Adam(decoder.parameters(), 1e-3, fused=True)
    x, key = torch.rand(_BATCH, _PIXELS, device=device), random_key(device=device)
    index = torch.randperm(len(start), device=device)[:_BATCH]
    z = torch.randn(_BATCH, _LATENTS, device=device, requires_grad=True)
    weight = torch.randn(_BATCH, _PIXELS, device=device)

    def ours() -> None:
        optimizer.zero_grad()
        vlo(x, index, key=key).loss.backward()
        optimizer.step()

    def networks() -> None:
        for _ in range(_INNER_STEPS):
            torch.autograd.grad((decoder(z) * weight).sum(), z)
        optimizer.zero_grad()
        (decoder(z.detach()) * weight).sum().backward()
        optimizer.step()

    size = f"{_BATCH} x {_PIXELS}, {_LATENTS} latents, {_WIDTHS[0]}-{_WIDTHS[1]}"
    contenders: dict[str, Call] = {"ours": ours, "floor, networks": networks}
    return _case("training step of VLO", size, contenders, device)
