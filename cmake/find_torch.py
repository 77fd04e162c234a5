"""Print the folder of the torch to build against, or explain in one sentence why there is none.

A build that pip isolates has its own import path. The torch that matters is the one of the
environment gencore will run in, so that one is looked up first, by an interpreter that ignores the
isolation; the build's own import path is where the build requirements put a torch otherwise.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

OLDEST = (2, 11)

_LOOK_UP = "import importlib.util as u; s = u.find_spec('torch'); print(s.origin if s else '')"


def target_torch() -> Path | None:
    """The torch of the environment that this interpreter belongs to."""
    command = [sys.executable, "-I", "-c", _LOOK_UP]
    origin = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return Path(origin).parent if origin else None


def build_torch() -> Path | None:
    """The torch on this process's import path."""
    spec = importlib.util.find_spec("torch")
    return Path(spec.origin).parent if spec and spec.origin else None


def version(torch: Path) -> tuple[int, int]:
    """Major and minor version, read from the headers: importing torch takes seconds."""
    header = torch / "include" / "torch" / "headeronly" / "version.h"
    if not header.exists():  # torch before 2.9
        text = (torch / "version.py").read_text()
        found = re.search(r"__version__ = ['\"](\d+)\.(\d+)", text)
    else:
        text = header.read_text()
        found = re.search(r"VERSION_MAJOR (\d+).*?VERSION_MINOR (\d+)", text, re.DOTALL)
    if found is None:
        raise SystemExit(f"gencore: cannot read the version of the torch at {torch}.")
    return int(found[1]), int(found[2])


def require(torch: Path | None) -> Path:
    """`torch` itself if it is new enough, else exit with one sentence."""
    if torch is None:
        raise SystemExit("gencore: no torch to build against; run `pip install torch` first.")
    found = version(torch)
    if found < OLDEST:
        raise SystemExit(
            f"gencore: torch {found[0]}.{found[1]} at {torch} is too old; "
            f"gencore needs torch >= {OLDEST[0]}.{OLDEST[1]}."
        )
    return torch


if __name__ == "__main__":
    print(require(target_torch() or build_torch()))
