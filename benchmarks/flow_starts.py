"""What flows on vectors learn from different starts of their networks' last layers.

    python benchmarks/flow_starts.py [--quick] [--seeds 5] [--csv FILE]

Every flow has its default size, and fixed permutations between its layers; data, steps and numbers
are those of `flow_fits`. Rows that the file holds already are not run again; its table stands
beside it. Starts are those of `started`; with "zero, SiLU" two coordinates, too, are permuted at
random.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from flow_fits import FitTable
from torch import nn

from gencore.models import MAF, NICE, CouplingFlow, Flow
from gencore.nn import MLP, AffineCoupling, MaskedAutoregressive, Permutation

HERE = Path(__file__).parent


def flows(features: int) -> dict[tuple[str, str], Callable[[], nn.Module]]:
    """(flow, start) → what makes it."""

    def coupling(activation: str, start: str) -> Flow:
        flow = CouplingFlow(features, activation=activation, mixing="permutation")
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
        made["MAF", start] = lambda start=start: started(MAF(features, mixing="reverse"), start)
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


@torch.no_grad()
def deep() -> str:
    """Fresh flows of 32 layers on 64 numbers of scale 10: log-density a number, and round trip."""
    lines = [
        "| 32 layers, scale 10 | start | log-density | error of the round trip |",
        "|---" * 4 + "|",
    ]
    x = 10 * torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    for kind, mixing in ((CouplingFlow, "permutation"), (MAF, "reverse")):
        for start in ("zero", "torch's", "shifts"):
            torch.manual_seed(0)
            flow = started(kind(64, num_layers=32, mixing=mixing), start)
            error = (flow.transform.inverse(flow.transform(x)[0])[0] - x).abs().max()
            value = flow.log_prob(x).mean() / 64
            lines.append(f"| {kind.__name__} | {start} | {value:.3g} | {error:.1g} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run that writes nothing")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--csv", type=Path, default=HERE / "results" / "flow_starts" / "cpu.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = FitTable(None if options.quick else options.csv)
    table.complete(flows, range(1 if options.quick else options.seeds))
    text = f"{table.markdown('start')}\n{deep()}"
    print(text)
    if not options.quick:
        options.csv.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
