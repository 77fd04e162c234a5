"""How the compiled part is found, and what comes through from torch where it fails."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from testing.torch_version import TORCH

import gencore
from gencore.info import facts
from gencore.ops import (
    gaussian_nll,
    langevin_step,
    metropolis_accept,
    philox_normal,
    squeeze,
)
from gencore.ops._support.extension import native
from gencore.ops._support.kernel import kernel


def python(folder, program):
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_in_a_checkout_the_installed_extension_is_used(tmp_path):
    shutil.copytree(
        Path(gencore.__file__).parent,
        tmp_path / "gencore",
        ignore=shutil.ignore_patterns("_C.*.so", "__pycache__"),
    )
    result = python(tmp_path, "import gencore.ops; print(gencore._C.__file__)")
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).samefile(native.__file__)


def test_without_any_extension_the_error_says_what_to_do(tmp_path):
    result = python(tmp_path, "import sys; sys.modules['gencore._C'] = None; import gencore.ops")
    assert result.returncode == 1
    assert "run `pip install .`" in result.stderr.splitlines()[-1]


def test_facts_name_the_build():
    known = facts()
    assert known["CPU level in use"] == native.cpu_level
    assert known["extension"] == native.__file__
    assert all(known.values())


@pytest.mark.parametrize("call", [
    lambda x: langevin_step(x, x, 0.1),
    lambda x: metropolis_accept(x, x, *(x[:, 0],), x, x, *(x[:, 0],) * 3),
    lambda x: gaussian_nll(x.new_zeros(1, 1).expand(2**44, 1), x.new_zeros(1).expand(2**44)),
    lambda x: philox_normal(x.shape, torch.tensor([0, 0])),
])  # fmt: skip
def test_what_does_not_fit_into_memory_is_said_in_torchs_words(call):
    x = torch.zeros(1, 1).expand(2**22, 2**22)
    message = r"can't allocate memory: you tried to allocate \d{14,}"
    if TORCH < (2, 13):  # the words do not pass its C interface
        message = "torch says on the standard error why it failed, .* out of memory"
    with pytest.raises(RuntimeError, match=message):
        call(x)


@pytest.mark.parametrize("differentiable", [True, False])
def test_memory_of_a_gpu_ends_in_torchs_type_of_error(differentiable, monkeypatch):
    def full(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate 64.00 TiB.")

    if differentiable:
        op = torch.ops.gencore.squeeze2d.default
        call, arguments = squeeze._squeeze, (torch.zeros(1, 1, 2, 2), 2)
    else:
        op = torch.ops.gencore.philox_words.default
        call, arguments = kernel(op), (torch.tensor([1, 2]), [3], 0)
    monkeypatch.setattr(type(op), "__call__", full)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"^CUDA out of memory\. Tried to"):
        call(*arguments)
