"""Whole coupling flows on vectors, trained and sampled, beside those of peers."""

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import torch
from harness import Case, float64_error, in_reference, references
from torch import Tensor, nn

from gencore.models import Flow
from gencore.nn import MLP, AffineCoupling, Compose
from gencore.ops import random_key

FEATURES, COUPLINGS, WIDTHS = 64, 8, (128, 128)


class Peer(NamedTuple):
    module: nn.Module
    log_prob: Callable[[Tensor], Tensor]
    sample: Callable[[int], Tensor]


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    for rows in (256,) if quick else (256, 4096):
        flows = {"ours": _ours(), **_peers()}
        for peer in flows.values():
            peer.module.to(device)
        size = f"{rows:,} rows of {FEATURES}, {COUPLINGS} couplings of width {WIDTHS[0]}"
        yield _training(rows, size, flows, device)
        yield _sampling(rows, size, flows)


def _ours() -> Peer:
    half = FEATURES // 2
    layers = [
        AffineCoupling(MLP(half, WIDTHS, FEATURES, activation="relu"), swap=bool(i % 2))
        for i in range(COUPLINGS)
    ]
    flow = Flow(Compose(*layers), [FEATURES])
    return Peer(flow, flow.log_prob, flow.sample)


def _peers() -> dict[str, Peer]:
    """Flows of as many couplings with networks of the same widths; their scales differ."""
    found = {}
    if find_spec("zuko"):
        import zuko

        flow = zuko.flows.RealNVP(FEATURES, transforms=COUPLINGS, hidden_features=WIDTHS)
        found["zuko"] = Peer(flow, lambda x: flow().log_prob(x), lambda num: flow().sample((num,)))
    if find_spec("normflows"):
        import normflows

        half, layers = FEATURES // 2, []
        for _ in range(COUPLINGS):
            network = normflows.nets.MLP([half, *WIDTHS, FEATURES], init_zeros=True)
            layers += [
                normflows.flows.AffineCouplingBlock(network),
                normflows.flows.Permute(FEATURES, mode="swap"),
            ]
        base = normflows.distributions.DiagGaussian(FEATURES, trainable=False)
        model = normflows.NormalizingFlow(base, layers)
        found["normflows"] = Peer(model, model.log_prob, lambda num: model.sample(num)[0])
    return found


def _training(rows: int, size: str, flows: dict[str, Peer], device: torch.device) -> Case:
    x = torch.randn(rows, FEATURES, device=device)

    def step(flow: Peer) -> Callable[[], None]:
        def run() -> None:
            flow.module.zero_grad()
            (-flow.log_prob(x).mean()).backward()

        return run

    contenders = {name: step(flow) for name, flow in flows.items()}
    compiled = step(flows["ours"]._replace(log_prob=torch.compile(flows["ours"].log_prob)))
    contenders |= {
        "ours, compiled": compiled,
        "reference": in_reference(contenders["ours"]),
        "reference, compiled": in_reference(compiled),
    }
    return Case(
        "coupling-flow", "coupling flow, forward and backward", size, contenders,
        error=float64_error(Flow.log_prob, flows["ours"].module, x),
        headline=rows == 4096,
    )  # fmt: skip


def _sampling(rows: int, size: str, flows: dict[str, Peer]) -> Case:
    contenders = {name: lambda flow=flow: flow.sample(rows) for name, flow in flows.items()}
    contenders |= references(contenders["ours"])
    ours = flows["ours"].module
    key = random_key(device=next(ours.parameters()).device)
    return Case(
        "coupling-flow", "coupling flow, samples", size, contenders,
        error=float64_error(partial(Flow.sample, num=rows, key=key), ours),
        context=torch.no_grad,
    )  # fmt: skip
