"""How cost grows: with chains, dimensions, image size, steps and depth, and over processes.

    python benchmarks/scaling.py [--csv FILE] [--quick]

Strong scaling shares a fixed number of chains among the processes, weak scaling gives each its
own; a process runs one thread, and its chains are the ones a single process would have run.
"""

import argparse
import csv
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or torch's profiler writes between the rows

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from harness import measure, peak_memory

from gencore.models import ConvEnergy, Glow, ShortRunEBM
from gencore.nn import (
    ActNorm,
    AffineCoupling,
    Compose,
    ConvConditioner,
    InvertibleConv1x1,
    Reversible,
    Transform,
)
from gencore.samplers import Langevin

HERE = Path(__file__).parent
COLUMNS = ("curve", "value", "processes", "median_ms", "per_unit_us", "peak_bytes")


def seconds(call: Callable[[], object], repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def growth(quick: bool) -> Iterator[dict[str, object]]:
    """Time of a chain as one size grows and the others stay."""
    base = {"chains": 64, "dimensions": 16, "steps": 50}
    curves = {"chains": (64, 1024, 16384), "dimensions": (16, 256, 4096), "steps": (50, 200, 800)}
    for curve, values in curves.items():
        for value in values[:2] if quick else values:
            size = {**base, curve: value}
            sampler = Langevin(lambda x: 0.5 * x.square().sum(1), 0.01)
            x = torch.randn(size["chains"], size["dimensions"])
            median = seconds(lambda s=sampler, x=x, n=size["steps"]: s.sample(x, n), 5)
            elements = size["chains"] * size["dimensions"] * size["steps"]
            yield _row(f"chain, {curve}", value, 1, median, median / elements)
    for side in (8, 16) if quick else (8, 16, 32):
        energy = ConvEnergy.preset("mnist" if side == 32 else "digits", image_size=side)
        x = torch.randn(16, 1, side, side)
        median = seconds(lambda e=energy, x=x: Langevin(e, 0.01).sample(x, 10), 3)
        yield _row("image chain, side", side, 1, median, median / (x.numel() * 10))


def flow_growth(quick: bool) -> Iterator[dict[str, object]]:
    """Time and memory of a flow's training step as it gets deeper, and its samples as they grow."""
    x = torch.randn(16, 12, 16, 16)
    for depth in (4,) if quick else (4, 8, 16, 32, 64):
        steps = [step for _ in range(depth) for step in glow_step(12, 64)]

        def training_step(stack: Transform) -> None:
            stack.zero_grad()
            z, log_det = stack(x)
            (z.square().sum() - log_det.sum()).backward()

        kinds = {"plain": Compose, "reversible": Reversible}
        calls = {name: partial(training_step, kind(*steps)) for name, kind in kinds.items()}
        timings = measure(calls, x.device, seconds=0.3 if quick else 6)  # in turn, for their ratio
        for name, call in calls.items():
            median, peak = timings[name].median, peak_memory(call, x.device)
            yield _row(f"{name} flow, steps", depth, 1, median, median / depth, peak)
    for side in (8, 16) if quick else (8, 16, 32, 64):
        glow = Glow((3, side, side), num_levels=2, num_steps=4, hidden_channels=32).eval()
        median = seconds(torch.no_grad()(lambda glow=glow: glow.sample(16)), 5)
        yield _row("Glow samples, side", side, 1, median, median / (16 * 3 * side**2))


def glow_step(channels: int, hidden: int) -> list[Transform]:
    network = ConvConditioner(channels // 2, hidden, channels)
    return [ActNorm(channels), InvertibleConv1x1(channels), AffineCoupling(network)]


def _row(
    curve: str, value: int, processes: int, median: float, unit: float, peak: int | None = None
) -> dict[str, object]:
    return {
        "curve": curve, "value": value, "processes": processes,
        "median_ms": f"{1e3 * median:.3f}", "per_unit_us": f"{1e6 * unit:.5f}",
        "peak_bytes": "" if peak is None else peak,
    }  # fmt: skip


def worker(
    rank: int, processes: int, store: str, weak: bool, training: bool, results: SimpleQueue
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=processes)
    torch.manual_seed(0)
    num = 64 if weak else 128 // processes
    ebm = ShortRunEBM(ConvEnergy.preset("digits"), (1, 8, 8), num_steps=10, step_size=0.05)
    key = torch.tensor([1, 2])
    if training:
        model = torch.nn.parallel.DistributedDataParallel(ebm)
        optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)
        data = torch.rand(num, 1, 8, 8)

        def call() -> None:
            optimizer.zero_grad()
            model(data, ebm.start(num, key=key, first=rank * num), key=key).loss.backward()
            optimizer.step()
    else:

        def call() -> None:
            ebm.sample(num, key=key, first=rank * num)
            dist.barrier()

    median = seconds(call, 7)
    if rank == 0:
        results.put(median)
    dist.destroy_process_group()


def processes(quick: bool) -> Iterator[dict[str, object]]:
    context = mp.get_context("spawn")
    for training in (False, True):
        for weak in (False,) if quick else (False, True):
            for count in (1, 2):
                results = context.SimpleQueue()
                with tempfile.TemporaryDirectory() as folder:
                    arguments = (count, f"{folder}/store", weak, training, results)
                    mp.spawn(worker, arguments, nprocs=count)
                median = results.get()
                chains = 64 * count if weak else 128
                name = f"{'training' if training else 'sampling'}, {'weak' if weak else 'strong'}"
                yield _row(f"{name} scaling, chains", chains, count, median, median / chains)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    parser.add_argument("--csv", type=Path, default=HERE / "results" / "scaling" / "cpu.csv")
    options = parser.parse_args()
    rows = [*growth(options.quick), *flow_growth(options.quick), *processes(options.quick)]
    for row in rows:
        print(
            "  ".join(
                f"{row[column]!s:<32}" if column == "curve" else f"{row[column]!s:>10}"
                for column in COLUMNS
            )
        )
    if not options.quick:
        options.csv.parent.mkdir(parents=True, exist_ok=True)
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
