"""The registry's cases as parameters of tests, and where and with what they are measured."""

import os
from functools import lru_cache
from itertools import islice

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or torch's profiler writes into the report

import pytest
import registry
import torch
from harness import Case, device_name

from gencore.ops._support.extension import native


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the cases run: cpu or cuda")
    parser.addoption("--quick", action="store_true", help="a smoke run: few sizes")


def pytest_configure(config: pytest.Config) -> None:
    # Peers and torch's compiler warn of what is theirs to mend.
    config.addinivalue_line("filterwarnings", "default")


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, object]
) -> None:
    """What a comparison of two runs must find the same."""
    machine_info.update(
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        cpu_level=native.cpu_level,
        device=device_name(_device(config)),
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a contender of a case, named so that a later run finds the same one."""
    device, quick = _device(metafunc.config), metafunc.config.getoption("--quick")
    parameters = [
        pytest.param((group, index), contender, id=f"{group}: {case.title}: {contender}")
        for group in registry.GROUPS
        for index, case in enumerate(registry.cases(group, device, quick))
        for contender in case.contenders
    ]
    metafunc.parametrize(("case", "contender"), parameters, indirect=["case"])


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    return _device(request.config)


@pytest.fixture
def case(request: pytest.FixtureRequest, device: torch.device) -> Case:
    return _case(*request.param, device, request.config.getoption("--quick"))


@lru_cache(maxsize=1)  # its contenders follow one another; the next case's tensors replace its own
def _case(group: str, index: int, device: torch.device, quick: bool) -> Case:
    return next(islice(registry.cases(group, device, quick), index, None))


def _device(config: pytest.Config) -> torch.device:
    return torch.device(config.getoption("--device"))
