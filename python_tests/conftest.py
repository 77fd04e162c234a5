"""Options and fixtures shared by all tests."""

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING

# Workers side by side with a thread for every core each would spin in each other's way; set before
# torch starts its threads, and for the programs that tests start too.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from testing.command_line import environment  # noqa: F401 - a fixture
from testing.quick_classifier import quick_classifier  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from testing.host_executor import Device

# Slots of an OpTester that trace an operator, which takes seconds: for some variants only.
TRACED = ("test_opcheck", "test_backward_opcheck", "test_compiles_without_graph_breaks")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the operators' tests run: cpu or cuda")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `long`, unless `-m` names that mark."""
    if "long" in config.getoption("-m"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.fixture(scope="session", autouse=True)
def away_from_the_source_tree(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Programs that tests start import the installed package, not a folder of the same name."""
    os.chdir(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def executor_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the CUDA sources are compiled for the host, once for all workers."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "host_executor"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run an OpTester's slots over the subclass's own variants, shapes and dtypes."""
    variants = getattr(metafunc.cls, "variants", None)
    if metafunc.function.__name__ in TRACED:
        variants = getattr(metafunc.cls, "traced", ()) or variants
    if "variant" in metafunc.fixturenames and variants is not None:
        metafunc.parametrize("variant", list(variants))
        if metafunc.function.__name__ == "test_matches_the_reference":
            metafunc.parametrize(("shape", "dtype"), metafunc.cls.shapes_and_dtypes(), ids=str)


@pytest.fixture(scope="module")
def gpu(request: pytest.FixtureRequest, executor_folder: Path) -> "Device":
    """The executor of CUDA kernels; a module's `STRUCTURES` mirror what its kernels take."""
    from testing.host_executor import Device, build

    device = Device(build(executor_folder))
    for name, mirror in getattr(request.module, "STRUCTURES", {}).items():
        size = getattr(device.library, f"size_of_{name}")
        size.restype = ctypes.c_size_t
        assert size() == ctypes.sizeof(mirror), name
    return device
