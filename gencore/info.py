"""What this installation is: the facts behind ``gencore info``."""

import platform
from pathlib import Path

import torch

import gencore
from gencore.ops._support.extension import native

__all__ = ["facts"]


def facts() -> dict[str, str]:
    """Versions and capabilities of the build and of the machine, in reading order.

    Example:
        >>> from gencore.info import facts
        >>> list(facts())[:3]
        ['gencore', 'Python', 'torch running']
    """
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        devices = ", ".join(names)
    else:
        devices = "none available to torch"
    return {
        "gencore": gencore.__version__,
        "Python": platform.python_version(),
        "torch running": f"{torch.__version__} (CUDA {torch.version.cuda or 'none'})",
        "torch built against": native.compiled_torch,
        "compiler": native.compiler,
        "package": str(Path(gencore.__file__).parent),
        "extension": str(native.__file__),
        "CPU level in use": native.cpu_level,
        "CPU threads": str(torch.get_num_threads()),
        "CUDA architectures built": native.cuda_architectures or "none: a CPU-only build",
        "CUDA devices": devices,
    }
