"""Masked autoregressive flows, against passes of their networks and a peer's flows.

The affine layer is timed in its slow direction, the flow of splines in both.
"""

from collections.abc import Callable, Iterator

import torch
from harness import Call, Case, in_reference
from torch import Tensor, nn
from torch.nn import functional

from gencore.models import AutoregressiveSplineFlow
from gencore.nn import MaskedAutoregressive

HIDDEN = (512, 512)
LAYERS, WIDTHS, BINS = 3, (64, 64), 8


def cases(device: torch.device, quick: bool) -> Iterator[Case]:
    sizes = [(64, 64), (64, 256), (1024, 256)]
    for samples, features in sizes[:1] if quick else sizes:
        yield _inverse(samples, features, device)
    for features in (8,) if quick else (2, 8, 64):
        yield from _splines(256, features, device)


def _inverse(samples: int, features: int, device: torch.device) -> Case:
    layer = MaskedAutoregressive(features, HIDDEN).to(device)
    torch.nn.init.normal_(layer.made.linears()[-1].weight, std=0.02)
    z = torch.randn(samples, features, device=device)
    masks = [layer.made.get_buffer(f"mask{k}") for k in range(len(HIDDEN) + 1)]
    linears = layer.made.linears()
    weights = [(linear.weight * mask).detach() for linear, mask in zip(linears, masks, strict=True)]
    biases = [linear.bias.detach() for linear in linears]
    shift, scale = weights[-1].chunk(2)
    shift_bias, scale_bias = biases[-1].chunk(2)

    def hidden(x: Tensor) -> Tensor:
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            x = functional.linear(x, weight, bias).relu_()
        return x

    def eager() -> Tensor:
        """D passes of the hidden layers, of whose outputs one coordinate's two are evaluated."""
        x = torch.zeros_like(z)
        for i in range(features):
            h = hidden(x)
            s = 2 * torch.tanh(torch.mv(h, scale[i]).add_(scale_bias[i]) / 2)
            x[:, i] = z[:, i] * s.exp() + torch.mv(h, shift[i]).add_(shift_bias[i])
        return x

    @torch.compile
    def settle(x: Tensor) -> Tensor:
        m, s = functional.linear(hidden(x), weights[-1], biases[-1]).chunk(2, 1)
        return z * torch.exp(2 * torch.tanh(s / 2)) + m

    def passes() -> Tensor:
        """As the reference: D passes of the network, each of which settles a coordinate more."""
        x = torch.zeros_like(z)
        for _ in range(features):
            x = settle(x)
        return x

    def error() -> float:
        exact = MaskedAutoregressive(features, HIDDEN).to(device).double()
        exact.load_state_dict(layer.state_dict())
        difference = layer.inverse(z)[0].double() - exact.inverse(z.double())[0]
        return difference.abs().max().item()

    return Case(
        "autoregressive-flow", "inverse of MaskedAutoregressive",
        f"{samples:,} samples of {features}, hidden {HIDDEN[0]}, {HIDDEN[1]}",
        {
            "ours": lambda: layer.inverse(z),
            "reference": in_reference(lambda: layer.inverse(z)),
            "eager": eager,
            "reference, compiled": passes,
            **_zuko(z),
        },
        flops=2 * samples * sum(int(mask.sum()) for mask in masks),
        error=error,
        headline=(samples, features) == (64, 256),
        context=torch.no_grad,
    )  # fmt: skip


def _zuko(z: Tensor) -> dict[str, Call]:
    """A layer of the same sizes by zuko, where the optional group of peers is installed."""
    try:
        import zuko
    except ImportError:
        return {}
    flow = zuko.flows.MAF(z.shape[1], transforms=1, hidden_features=HIDDEN).to(z.device)
    transform = flow.transform()
    return {"zuko": lambda: transform.inv(z)}


def _splines(rows: int, features: int, device: torch.device) -> Iterator[Case]:
    """The flow of splines: a step's gradients of the likelihood, and samples."""
    flow = AutoregressiveSplineFlow(
        features, num_layers=LAYERS, hidden_widths=WIDTHS, num_bins=BINS
    ).to(device)
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.2)
    x = torch.randn(rows, features, device=device)

    def gradients(log_prob: Callable[[], Tensor], module: nn.Module) -> Call:
        parameters = list(module.parameters())
        return lambda: torch.autograd.grad(log_prob().sum(), parameters)

    train = {"ours": gradients(lambda: flow.log_prob(x), flow)}
    sample: dict[str, Call] = {"ours": lambda: flow.transform.inverse(x)}
    for contenders in (train, sample):
        contenders["reference"] = in_reference(contenders["ours"])
    try:
        import zuko
    except ImportError:
        pass
    else:
        peer = zuko.flows.NSF(features, transforms=LAYERS, hidden_features=WIDTHS, bins=BINS).to(
            device
        )
        train["zuko"] = gradients(lambda: peer().log_prob(x), peer)
        sample["zuko"] = lambda: peer().transform.inv(x)
    size = (
        f"{rows} rows of {features}, {LAYERS} layers, hidden {WIDTHS[0]}, {WIDTHS[1]}, K = {BINS}"
    )
    masks = [mask for name, mask in flow.named_buffers() if "mask" in name]
    flops = 2 * rows * sum(int(mask.sum()) for mask in masks)
    headline = features == 64
    yield Case(
        "autoregressive-flow", "log_prob of AutoregressiveSplineFlow, forward and backward", size,
        train, flops=3 * flops, headline=headline,
    )  # fmt: skip
    yield Case(
        "autoregressive-flow", "samples of AutoregressiveSplineFlow", size, sample, flops=flops,
        headline=headline, context=torch.no_grad,
    )  # fmt: skip
