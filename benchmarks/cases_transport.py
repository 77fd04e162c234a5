"""Transport and discrepancies of point clouds, beside matrices of all pairs, and peers."""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from harness import Call, Case, float64_error
from torch import Tensor

from gencore.metrics import GaussianKernel
from gencore.metrics.distances.pairwise import default_chunk_size
from gencore.objectives import maximum_mean_discrepancy, sinkhorn_divergence
from gencore.objectives.transport.pairs import soft_minimum


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    sizes = (1_000,) if quick else (1_000, 10_000)
    for num in sizes:
        for dim in (2, 64):
            yield _steps(num, dim, device)
            yield from _discrepancies(num, dim, device)
    for dim in (2, 64):
        yield from _divergences(sizes[0], dim, device)


def _clouds(num: int, dim: int, device: torch.device) -> tuple[Tensor, Tensor, float]:
    """Uniform points, points that crowd at a corner, and a twentieth of their mean cost."""
    torch.manual_seed(0)
    x, y = torch.rand(num, dim, device=device), torch.rand(num, dim, device=device).square()
    epsilon = 0.05 * (x.var(0) + y.var(0) + (x.mean(0) - y.mean(0)) ** 2).sum().item()
    return x.requires_grad_(), y, epsilon


def _costs(x: Tensor, y: Tensor) -> Tensor:
    return x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x @ y.T


def _dense_soft_minimum(costs: Tensor, potential: Tensor, epsilon: float) -> Tensor:
    return -epsilon * torch.logsumexp((potential - costs) / epsilon, 1)


