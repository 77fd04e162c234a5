"""Where the time of a PixelRNN layer goes: eager, compiled, and what a native loop could reach.

``python benchmarks/pixel_rnn.py`` runs forward and backward passes of a residual LSTM layer of 32
channels on 16 images of 28×28, on one thread, and prints the CPU seconds of the process, least of
several runs, as milliseconds:

- eager: the layer as it is;
- compiled: the same under ``torch.compile``, after the time that compiling takes (``--compile``);
- recurrence: its loop alone, eager;
- matmuls: the matrix products of the loop's steps alone, of both passes;
- cell: the arithmetic of all steps' cells at once, as one compiled kernel of each pass.

No loop that is compiled by hand takes less than the last two together. Then the CPU seconds of 16
samples of 16×16 pixels from two layers, by both methods.
"""

import argparse
import time
from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor, nn

from gencore.models import PixelRNN
from gencore.models.autoregressive.image_model import SamplingMethod
from gencore.models.autoregressive.pixel_rnn import LSTMCell, ResidualLSTM
from gencore.nn import DiagonalBiLSTM, RowLSTM
from gencore.nn.causal.diagonal_bilstm import diagonal_spans
from gencore.nn.causal.lstm_scan import lstm_cell, lstm_scan

NUM, CHANNELS, SIDE = 16, 32, 28


def least(run: Callable[[], object], repeats: int = 15) -> float:
    """CPU milliseconds of the process."""
    run()
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def both_passes(function: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], object]:
    def run() -> object:
        y = function(*inputs)
        y.sum().backward()
        return y

    return run


def matmuls(spans: list[tuple[int, int]], directions: int, taps: int) -> Callable[[], object]:
    weight = torch.randn(directions, taps * CHANNELS, 4 * CHANNELS)
    lines = []
    for first, last in spans:
        rows = (last - first) * NUM
        lines.append(
            (
                torch.randn(directions, rows, taps * CHANNELS),
                torch.randn(directions, rows, 4 * CHANNELS),
            )
        )

    def run() -> object:
        return [(x @ weight, grad @ weight.mT, x.mT @ grad) for x, grad in lines]

    return run


def measure(name: str, compile_layer: bool) -> None:
    row = name == "row LSTM"
    lstm = RowLSTM(2 * CHANNELS, CHANNELS) if row else DiagonalBiLSTM(2 * CHANNELS, CHANNELS)
    layer: nn.Module = ResidualLSTM(lstm, CHANNELS, 1)
    x = torch.randn(NUM, 2 * CHANNELS, SIDE, SIDE, requires_grad=True)
    spans = [(0, SIDE)] * SIDE if row else diagonal_spans(SIDE, SIDE)
    offsets = range(-1, 2) if row else (-1, 0)
    directions = 1 if row else 2
    gates = torch.randn(directions, SIDE**2, NUM, 4 * CHANNELS, requires_grad=True)
    c = torch.randn(directions, SIDE**2, NUM, CHANNELS, requires_grad=True)
    fused = torch.compile(lambda gates, c: sum(lstm_cell(gates, c)))
    times = {
        "eager": least(both_passes(layer, x, None)),
        "recurrence": least(
            both_passes(lambda g, u: lstm_scan(g, u, spans, offsets), gates, lstm.state_to_state)
        ),
        "matmuls": least(matmuls(spans, directions, len(offsets))),
        "cell": least(both_passes(fused, gates, c)),
    }
    print(name, {key: round(value, 1) for key, value in times.items()}, flush=True)
    if compile_layer:
        start = time.perf_counter()
        compiled = least(both_passes(torch.compile(layer), x, None))
        print(name, f"compiled {compiled:.1f}, {time.perf_counter() - start:.0f} s with compiling")


def sampling(cell: LSTMCell) -> None:
    model = PixelRNN((1, 16, 16), CHANNELS, 2, cell=cell, levels=16)
    seconds = {}
    for method in get_args(SamplingMethod):
        start = time.process_time()
        model.sample(NUM, method=method)
        seconds[method] = round(time.process_time() - start, 2)
    print("samples", cell, seconds, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--compile", action="store_true", help="compile the layers too; minutes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in ("row LSTM", "diagonal BiLSTM"):
        measure(name, arguments.compile)
    for cell in get_args(LSTMCell):
        sampling(cell)
