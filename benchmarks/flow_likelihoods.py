"""Held-out likelihoods of flows on vectors: their settings, and flows of other libraries.

    python benchmarks/flow_likelihoods.py [--quick] [--seeds 5] [--csv FILE]

Data, steps and numbers are those of `flow_fits`. Networks have two hidden layers of 64, and flows
of one kind have as many layers in every library. Rows that the file holds already are not run
again; its tables stand beside it. zuko and normflows are rows where they are installed.
"""

import argparse
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from flow_fits import FitTable, Key, Make
from torch import nn

from gencore.models import MAF, AutoregressiveSplineFlow, CouplingFlow, Flow, SplineFlow

HERE = Path(__file__).parent
WIDTHS = (64, 64)
COUPLINGS, MASKED, SPLINED = 8, 5, 4  # layers of each kind of flow
# Settings of the splines that are compared, by what the table calls them.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    f"tails at {tails}, {'slopes free' if bound is None else f'bound {bound:g}'}": {
        "tail_bound": float(tails), "bound": bound,
    }
    for tails in (3, 5) for bound in (1.0, 3.0, None)
}  # fmt: skip
SPLINES: Mapping[str, type[Flow]] = {
    "SplineFlow": SplineFlow, "AutoregressiveSplineFlow": AutoregressiveSplineFlow,
}  # fmt: skip
AFFINE: Mapping[str, tuple[type[Flow], int]] = {
    "CouplingFlow": (CouplingFlow, COUPLINGS), "MAF": (MAF, MASKED),
}  # fmt: skip
# The same by what other libraries are compared by.
KINDS: Mapping[str, tuple[type[Flow], int]] = {
    "affine couplings": AFFINE["CouplingFlow"],
    "affine autoregressive": AFFINE["MAF"],
    "spline couplings": (SplineFlow, SPLINED),
    "spline autoregressive": (AutoregressiveSplineFlow, SPLINED),
}
# The fixed permutations between the layers of each, which "lu" learns instead.
FIXED: Mapping[str, str] = {
    "SplineFlow": "permutation", "AutoregressiveSplineFlow": "reverse",
    "CouplingFlow": "permutation", "MAF": "reverse",
}  # fmt: skip


def settings(features: int) -> dict[Key, Make]:
    """The spline flows with each of the settings."""
    return {
        (name, variant): partial(
            make,
            features,
            num_layers=SPLINED,
            hidden_widths=WIDTHS,
            mixing=FIXED[name],
            **options,
        )
        for name, make in SPLINES.items()
        for variant, options in SETTINGS.items()
    }


def mixings(features: int) -> dict[Key, Make]:
    """Flows with either mixing of the coordinates, and otherwise their defaults."""
    kinds = {**{name: (make, SPLINED) for name, make in SPLINES.items()}, **AFFINE}
    return {
        (name, variant): partial(
            make, features, num_layers=num_layers, hidden_widths=WIDTHS, mixing=mixing
        )
        for name, (make, num_layers) in kinds.items()
        for variant, mixing in (("permutations", FIXED[name]), ("LU", "lu"))
    }


def libraries(features: int) -> dict[Key, Make]:
    """Flows of the same kinds, with the defaults of each library, and ours with fixed permutations,
    as zuko has them."""
    made: dict[Key, Make] = {
        (kind, variant): partial(
            make, features, num_layers=num_layers, hidden_widths=WIDTHS, mixing=mixing
        )
        for kind, (make, num_layers) in KINDS.items()
        for variant, mixing in (
            ("gencore", "lu"), ("gencore, permutations", FIXED[make.__name__]),
        )
    }  # fmt: skip
    for library, flows in (("zuko", _zuko), ("normflows", _normflows)):
        if find_spec(library):
            made |= {(kind, library): make for kind, make in flows(features).items()}
    return dict(sorted(made.items()))


def _zuko(features: int) -> dict[str, Make]:
    from zuko import flows

    size = {"features": features, "hidden_features": WIDTHS}
    return {
        "affine couplings": partial(flows.RealNVP, transforms=COUPLINGS, **size),
        "affine autoregressive": partial(flows.MAF, transforms=MASKED, **size),
        "spline couplings": partial(flows.NSF, transforms=SPLINED, passes=2, **size),
        "spline autoregressive": partial(flows.NSF, transforms=SPLINED, **size),
    }


class _Called(nn.Module):
    """A flow of normflows, which has `log_prob` itself, as its call's result."""

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        self.flow = flow

    def forward(self) -> nn.Module:
        return self.flow


def _normflows(features: int) -> dict[str, Make]:
    import normflows
    from normflows import flows

    width = WIDTHS[0]

    def made(num_layers: int, layer: Any, between: Any) -> nn.Module:
        layers = [each for i in range(num_layers) for each in (layer(i), between())]
        base = normflows.distributions.DiagGaussian(features, trainable=False)
        return _Called(normflows.NormalizingFlow(base, layers))

    def coupling(_: int) -> nn.Module:
        kept = features - features // 2
        sizes = [kept, *WIDTHS, 2 * (features - kept)]
        return flows.AffineCouplingBlock(normflows.nets.MLP(sizes, init_zeros=True))

    mixing = partial(flows.LULinearPermute, features)
    swapped = partial(flows.Permute, features, mode="swap")
    return {
        "affine couplings": partial(made, COUPLINGS, coupling, swapped),
        "affine autoregressive": partial(
            made, MASKED,
            lambda _: flows.Reverse(  # whose inverse, for densities, is one pass
                flows.MaskedAffineAutoregressive(features, width, num_blocks=1)
            ),
            mixing,
        ),
        "spline couplings": partial(
            made, SPLINED,
            lambda i: flows.CoupledRationalQuadraticSpline(
                features, 1, width, reverse_mask=bool(i % 2)
            ),
            mixing,
        ),
        "spline autoregressive": partial(
            made, SPLINED,
            lambda _: flows.AutoregressiveRationalQuadraticSpline(features, 1, width), mixing,
        ),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run that writes nothing")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--csv", type=Path, default=HERE / "results" / "flow_likelihoods" / "cpu.csv"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = FitTable(None if options.quick else options.csv)
    tables = []
    for variant, flows in (("splines", settings), ("mixing", mixings), ("library", libraries)):
        table.complete(flows, range(1 if options.quick else options.seeds))
        tables.append(table.markdown(variant, flows(2), times=True))
    text = "\n".join(tables)
    print(text)
    if not options.quick:
        options.csv.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
