"""The registry: every case that is measured, by group; a group is a file cases_<group>.py."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import torch
from harness import Case

__all__ = ["GROUPS", "cases"]

_FILES = {
    path.stem.removeprefix("cases_").replace("_", "-"): path.stem
    for path in sorted(Path(__file__).parent.glob("cases_*.py"))
}
GROUPS = tuple(_FILES)


def cases(group: str, device: torch.device, quick: bool) -> Iterator[Case]:
    """The cases of a group, each made when its turn comes, for its tensors may be large."""
    yield from importlib.import_module(_FILES[group]).cases(device, quick)
