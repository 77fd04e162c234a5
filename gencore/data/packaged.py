"""Data files that come inside installed packages; nothing is downloaded."""

from importlib.util import find_spec
from pathlib import Path

from gencore.extras import data_extra

__all__ = ["packaged_file"]


def packaged_file(needed_for: str, package: str, *parts: str) -> Path:
    """Find a data file of an installed package, which is not imported.

    Args:
        needed_for: What wants the file, for the error.
        package: Name by which the package is imported.
        *parts: The file's path inside the package.

    Raises:
        FileNotFoundError: the installed version of the package does not have the file.
        ModuleNotFoundError: the package is not installed.

    Example:
        >>> packaged_file("this example", "torch", "version.py").name
        'version.py'
    """
    with data_extra(needed_for):
        spec = find_spec(package)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    places = [Path(place, *parts) for place in spec.submodule_search_locations or ()]
    for path in places:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{needed_for}: the installed package {package} has no file {'/'.join(parts)}: "
        "pip install --upgrade 'gencore[data]'"
    )
