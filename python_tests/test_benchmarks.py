"""The published tables are the ones that the measured rows give."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_tables_are_up_to_date():
    command = [sys.executable, str(ROOT / "benchmarks" / "report.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_rows_of_latent_models_have_equal_steps_and_a_line_each():
    pytest.importorskip("lightning_fabric")
    from latent_images import ROWS, SHARED, recipe_of, tabulated

    for data, shared in SHARED.items():
        for name in ROWS:
            assert shared.items() <= recipe_of(name, data).fields().items()
    measures = {
        "frechet_classifier/train": 1.0, "frechet_classifier/independent_pixels": 9.0,
        "frechet_classifier/samples": 4.0, "squared_error/test": 0.02, "seconds": 7.0,
    }  # fmt: skip
    bounds = {"bound_1/test": -24.26, "bound_1000/test": -23.0}
    table = tabulated({
        "VAE": {**measures, **bounds},
        "levels": {**measures, **bounds, "bits_per_dim_1000/test": 3.661},
        "GLO": measures,
    })  # fmt: skip
    assert table.splitlines()[2:] == [
        "| training images | | | | 1 | | |",
        "| independent pixels | | | | 9 | | |",
        "| VAE | \N{MINUS SIGN}24.3 | \N{MINUS SIGN}23.0 |  | 4 | 0.0200 | 7 |",
        "| levels |  |  | 3.66 | 4 | 0.0200 | 7 |",
        "| GLO |  |  |  | 4 | 0.0200 | 7 |",
    ]


def test_detection_has_a_line_for_each_set_from_elsewhere():
    """Set apart by all scores but one, which has them the wrong way round."""
    import torch
    from out_of_distribution import MEASURES, NAMES, spread, tabulated

    low, high = torch.arange(4.0), 10 + torch.arange(5.0)
    elsewhere = {**dict.fromkeys(NAMES, high), "LMD": low - 10}
    sets = {"mnist": dict.fromkeys(NAMES, low), "noise": elsewhere}
    assert set(MEASURES) == {"auroc", "auprc", "fpr80"}
    lines = tabulated("mnist", sets, "auroc").splitlines()
    assert lines[1] == "AUROC, trained on mnist"
    assert lines[-1] == "| noise |" + 8 * " 1.000 |" + " 0.000 |"
    assert spread(torch.arange(10), 4).tolist() == [0, 2, 5, 7]
