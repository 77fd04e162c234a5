"""Loading the compiled part, or saying in one sentence why it does not load."""

from pathlib import Path

import torch  # first: its libraries are the ones the extension links against

__all__ = ["native"]

_OLDEST_TORCH = (2, 11)

if tuple(int(part) for part in torch.__version__.split(".")[:2]) < _OLDEST_TORCH:
    raise ImportError(
        f"gencore needs torch >= {_OLDEST_TORCH[0]}.{_OLDEST_TORCH[1]}, found {torch.__version__}"
    )

try:
    import gencore._C as native  # registers torch.ops.gencore
except ModuleNotFoundError as error:
    raise ImportError(
        f"gencore's compiled part is not in {Path(__file__).parents[1]}: this is the source tree, "
        "not the installed package. Run `pip install .` and start Python elsewhere, or install "
        "with `pip install -e .`"
    ) from error
