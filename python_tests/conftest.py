"""Options and fixtures shared by all tests."""

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the operators' tests run: cpu or cuda")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run an OpTester's slots over the subclass's own variants."""
    variants = getattr(metafunc.cls, "variants", None)
    if "variant" in metafunc.fixturenames and variants is not None:
        metafunc.parametrize("variant", list(variants))
