"""Transport and discrepancies of point clouds, beside matrices of all pairs, and peers."""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from harness import Call, Case, float64_error
from torch import Tensor

from gencore.metrics import GaussianKernel
from gencore.objectives import maximum_mean_discrepancy, sinkhorn_divergence
from gencore.ops import soft_minimum


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    sizes = (1_000,) if quick else (1_000, 10_000)
    for num in sizes:
        for dim in (2, 64):
            yield _step(num, dim, device)
            yield _step_gradients(num, dim, device)
            yield from _discrepancies(num, dim, device)
    for dim in (2, 64):
        yield from _divergences(sizes[0], dim, device)


def _clouds(num: int, dim: int, device: torch.device) -> tuple[Tensor, Tensor, float]:
    """Uniform points, points that crowd at a corner, and a twentieth of their mean cost."""
    torch.manual_seed(0)
    x, y = torch.rand(num, dim, device=device), torch.rand(num, dim, device=device).square()
    epsilon = 0.05 * (x.var(0) + y.var(0) + (x.mean(0) - y.mean(0)) ** 2).sum().item()
    return x.requires_grad_(), y, epsilon


def _clock(device: torch.device) -> Callable[[], float]:
    """Of work on one thread what other processes take is left out."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.thread_time if alone else time.perf_counter


def _costs(x: Tensor, y: Tensor) -> Tensor:
    return x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x @ y.T


def _dense_soft_minimum(costs: Tensor, potential: Tensor, epsilon: float) -> Tensor:
    return -epsilon * torch.logsumexp((potential - costs) / epsilon, 1)


def _of_points(x: Tensor, y: Tensor, logs: Tensor, epsilon: float) -> Tensor:
    return _dense_soft_minimum(_costs(x, y), epsilon * logs, epsilon)


def _of_rows(x: Tensor, y: Tensor, logs: Tensor, epsilon: float) -> Tensor:
    """The same of as many rows as stay in a cache, in place."""
    scale = math.log2(math.e) / epsilon  # powers of two take a third of the time of powers of e
    columns = logs * math.log2(math.e) - scale * y.square().sum(1)
    exponents = torch.addmm(columns, x, y.T, alpha=2 * scale)
    largest = exponents.amax(1, keepdim=True)
    total = exponents.sub_(largest).exp2_().sum(1)
    minimum = total.log2_().add_(largest[:, 0]).mul_(-1 / scale)
    return minimum.add_(x.square().sum(1))


def _gradients_of_rows(
    x: Tensor, y: Tensor, u: Tensor, v: Tensor, epsilon: float
) -> tuple[Tensor, ...]:
    """Of Σ m by the rows, by y and by the weights, with the shares exp(u + v − C/ε)."""
    columns = v - y.square().sum(1) / epsilon
    rows = (u - x.square().sum(1) / epsilon)[:, None]
    shares = torch.addmm(columns, x, y.T, alpha=2 / epsilon).add_(rows).exp_()
    masses = shares.sum(0)
    by_x = 2 * (shares.sum(1)[:, None] * x - shares @ y)
    return by_x, 2 * (masses[:, None] * y - shares.T @ x), -epsilon * masses


def _streams(num: int) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """Row by row in torch, eager and compiled, in memory that grows with the number of points."""
    rows = max(1, (1 << 18) // num)

    def stream(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda x, *others: torch.cat([function(part, *others) for part in x.split(rows)])

    return stream(_of_rows), stream(torch.compile(_of_rows))


def _step(num: int, dim: int, device: torch.device) -> Case:
    """The first dense forms are given the matrix of costs, which they make once for all steps. A
    step of geomloss's tensorised solver is the dense form."""
    x, y, epsilon = _clouds(num, dim, device)
    x, logs = x.detach(), torch.full((num,), -math.log(num), device=device)
    costs, dense_compiled = _costs(x, y), torch.compile(_dense_soft_minimum)
    eager, compiled = _streams(num)

    def ours(x: Tensor, y: Tensor, logs: Tensor) -> Tensor:
        return soft_minimum(x, y, logs, epsilon=epsilon)

    return Case(
        "transport", "Sinkhorn step", f"{num:,} and {num:,} points, {dim}-D",
        {
            "ours": lambda: ours(x, y, logs),
            "eager": lambda: eager(x, y, logs, epsilon),
            "compiled": lambda: compiled(x, y, logs, epsilon),
            "dense": lambda: _dense_soft_minimum(costs, epsilon * logs, epsilon),
            "dense, compiled": lambda: dense_compiled(costs, epsilon * logs, epsilon),
        },
        elements=num**2,
        error=float64_error(ours, x, y, logs),
        headline=(num, dim) == (10_000, 2),
        clock=_clock(device),
    )  # fmt: skip


def _step_gradients(num: int, dim: int, device: torch.device) -> Case:
    """By both clouds and the weights. The dense forms start from the points, and autograd goes
    through their matrices."""
    x, y, epsilon = _clouds(num, dim, device)
    x, logs = x.detach(), torch.full((num,), -math.log(num), device=device)
    eager, _ = _streams(num)

    def ours(x: Tensor, y: Tensor, logs: Tensor) -> Tensor:
        return soft_minimum(x, y, logs, epsilon=epsilon)

    leaves = tuple(t.clone().requires_grad_() for t in (x, y, logs))
    ones, from_points = torch.ones(num, device=device), torch.compile(_of_points)
    rows = max(1, (1 << 18) // num)

    def gradients(function: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(function(*leaves), leaves, ones)

    def by_rows() -> tuple[Tensor, ...]:
        minimum = eager(x, y, logs, epsilon)
        parts = [
            _gradients_of_rows(part, y, u, logs, epsilon)
            for part, u in zip(x.split(rows), (minimum / epsilon).split(rows), strict=True)
        ]
        by_x, by_y, by_logs = zip(*parts, strict=True)
        return torch.cat(by_x), sum(by_y), sum(by_logs)

    return Case(
        "transport", "Sinkhorn step, forward and backward",
        f"{num:,} and {num:,} points, {dim}-D",
        {
            "ours": lambda: gradients(ours),
            "eager": by_rows,
            "dense": lambda: gradients(partial(_of_points, epsilon=epsilon)),
            "dense, compiled": lambda: gradients(partial(from_points, epsilon=epsilon)),
        },
        elements=num**2,
        error=float64_error(
            lambda *leaves: torch.autograd.grad(ours(*leaves), leaves, ones.to(leaves[0])), *leaves
        ),
        headline=(num, dim) == (10_000, 2),
        clock=_clock(device),
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
