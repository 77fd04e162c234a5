"""How the compiled part is found."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import gencore
from gencore.info import facts
from gencore.ops.extension import native


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
