"""Flows on vectors fitted to the same data: held-out likelihoods in one file and one table.

Every flow learns each data set for a fixed number of steps of 256 at the learning rate 1e-3. The
densities of the plane are divided by the standard deviations of their coordinates; `patches` are
8×8 grey patches of the photographs less their means, with noise of a level and without the last
pixel, `digits` the 8×8 digits with such noise, both divided by one number. The numbers are held-out
nats, the best of those after every tenth of the steps, as stopping early keeps, and seconds of one
core that a thousand steps take.
"""

import csv
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.data import load_density
from gencore.data.images.digits import read_digits
from gencore.data.images.photos import read_photos

__all__ = ["Fit", "FitTable", "Key", "Make", "data"]

STEPS = {"two_moons": 800, "twenty_five_gaussians": 1500, "patches": 400, "digits": 300}
_COLUMNS = ("flow", "variant", "data", "seed", "nats", "last", "seconds")
_QUICK_STEPS = 10

Key = tuple[str, str]
"""A flow and its variant."""
Make = Callable[[], nn.Module]
"""Makes a module that, called, has `log_prob`."""


class Fit(NamedTuple):
    """What training gave."""

    nats: float
    """The best held-out mean log-density."""
    last: float
    """That after the last step."""
    seconds: float
    """Of one core, a thousand steps."""


def data(name: str, seed: int) -> tuple[Callable[[], Tensor], Tensor, float | None]:
    """What draws a batch, held-out rows, and the true mean log-density of these."""
    generator = torch.Generator().manual_seed(seed)
    if name in ("two_moons", "twenty_five_gaussians"):
        density = load_density(name)
        x = density.sample(400_000, key=torch.tensor([seed, 0]))
        test = density.sample(20_000, key=torch.tensor([0x7E57, 0]))
        std = density.sample(100_000, key=torch.tensor([0x7E57, 1])).std(0)
        true = (density.log_prob(test).mean() + std.log().sum()).item()
        train, test = x / std, test / std
    else:
        read = read_digits if name == "digits" else lambda part: read_photos(part, 8)
        noise, parts = torch.Generator().manual_seed(0), []
        for part in ("train", "test"):
            grey = read(part)[0].float().mean(1).flatten(1)
            if name == "digits":
                grey = (grey * 16 / 255).round()  # its levels
            grey = grey + torch.rand(grey.shape, generator=noise)
            parts.append(grey if name == "digits" else (grey - grey.mean(1, keepdim=True))[:, :-1])
        mean, std, true = parts[0].mean(0), parts[0].std(), None
        train, test = ((part - mean) / std for part in parts)
    return lambda: train[torch.randint(len(train), (256,), generator=generator)], test, true


def fit(make: Make, name: str, seed: int, steps: int) -> Fit:
    """A flow trained on the data of that name."""
    batch, test, _ = data(name, seed)
    torch.manual_seed(seed)
    flow = make()
    optimizer = torch.optim.Adam(flow.parameters(), 1e-3, fused=True)
    values, seconds = [], 0.0
    for step in range(1, steps + 1):
        start = time.process_time()
        loss = -flow().log_prob(batch()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds += time.process_time() - start
        if step % max(steps // 10, 1) == 0:
            with torch.no_grad():
                values.append(flow().log_prob(test).mean().item())
    return Fit(max(values), values[-1], 1000 * seconds / steps)


class FitTable:
    """Fits that stand in a file, which those that are missing are added to.

    Args:
        path: of the file; without one, as in a smoke run, nothing is kept, and fits are of a few
            steps.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: list[dict[str, str]] = []
        if path is not None and path.exists():
            with path.open(newline="") as file:
                self._rows = list(csv.DictReader(file))

    def complete(self, flows: Callable[[int], Mapping[Key, Make]], seeds: Iterable[int]) -> None:
        """Fit what the file does not have.

        Args:
            flows: the number of coordinates → what makes the flows.
            seeds: of weights and batches.
        """
        have = {tuple(row[name] for name in _COLUMNS[:4]) for row in self._rows}
        for seed in seeds:
            for name, steps in STEPS.items():
                features = data(name, seed)[1].shape[1]
                for (flow, variant), make in flows(features).items():
                    if (flow, variant, name, str(seed)) in have:
                        continue
                    fitted = fit(make, name, seed, _QUICK_STEPS if self._path is None else steps)
                    numbers = (f"{fitted.nats:.4f}", f"{fitted.last:.4f}", f"{fitted.seconds:.2f}")
                    values = (flow, variant, name, str(seed), *numbers)
                    print(*values, flush=True)
                    self._rows.append(dict(zip(_COLUMNS, values, strict=True)))
                    self._write()

    def markdown(
        self, variant: str, keys: Iterable[Key] | None = None, *, times: bool = False
    ) -> str:
        """Mean and, in brackets, standard deviation over the seeds, of every flow and variant.

        Args:
            variant: what a variant is called.
            keys: the rows; all without it.
            times: add seconds of a thousand steps, means over the seeds.
        """
        names = [name for name in STEPS if any(row["data"] == name for row in self._rows)]
        heads = [*names, *(f"{name}, s" for name in names if times)]
        lines = [
            f"| flow | {variant} | " + " | ".join(heads) + " |",
            "|---" * (2 + len(heads)) + "|",
        ]
        for key in keys or dict.fromkeys((row["flow"], row["variant"]) for row in self._rows):
            cells = [_spread(self._values(key, name, "nats"), 2) for name in names]
            if times:
                cells += [_mean(self._values(key, name, "seconds"), 1) for name in names]
            lines.append(f"| {' | '.join((*key, *cells))} |")
        true = [data(name, 0)[2] for name in names]
        cells = ["" if value is None else f"{value:.2f}" for value in true]
        cells += [""] * (len(heads) - len(names))
        lines.append(f"| the density itself | | {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"

    def _values(self, key: Key, name: str, column: str) -> list[float]:
        return [
            float(row[column])
            for row in self._rows
            if (row["flow"], row["variant"], row["data"]) == (*key, name) and row.get(column)
        ]

    def _write(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("w", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)


def _mean(values: list[float], digits: int) -> str:
    return f"{statistics.mean(values):.{digits}f}" if values else ""


def _spread(values: list[float], digits: int) -> str:
    spread = f" ({statistics.stdev(values):.{digits}f})" if len(values) > 1 else ""
    return _mean(values, digits) + spread
