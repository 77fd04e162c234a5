"""Packages whose modules are imported when they are used."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

PACKAGES = (
    "gencore.compression",
    "gencore.data",
    "gencore.inference",
    "gencore.metrics",
    "gencore.models",
    "gencore.models.autoregressive",
    "gencore.models.ebm",
    "gencore.models.flows",
    "gencore.models.hybrids",
    "gencore.models.language",
    "gencore.models.latent",
    "gencore.models.representations",
    "gencore.models.video",
    "gencore.objectives",
    "gencore.objectives.games",
    "gencore.train",
)


@pytest.mark.parametrize("name", PACKAGES)
def test_every_name_of_the_stub_is_there_and_no_module_hides_one(name):
    package = import_module(name)
    modules = {path.stem for path in Path(package.__path__[0]).glob("*.py")}
    assert package.__all__
    assert not modules & set(package.__all__)
    for export in package.__all__:
        assert getattr(package, export) is not None
    with pytest.raises(AttributeError, match=f"'{name}' has no attribute 'nothing'"):
        _ = package.nothing
    for module in modules - {"__init__"}:
        assert getattr(package, module).__name__ == f"{name}.{module}"


def test_packages_are_imported_without_torch():
    program = f"import sys, {', '.join(PACKAGES)}; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "False\n"


def test_the_options_of_every_recipe_are_known_without_torch():
    program = (
        "import sys; from gencore.recipes import RECIPES\n"
        "for name in RECIPES: RECIPES[name]()\n"
        "print(len(RECIPES) > 0, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "True False\n"
