"""scikit-build-core, asking for torch only where the target environment has none.

A fixed build requirement on torch would make pip download a second torch into its isolated build
environment, of another version than the one gencore then runs with.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from find_torch import OLDEST, require, target_torch
from scikit_build_core import __file__ as _backend_file
from scikit_build_core import __version__ as _backend_version
from scikit_build_core import build as _backend
from scikit_build_core.build import (
    build_sdist,
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


def build_wheel(
    wheel_directory: str,
    config_settings: _Settings = None,
    metadata_directory: str | None = None,
) -> str:
    _keep_compiled()
    return _backend.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str,
    config_settings: _Settings = None,
    metadata_directory: str | None = None,
) -> str:
    _keep_compiled()
    return _backend.build_editable(wheel_directory, config_settings, metadata_directory)


def _keep_compiled() -> None:
    """Let build folders survive the next isolated environment.

    scikit-build-core deletes what it has compiled when it finds itself in another folder, as it
    does in each of pip's isolated environments. For the same version of it this is one compilation
    of the same source after the other: only csrc/module.cpp sees a path of the environment.
    """
    for path in Path("build").glob("*/.skbuild-info.json"):
        try:
            info = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # scikit-build-core clears the folder
        if isinstance(info, dict) and info.get("skbuild_version") == _backend_version:
            info["skbuild_path"] = str(Path(_backend_file).parent)
            path.write_text(json.dumps(info), encoding="utf-8")
