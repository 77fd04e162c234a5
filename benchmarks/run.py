"""Time gencore against pure PyTorch, eager and compiled, and against peers, in one run.

    python benchmarks/run.py [--device cpu|cuda] [--group NAME …] [--quick] [--eager]

Rows go to benchmarks/results/<device>.csv as each group finishes; a group that is run again
replaces its rows, so a run that was cut off goes on with the groups that are missing (--missing).
"""

import argparse
import csv
import os
import re
import subprocess
import sys
import traceback
from dataclasses import replace
from functools import cache
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or torch's profiler writes between the rows

import torch
from harness import Case, copy_bandwidth, device_name, matmul_rate, measure, peak_memory
from registry import GROUPS, cases

import gencore
from gencore.ops._support.extension import native

HERE = Path(__file__).parent
COLUMNS = (
    "commit", "device", "cpu_level", "threads", "torch", "group", "name", "size", "dtype",
    "headline", "elements", "contender", "median_us", "low_us", "high_us", "floor_us",
    "peak_bytes", "error",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--group", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="a smoke run: few sizes, short")
    parser.add_argument(
        "--eager", action="store_true", help="leave out what torch.compile takes minutes to compile"
    )
    parser.add_argument("--seconds", type=float, help="for a case; default: 4, --quick: 0.3")
    parser.add_argument("--missing", action="store_true", help="only groups without rows yet")
    parser.add_argument(
        "--results", type=Path, help="folder of <device>.csv; default: results, for --quick none"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    folder = options.results or (None if options.quick else HERE / "results")
    target = folder / f"{slug(device)}.csv" if folder else None
    rows = read(target) if target and target.exists() else []
    seconds = options.seconds or (0.3 if options.quick else 4.0)
    failed = []

    for group in options.group:
        if options.missing and any(row["group"] == group for row in rows):
            continue
        fresh: list[dict[str, str]] = []
        for case in cases(group, device, options.quick):
            if options.eager:
                kept = {n: call for n, call in case.contenders.items() if "compiled" not in n}
                case = replace(case, contenders=kept)
            try:
                fresh += run(case, device, seconds=seconds)
            except Exception:  # a case that fails is reported, and the others are measured
                traceback.print_exc()
                failed.append(case.title)
            torch.compiler.reset()
        rows = [row for row in rows if row["group"] != group] + fresh
        if target:
            target.parent.mkdir(parents=True, exist_ok=True)
            write(target, rows)
    if target:
        print(f"rows are in {target}; python benchmarks/report.py makes the tables from them")
    if failed:
        raise SystemExit("not measured: " + "; ".join(failed))


def run(case: Case, device: torch.device, *, seconds: float) -> list[dict[str, str]]:
    """Measure a case; one row a contender."""
    with case.context():
        threads = torch.get_num_threads()
        timings = measure(case.contenders, device, seconds=seconds, clock=case.clock)
        peaks = {name: peak_memory(call, device) for name, call in case.contenders.items()}
        error = f"{case.error():.2g}" if case.error else ""
        floors = [case.bytes / copy_bandwidth(device)] if case.bytes else []
        floors += [case.flops / matmul_rate(device)] if case.flops else []
    floor = f"{1e6 * max(floors):.3f}" if floors else ""
    ours = timings["ours"].median
    print(case.title, file=sys.stderr)
    if case.elements and floors:
        each = 1e9 / case.elements
        copy = f"the floor {each * max(floors):.2f}"
        print(f"  {each * ours:.2f} ns an element; {copy}, {threads} threads", file=sys.stderr)
    for name, timing in timings.items():
        ratio = timing.median / ours
        print(f"  {name:<20} {1e6 * timing.median:>12.2f} µs  {ratio:>6.2f}", file=sys.stderr)
    common = {
        "commit": commit(),
        "device": device_name(device),
        "cpu_level": native.cpu_level,
        "threads": str(threads),
        "torch": torch.__version__,
        "group": case.group,
        "name": case.name,
        "size": case.size,
        "dtype": case.dtype,
        "headline": str(int(case.headline)),
        "elements": str(case.elements or ""),
        "floor_us": floor,
    }
    return [
        {
            **common,
            "contender": name,
            "median_us": f"{1e6 * timing.median:.3f}",
            "low_us": f"{1e6 * timing.low:.3f}",
            "high_us": f"{1e6 * timing.high:.3f}",
            "peak_bytes": str(peaks[name]),
            "error": error if name == "ours" else "",
        }
        for name, timing in timings.items()
    ]


def slug(device: torch.device) -> str:
    return re.sub(r"\W+", "-", device_name(device).lower())


@cache
def commit() -> str:
    """The commit measured, "-dirty" where what is measured has changed since; else the version.

    A copy of the tree without .git is named by the variable GENCORE_COMMIT.
    """
    if named := os.environ.get("GENCORE_COMMIT"):
        return named

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(HERE.parent), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        return result.stdout.strip()

    changed = git("diff", "--name-only", "HEAD", "--", "csrc", "gencore", "benchmarks/*.py")
    described = git("describe", "--always")
    return described + ("-dirty" if changed else "") if described else gencore.__version__


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: row["group"]))


if __name__ == "__main__":
    main()
