"""Loading the compiled part, or saying in one sentence why it does not load."""

import importlib.util
import sys
from pathlib import Path

import torch  # first: its libraries are the ones the extension links against

import gencore

__all__ = ["native", "with_type"]

_OLDEST_TORCH = (2, 11)
_PACKAGE = Path(__file__).resolve().parents[1]

if tuple(int(part) for part in torch.__version__.split(".")[:2]) < _OLDEST_TORCH:
    raise ImportError(
        f"gencore needs torch >= {_OLDEST_TORCH[0]}.{_OLDEST_TORCH[1]}, found {torch.__version__}"
    )

# Python started in a checkout finds the source tree before the installed package, and only the
# latter has the extension: `pip install .` and then `python` in the same folder is what most do.
if importlib.util.find_spec("gencore._C") is None:
    gencore.__path__.extend(
        str(folder)
        for folder in (Path(entry).resolve() / "gencore" for entry in sys.path)
        if folder != _PACKAGE and any(folder.glob("_C.*"))
    )

try:
    import gencore._C as native  # registers torch.ops.gencore
except ModuleNotFoundError as error:
    raise ImportError(
        f"gencore's compiled part is neither in {_PACKAGE} nor installed: this is the source tree; "
        "run `pip install .`"
    ) from error


def with_type(error: RuntimeError) -> RuntimeError:
    """An error that a kernel met in torch, as the type that torch gives it: the C interface between
    the two lets only the message through."""
    text = str(error)
    return torch.OutOfMemoryError(text) if text.startswith("CUDA out of memory") else error
