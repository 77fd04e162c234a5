"""The command ``gencore`` in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gencore

TESTS = Path(__file__).parents[1]
QUICK = ["--num-evaluate", "5", "--num-samples", "4", "--log-every", "1", "--accelerator", "cpu"]

# Steps and the log, without samples and measures.
TRAIN_ALONE = ["--num-evaluate=0", "--num-samples=0", "--logger=none", *QUICK[4:]]


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Where another process finds the toy, as a package that is installed beside gencore."""
    site = tmp_path_factory.mktemp("site")
    info = site / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[gencore.recipes]\ntoy = testing.toy_recipe:ToyRecipe\n"
        "coder = testing.coder_recipe:CoderRecipe\n"
    )
    paths = [site, TESTS, Path(gencore.__file__).parents[1]]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GENCORE_", "PL_"))}
    return {**clean, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}


def run(environment, *words):
    command = [sys.executable, *words]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
