"""Streamed measures are those of everything at once, in any cut and on any process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from testing.ranks import call_on_ranks
from torch import Tensor, nn

from gencore import metrics

pytest.importorskip("torchmetrics")
pytest.importorskip("sklearn")

DOUBLE = {"dtype": torch.float64}
MODES = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])


def randn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def sets() -> list[tuple[tuple[Tensor, ...], dict[str, bool]]]:
    """Real and generated features, one after the other in single rows."""
    real, generated = randn(24, 3), randn(24, 3, seed=1) + 0.5
    return [((x,), {"real": True}) for x in real] + [((y,), {"real": False}) for y in generated]


def logits() -> list[tuple[tuple[Tensor, ...], dict[str, bool]]]:
    return [((row,), {}) for row in 3 * randn(24, 5)]


def scores() -> list[tuple[tuple[Tensor, ...], dict[str, bool]]]:
    data, elsewhere = randn(24), randn(24, seed=1) + 0.5
    return [((x,), {"out_of_distribution": False}) for x in data] + [
        ((y,), {"out_of_distribution": True}) for y in elsewhere
    ]


def pairs() -> list[tuple[tuple[Tensor, ...], dict[str, bool]]]:
    x, y = torch.rand(2, 12, 3, 12, 12, generator=torch.Generator().manual_seed(0)).double()
    return [((a, b), {}) for a, b in zip(x, y, strict=True)]


def points() -> list[tuple[tuple[Tensor, ...], dict[str, bool]]]:
    return [((row,), {}) for row in randn(24, 2)]


def columns(items: list) -> list[Tensor]:
    return [torch.stack(column) for column in zip(*(tensors for tensors, _ in items), strict=True)]


def all_at_once(data: Callable[[], list], key: str | None = None) -> list[Tensor]:
    """What the functional form takes: the columns of the data, or its two sets."""
    items = data()
    if key is None:
        return columns(items)
    return [
        torch.stack([tensors[0] for tensors, flags in items if flags[key] == which])
        for which in ((True, False) if key == "real" else (False, True))
    ]


CASES: dict[str, tuple[Callable[[], Any], Callable[[], list], Callable[[], Any]]] = {
    "frechet": (
        metrics.StreamingFrechetDistance,
        sets,
        lambda: metrics.frechet_distance(*all_at_once(sets, "real")),
    ),
    "kernel": (
        lambda: metrics.StreamingKernelDistance(kernel=metrics.GaussianKernel(1.0), **DOUBLE),
        sets,
        lambda: metrics.kernel_distance(
            *all_at_once(sets, "real"), kernel=metrics.GaussianKernel(1.0)
        ),
    ),
    "precision_recall": (
        lambda: metrics.StreamingPrecisionRecall(k=2, **DOUBLE),
        sets,
        lambda: metrics.precision_recall(*all_at_once(sets, "real"), k=2)._asdict(),
    ),
    "density_coverage": (
        lambda: metrics.StreamingDensityCoverage(k=2, **DOUBLE),
        sets,
        lambda: metrics.density_coverage(*all_at_once(sets, "real"), k=2)._asdict(),
    ),
    "inception": (
        lambda: metrics.StreamingInceptionScore(5),
        logits,
        lambda: metrics.inception_score(*all_at_once(logits)),
    ),
    "tweaked": (
        lambda: metrics.StreamingTweakedInceptionScore(5, min_log_prob=-4.0),
        logits,
        lambda: metrics.tweaked_inception_score(*all_at_once(logits), min_log_prob=-4.0),
    ),
    "modes": (
        lambda: metrics.StreamingModeCoverage(MODES, 1.0),
        points,
        lambda: {
            k: v
            for k, v in metrics.mode_coverage(*all_at_once(points), MODES, 1.0)._asdict().items()
            if k != "counts"
        },
    ),
    "detection": (
        metrics.StreamingDetection,
        scores,
        lambda: metrics.detection_scores(*all_at_once(scores, "out_of_distribution"))._asdict(),
    ),
    "psnr": (
        metrics.StreamingPSNR,
        pairs,
        lambda: metrics.psnr(*all_at_once(pairs)).mean().item(),
    ),
    "ssim": (
        lambda: metrics.StreamingSSIM(channels="luma"),
        pairs,
        lambda: metrics.ssim(*all_at_once(pairs), channels="luma").mean().item(),
    ),
    "sharpness": (
        lambda: metrics.StreamingSharpnessDifference(variant="released"),
        pairs,
        lambda: metrics.sharpness_difference(*all_at_once(pairs), variant="released").mean().item(),
    ),
}


def feed(metric: Any, items: list, size: int) -> None:
    """Give the items in batches of at most `size`, those of equal flags together."""
    start = 0
    while start < len(items):
        stop = start
        while stop < min(len(items), start + size) and items[stop][1] == items[start][1]:
            stop += 1
        metric.update(*columns(items[start:stop]), **items[start][1])
        start = stop


def plain(result: Any) -> Any:
    if isinstance(result, dict):
        return {name: float(value) for name, value in result.items()}
    return float(result)


@pytest.mark.parametrize("case", CASES)
def test_streaming_is_all_at_once(case: str) -> None:
    make, data, expected = CASES[case]
    metric = make()
    for size in (5, 1000):
        feed(metric, data(), size)
        result = plain(metric.compute())
        assert result == pytest.approx(expected(), rel=1e-10)
        metric.reset()
    # torchmetrics warns, and what is missing is then named.
    with pytest.warns(UserWarning, match="before"), pytest.raises(ValueError, match=r"seen|least"):
        metric.compute()


def test_prd_is_streamed() -> None:
    metric = metrics.StreamingPRD(num_runs=2, **DOUBLE)
    real, generated = randn(60, 2), randn(60, 2, seed=1) + 1
    for part in range(0, 60, 25):
        metric.update(real[part : part + 25], real=True)
        metric.update(generated[part : part + 25], real=False)
    curve = metrics.prd(real, generated, num_runs=2)
    assert plain(metric.compute()) == pytest.approx(
        {"f8": curve.f8, "f_eighth": curve.f_eighth, "auc": curve.auc}
    )


@pytest.mark.parametrize("kind", ["StreamingFrechetDistance", "StreamingKernelDistance"])
def test_the_reference_may_stay(kind: str) -> None:
    metric = getattr(metrics, kind)(reset_real=False)
    real, generated = randn(20, 3), randn(20, 3, seed=1) + 0.5
    metric.update(real, real=True)
    metric.update(real + 1, real=False)
    metric.reset()
    metric.update(generated, real=False)
    kept = plain(metric.compute())
    fresh = getattr(metrics, kind)()
    fresh.update(real, real=True)
    fresh.update(generated, real=False)
    assert kept == plain(fresh.compute())


def test_a_module_as_features_is_left_in_its_dtype() -> None:
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    metric = metrics.StreamingFrechetDistance(module)
    x, y = randn(20, 3).float(), randn(20, 3, seed=1).float()
    metric.update(x, real=True)
    metric.update(y, real=False)
    assert module.weight.dtype == torch.float32
    assert metric.compute().item() == pytest.approx(metrics.frechet_distance(x, y, module))


def test_bad_updates() -> None:
    for kind in ("StreamingFrechetDistance", "StreamingPrecisionRecall"):
        metric = getattr(metrics, kind)()
        metric.update(torch.zeros(2, 3), real=True)
        with pytest.raises(ValueError, match="dimension 4, expected 3"):
            metric.update(torch.zeros(2, 4), real=True)
    with pytest.raises(ValueError, match=r"^StreamingInceptionScore\.update: logits of 4 classes"):
        metrics.StreamingInceptionScore(3).update(torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"^StreamingDetection\.update: scores"):
        metrics.StreamingDetection().update(torch.zeros(2, 2), out_of_distribution=True)


def worker(folder: Path) -> None:
    dist.init_process_group("gloo")
    rank, results = dist.get_rank(), {}
    for name, (make, data, _) in CASES.items():
        metric = make()
        items = data()
        # The second process has the first quarter of the data and nothing of the second kind.
        share = items[len(items) // 4 :] if rank == 0 else items[: len(items) // 4]
        feed(metric, share, 5)
        results[name] = plain(metric.compute())
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_measure_what_one_measures(tmp_path: Path) -> None:
    call_on_ranks(worker, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, (_, _, expected) in CASES.items():
        assert first[name] == second[name] == pytest.approx(expected(), rel=1e-10), name