def _steps(num: int, dim: int, device: torch.device) -> Case:
    """The dense forms are given the matrix of costs, which they make once for all steps."""
    x, y, epsilon = _clouds(num, dim, device)
    x, logarithms = x.detach(), torch.full((num,), -math.log(num), device=device)
    chunk_size = default_chunk_size(device, num)
    costs, dense_compiled = _costs(x, y), torch.compile(_dense_soft_minimum)
    ours_compiled = torch.compile(soft_minimum)

    def streamed(function: Callable[..., Tensor], x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return function(
            x[None], y[None], w[None], epsilon=epsilon, p=2, chunk_size=chunk_size
        )  # fmt: skip

    return Case(
        "transport", "Sinkhorn step", f"{num:,} and {num:,} points, {dim}-D",
        {
            "ours": lambda: streamed(soft_minimum, x, y, logarithms),
            "ours, compiled": lambda: streamed(ours_compiled, x, y, logarithms),
            "eager": lambda: _dense_soft_minimum(costs, epsilon * logarithms, epsilon),
            "compiled": lambda: dense_compiled(costs, epsilon * logarithms, epsilon),
        },
        elements=num**2,
        flops=2 * num**2 * dim,
        error=float64_error(lambda *tensors: streamed(soft_minimum, *tensors), x, y, logarithms),
        headline=(num, dim) == (10_000, 2),
    )  # fmt: skip


def _gradient(loss: Callable[[], Tensor], x: Tensor) -> Call:
    return lambda: torch.autograd.grad(loss(), x)


def _without_gradient(loss: Callable[[], Tensor]) -> Call:
    return torch.no_grad()(loss)


def _divergences(num: int, dim: int, device: torch.device) -> Iterator[Case]:
    """Ours and the eager form end where the marginals are off by 1e-2. geomloss makes one step at
    each ε, whatever the error. POT makes a hundred at most (its bound is on another norm), by
    products of matrices in float64, which do not go through logarithms and overflow where ε is
    small; its value is of the plans' costs alone, without the entropy."""
    x, y, epsilon = _clouds(num, dim, device)

    def ours() -> Tensor:
        return sinkhorn_divergence(x, y, epsilon=epsilon, tolerance=1e-2)

    losses = {
        "ours": ours,
        "eager": lambda: _dense_divergence(x, y, epsilon),
        **_geomloss("sinkhorn", x, y, blur=math.sqrt(epsilon / 2), scaling=0.9),
    }
    size = f"{num:,} and {num:,} points, {dim}-D"
    yield Case(
        "transport", "Sinkhorn divergence, forward", size,
        {**{name: _without_gradient(loss) for name, loss in losses.items()}, **_pot(x, y, epsilon)},
        error=float64_error(lambda x, y: sinkhorn_divergence(x, y, epsilon=epsilon), x, y),
    )  # fmt: skip
    yield Case(
        "transport", "Sinkhorn divergence, forward and backward", size,
        {name: _gradient(loss, x) for name, loss in losses.items()},
        headline=dim == 2,
    )  # fmt: skip


def _dense_divergence(x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    """As a user writes it: plain steps from larger ε down, and gradients of the last one."""

    def transport(x: Tensor, y: Tensor) -> Tensor:
        shift_x, shift_y = math.log(len(x)), math.log(len(y))

        def f_of(g: Tensor, costs: Tensor, epsilon: float) -> Tensor:
            return _dense_soft_minimum(costs, g - epsilon * shift_y, epsilon)

        def g_of(f: Tensor, costs: Tensor, epsilon: float) -> Tensor:
            return _dense_soft_minimum(costs.T, f - epsilon * shift_x, epsilon)

        costs = _costs(x, y)
        with torch.no_grad():
            level, f, g = costs.max().item(), torch.zeros_like(x[:, 0]), torch.zeros_like(y[:, 0])
            while level > epsilon:
                f = f_of(g, costs, level)
                g = g_of(f, costs, level)
                level /= 2
            for _ in range(1_000):
                best = f_of(g, costs, epsilon)
                error = ((f - best) / epsilon).expm1().abs().mean()
                f = best
                g = g_of(f, costs, epsilon)
                if error < 1e-2:
                    break
        return f_of(g, costs, epsilon).mean() + g_of(f, costs, epsilon).mean()

    return transport(x, y) - transport(x, x) / 2 - transport(y, y) / 2


def _discrepancies(num: int, dim: int, device: torch.device) -> Iterator[Case]:
    x, y, _ = _clouds(num, dim, device)
    kernel = GaussianKernel(math.sqrt(dim) / 4)

    def dense() -> Tensor:
        def mean(a: Tensor, b: Tensor) -> Tensor:
            return (_costs(a, b) / (-2 * kernel.bandwidth**2)).exp().mean()

        return mean(x, x) + mean(y, y) - 2 * mean(x, y)

    def ours(x: Tensor, y: Tensor) -> Tensor:
        return maximum_mean_discrepancy(x, y, kernel, unbiased=False)

    losses = {
        "ours": lambda: ours(x, y),
        "eager": dense,
        "compiled": torch.compile(dense),
        **_geomloss("gaussian", x, y, blur=kernel.bandwidth),
    }
    size = f"{num:,} and {num:,} points, {dim}-D"
    yield Case(
        "transport", "MMD of a Gaussian kernel, forward", size,
        {name: _without_gradient(loss) for name, loss in losses.items()},
        error=float64_error(ours, x, y),
    )  # fmt: skip
    yield Case(
        "transport", "MMD of a Gaussian kernel, forward and backward", size,
        {name: _gradient(loss, x) for name, loss in losses.items()},
    )  # fmt: skip


def _geomloss(loss: str, x: Tensor, y: Tensor, **options: float) -> dict[str, Callable[[], Tensor]]:
    """The same loss by geomloss, where the optional group of peers is installed."""
    try:
        from geomloss import SamplesLoss
    except ImportError:
        return {}
    module = SamplesLoss(loss, backend="tensorized", **options)
    return {"geomloss": lambda: module(x, y)}


def _pot(x: Tensor, y: Tensor, epsilon: float) -> dict[str, Call]:
    """The value by POT, on the CPU."""
    try:
        from ot.bregman import empirical_sinkhorn_divergence
    except ImportError:
        return {}
    points = x.detach().cpu().double().numpy(), y.cpu().double().numpy()
    return {
        "pot": partial(
            empirical_sinkhorn_divergence,
            *points,
            epsilon,
            numIterMax=100,
            stopThr=3e-4,
            warn=False,
        )
    }
