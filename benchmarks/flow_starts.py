"""What flows on vectors learn from different starts of their networks' last layers.

    python benchmarks/flow_starts.py [--quick] [--seeds 5] [--csv FILE]

Every flow with its default size learns each data set for a fixed number of steps of 256 at the
learning rate 1e-3. The densities of the plane are divided by the standard deviations of their
coordinates; `patches` are 8×8 grey patches of the photographs less their means, with noise of a
level and without the last pixel, `digits` the 8×8 digits with such noise, both divided by one
number. The numbers are held-out nats, the best of those after every tenth of the steps, as stopping
early keeps. Rows that the file holds already are not run again; its table stands beside it. Starts
are those of `started`; with "zero, SiLU" two coordinates, too, are permuted at random.
"""

import argparse
import csv
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from gencore.data import load_density
from gencore.data.images.digits import read_digits
from gencore.data.images.photos import read_photos
from gencore.models import MAF, NICE, CouplingFlow, Flow
from gencore.nn import MLP, AffineCoupling, MaskedAutoregressive, Permutation

HERE = Path(__file__).parent
COLUMNS = ("flow", "start", "data", "seed", "nats", "last")
STEPS = {"two_moons": 800, "twenty_five_gaussians": 1500, "patches": 400, "digits": 300}


def flows(features: int) -> dict[tuple[str, str], Callable[[], nn.Module]]:
    """(flow, start) → what makes it."""

    def coupling(activation: str, start: str) -> Flow:
        flow = CouplingFlow(features, activation=activation)
        return started(flow, start)

    made: dict[tuple[str, str], Callable[[], nn.Module]] = {
        ("CouplingFlow", "zero, SiLU"): lambda: shuffled(coupling("silu", "zero")),
        ("CouplingFlow", "torch's, ReLU"): lambda: coupling("relu", "torch's"),
        ("CouplingFlow", "shifts, ReLU"): lambda: coupling("relu", "shifts"),
        ("CouplingFlow", "shifts, SiLU"): lambda: coupling("silu", "shifts"),
        ("NICE", "zero"): lambda: started(NICE(features), "zero"),
        ("NICE", "shifts"): lambda: started(NICE(features), "shifts"),
    }
    for start in ("zero", "torch's", "shifts"):
        made["MAF", start] = lambda start=start: started(MAF(features), start)
    try:
        import zuko
    except ModuleNotFoundError:
        return made
    widths = (64, 64)
    made["CouplingFlow", "zuko's"] = lambda: zuko.flows.RealNVP(
        features, transforms=8, hidden_features=widths
    )
    made["MAF", "zuko's"] = lambda: zuko.flows.MAF(features, transforms=5, hidden_features=widths)
    return made


@torch.no_grad()
def started(flow: Flow, start: str) -> Flow:
    """The flow with the last layers of its networks at zero, as torch starts them, or, `shifts`,
    with log-scales at zero and shifts as torch starts them, times √(2/D) as `gencore` does."""
    features = flow.event_shape[0]
    for module in flow.modules():
        if isinstance(module, MaskedAutoregressive):
            last, outputs = module.made.linears()[-1], module.made.num_inputs
            shifts, scales = slice(outputs), slice(outputs, None)
        elif isinstance(module, AffineCoupling):
            assert isinstance(module.network, MLP)
            last = module.network.layers[-1]
            assert isinstance(last, nn.Linear)
            outputs = 0 if module.additive else last.out_features // 2
            shifts, scales = slice(outputs, None), slice(outputs)
        else:
            continue
        last.reset_parameters()
        if start == "zero":
            last.weight[shifts], last.bias[shifts] = 0.0, 0.0
        elif start == "shifts":
            last.weight[shifts] *= (2 / features) ** 0.5
            last.bias[shifts] *= (2 / features) ** 0.5
        if start != "torch's":
            last.weight[scales], last.bias[scales] = 0.0, 0.0
    return flow


def shuffled(flow: Flow) -> Flow:
    """Two coordinates, too, permuted at random."""
    for module in flow.modules():
        if isinstance(module, Permutation):
            module.order.copy_(torch.randperm(module.order.numel()))
            module.inverse_order.copy_(module.order.argsort())
    return flow


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


def fit(make: Callable[[], nn.Module], name: str, seed: int, steps: int) -> tuple[float, float]:
    """The best held-out mean log-density, and the last."""
    batch, test, _ = data(name, seed)
    torch.manual_seed(seed)
    flow = make()
    optimizer = torch.optim.Adam(flow.parameters(), 1e-3, fused=True)
    values = []
    for step in range(1, steps + 1):
        loss = -flow().log_prob(batch()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(steps // 10, 1) == 0:
            with torch.no_grad():
                values.append(flow().log_prob(test).mean().item())
    return max(values), values[-1]


@torch.no_grad()
def deep() -> str:
    """Fresh flows of 32 layers on 64 numbers of scale 10: log-density a number, and round trip."""
    lines = [
        "| 32 layers, scale 10 | start | log-density | error of the round trip |",
        "|---" * 4 + "|",
    ]
    x = 10 * torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    for kind in (CouplingFlow, MAF):
        for start in ("zero", "torch's", "shifts"):
            torch.manual_seed(0)
            flow = started(kind(64, num_layers=32), start)
            error = (flow.transform.inverse(flow.transform(x)[0])[0] - x).abs().max()
            value = flow.log_prob(x).mean() / 64
            lines.append(f"| {kind.__name__} | {start} | {value:.3g} | {error:.1g} |")
    return "\n".join(lines) + "\n"


def table(rows: list[dict[str, str]]) -> str:
    """Mean and, in brackets, standard deviation over the seeds, of every flow and start."""
    names = [name for name in STEPS if any(row["data"] == name for row in rows)]
    lines = ["| flow | start | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for flow, start in dict.fromkeys((row["flow"], row["start"]) for row in rows):
        cells = []
        for name in names:
            values = [
                float(row["nats"])
                for row in rows
                if (row["flow"], row["start"], row["data"]) == (flow, start, name)
            ]
            spread = f" ({statistics.stdev(values):.2f})" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}" if values else "")
        lines.append(f"| {flow} | {start} | " + " | ".join(cells) + " |")
    true = [data(name, 0)[2] for name in names]
    lines.append(
        "| the density itself | | "
        + " | ".join("" if value is None else f"{value:.2f}" for value in true)
        + " |"
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run that writes nothing")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--csv", type=Path, default=HERE / "results" / "flow_starts" / "cpu.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, str]] = []
    if options.csv.exists() and not options.quick:
        with options.csv.open(newline="") as file:
            rows = list(csv.DictReader(file))
    have = {(row["flow"], row["start"], row["data"], row["seed"]) for row in rows}
    for seed in range(1 if options.quick else options.seeds):
        for name, steps in STEPS.items():
            features = data(name, seed)[1].shape[1]
            for (flow, start), make in flows(features).items():
                if (flow, start, name, str(seed)) in have:
                    continue
                nats, last = fit(make, name, seed, 10 if options.quick else steps)
                values = (flow, start, name, str(seed), f"{nats:.4f}", f"{last:.4f}")
                rows.append(dict(zip(COLUMNS, values, strict=True)))
                print(*values, flush=True)
                if not options.quick:
                    options.csv.parent.mkdir(parents=True, exist_ok=True)
                    with options.csv.open("w", newline="") as file:
                        writer = csv.DictWriter(file, COLUMNS)
                        writer.writeheader()
                        writer.writerows(rows)
    text = f"{table(rows)}\n{deep()}"
    print(text)
    if not options.quick:
        options.csv.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
