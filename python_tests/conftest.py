"""Options and fixtures shared by all tests."""

import os
from pathlib import Path

# Workers side by side with a thread for every core each would spin in each other's way; set before
# torch starts its threads, and for the programs that tests start too.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the operators' tests run: cpu or cuda")


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
    """Run an OpTester's slots over the subclass's own variants."""
    variants = getattr(metafunc.cls, "variants", None)
    if metafunc.function.__name__ in ("test_opcheck", "test_compiles_without_graph_breaks"):
        variants = getattr(metafunc.cls, "traced", ()) or variants
    if "variant" in metafunc.fixturenames and variants is not None:
        metafunc.parametrize("variant", list(variants))
