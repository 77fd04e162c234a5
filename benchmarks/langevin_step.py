"""langevin_step against pure PyTorch, eager and compiled, side by side in one run.

    python benchmarks/langevin_step.py [--device cpu|cuda] [--csv FILE] [--quick]

The contenders of a row are timed in turn, A B C A B C …, and compared by their medians, so that the
machine's other loads fall on all of them. Times are per call; the floor is one pass over the same
memory (read two tensors, write one).
"""

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import gencore._C
from gencore.ops import langevin_step, langevin_step_, random_key

STEP, NOISE = 0.01, 0.1
COLUMNS = (
    "form", "elements", "dtype", "device", "threads", "cpu_level", "torch",
    "ours_us", "eager_us", "compiled_us", "floor_us",
    "eager_over_ours", "compiled_over_ours", "ours_over_floor",
)  # fmt: skip


def interleaved(
    contenders: dict[str, Callable[[], object]], device: torch.device, budget: float
) -> dict[str, float]:
    """Median seconds a call, over rounds that give each contender its turn."""

    def measure(call: Callable[[], object], repeats: int) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / repeats

    repeats = {}
    for name, call in contenders.items():
        measure(call, 3)
        repeats[name] = max(1, int(2e-3 / max(measure(call, 3), 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(times[next(iter(times))]) < 5:
        for name, call in contenders.items():
            times[name].append(measure(call, repeats[name]))
    return {name: statistics.median(values) for name, values in times.items()}


def row(form: str, elements: int, device: torch.device, budget: float) -> dict[str, object]:
    x = torch.randn(elements, device=device)
    grad = torch.randn(elements, device=device)
    out = torch.empty_like(x)
    key = random_key(device=device)

    def eager_functional() -> torch.Tensor:
        return x - STEP * grad + NOISE * torch.randn_like(x)

    def eager_in_place() -> torch.Tensor:
        return x.add_(grad, alpha=-STEP).add_(torch.randn_like(x), alpha=NOISE)

    eager = eager_functional if form == "functional" else eager_in_place
    ours: dict[str, Callable[[], object]] = {
        "functional": lambda: langevin_step(x, grad, STEP, NOISE),
        "in place": lambda: langevin_step_(x, grad, STEP, NOISE),
        "in place, chain's key": lambda: langevin_step_(x, grad, STEP, NOISE, key=key),
    }
    torch.compiler.reset()
    contenders: dict[str, Callable[[], object]] = {
        "ours": ours[form],
        "eager": eager,
        "compiled": torch.compile(eager),
        "floor": lambda: torch.add(x, grad, out=out),
    }
    with torch.no_grad():
        seconds = interleaved(contenders, device, budget)
    return {
        "form": form,
        "elements": elements,
        "dtype": "float32",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "cpu_level": gencore._C.cpu_level,
        "torch": torch.__version__,
        **{f"{name}_us": round(1e6 * value, 3) for name, value in seconds.items()},
        "eager_over_ours": round(seconds["eager"] / seconds["ours"], 2),
        "compiled_over_ours": round(seconds["compiled"] / seconds["ours"], 2),
        "ours_over_floor": round(seconds["ours"] / seconds["floor"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--csv", type=Path, help="also write the rows here")
    parser.add_argument("--quick", action="store_true", help="a smoke run: few sizes, short")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    large = [1 << 20] if options.quick else [1 << 20, 1 << 22, 1 << 24]
    large += [1 << 26] if device.type == "cuda" and not options.quick else []
    small = [64] if options.quick else [64, 256, 1024]
    budget = 0.2 if options.quick else 2.0

    rows = [row("functional", n, device, budget) for n in large]
    rows += [
        row(form, n, device, budget)
        for form in ("in place", "in place, chain's key")
        for n in small
    ]
    print("| form | elements | ours, µs | ns/element | eager/ours | compiled/ours | ours/floor |")
    print("|---|---|---|---|---|---|---|")
    for r in rows:
        per_element = 1e3 * float(str(r["ours_us"])) / int(str(r["elements"]))
        print(
            f"| {r['form']} | {r['elements']:,} | {r['ours_us']} | {per_element:.2f} "
            f"| {r['eager_over_ours']} | {r['compiled_over_ours']} | {r['ours_over_floor']} |"
        )
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
