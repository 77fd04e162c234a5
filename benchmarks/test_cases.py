"""Every contender of every case under pytest-benchmark, to compare a commit with an earlier one.

    pytest benchmarks --quick -k ours --benchmark-autosave
    pytest benchmarks --quick -k ours --benchmark-compare --benchmark-compare-fail=median:20%

run.py, which lets the contenders take turns, is what compares ours with others.
"""

import torch
from harness import Case, synchronize
from pytest_benchmark.fixture import BenchmarkFixture


def test_case(
    benchmark: BenchmarkFixture, case: Case, contender: str, device: torch.device
) -> None:
    call = case.contenders[contender]

    def finished() -> None:
        call()
        synchronize(device)

    benchmark.name = contender
    benchmark.group = f"{case.group}: {case.title}"
    with case.context():
        finished()  # compiles, allocates, warms the caches
        benchmark(finished)
