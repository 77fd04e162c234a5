"""The registry: every case that is measured, by group."""

import importlib
from collections.abc import Iterator

import torch
from harness import Case

__all__ = ["GROUPS", "cases"]

GROUPS = (
    "langevin", "chains", "hmc", "sgmcmc", "ebm", "flows", "flow-pointwise", "autoregressive-flow",
    "spline", "coupling-flow", "glow",
)  # fmt: skip


def cases(group: str, device: torch.device, quick: bool) -> Iterator[Case]:
    """The cases of cases_<group>.py, each made when its turn comes, for its tensors are large."""
    module = importlib.import_module(f"cases_{group.replace('-', '_')}")
    yield from module.cases(device, quick)
