"""scikit-build-core, asking for torch only where the target environment has none.

A fixed build requirement on torch would make pip download a second torch into its isolated build
environment, of another version than the one gencore then runs with.
"""

import os
import shutil
from collections.abc import Mapping
from typing import Any

from find_torch import OLDEST, require, target_torch
from scikit_build_core import build as _backend
from scikit_build_core.build import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

_Settings = Mapping[str, Any] | None


def _torch_requirement() -> list[str]:
    compilers = (
        [os.environ["CXX"].split()[0]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    )
    if not any(map(shutil.which, compilers)):
        raise SystemExit(
            f"gencore: no C++ compiler found (looked for {', '.join(compilers)}); "
            "install g++ >= 12 or clang++ >= 16, or name one in CXX."
        )
    torch = target_torch()
    if torch is None:
        return [f"torch>={OLDEST[0]}.{OLDEST[1]}"]
    require(torch)
    return []


def get_requires_for_build_wheel(config_settings: _Settings = None) -> list[str]:
    return _backend.get_requires_for_build_wheel(config_settings) + _torch_requirement()


def get_requires_for_build_editable(config_settings: _Settings = None) -> list[str]:
    return _backend.get_requires_for_build_editable(config_settings) + _torch_requirement()
