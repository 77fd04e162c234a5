"""Against torch-fidelity, where it is installed."""

from pathlib import Path

import pytest
import torch

from gencore.metrics import (
    InceptionFeatures,
    frechet_distance,
    inception_score_splits,
    kernel_distance,
    precision_recall,
)

# It may be there without the torchvision that it needs.
pytest.importorskip("torch_fidelity", exc_type=ImportError)

from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_inception_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    mine = InceptionFeatures()
    for name, buffer in mine.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    torch.save(mine.state_dict(), tmp_path / "weights.pth")
    theirs = FeatureExtractorInceptionV3(
        "oracle",
        ["2048", "logits_unbiased"],
        feature_extractor_weights_path=str(tmp_path / "weights.pth"),
        feature_extractor_internal_dtype="float64",
    )
    mine.double()
    x = torch.randint(256, (2, 3, 40, 57), dtype=torch.uint8, generator=seeded())
    # Theirs are rounded to float32.
    for a, b in zip(theirs(x), (mine(x), mine.logits(x)), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-6, atol=1e-6 * b.abs().max().item())


def test_measures_of_features() -> None:
    x, y = torch.randn(2, 300, 8, generator=seeded(), dtype=torch.float64)
    y = 1.2 * y + 0.2
    statistics = [metric_fid.fid_features_to_statistics(features) for features in (x, y)]
    theirs = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
    expected = theirs["frechet_inception_distance"]
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-8)

    expected = metric_kid.kernel_mmd(x.numpy(), y.numpy(), kid_kernel="poly")
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-8)

    expected = metric_prc.calculate_precision_recall_full(y, x, 3)  # (generated, real)
    assert precision_recall(x, y) == pytest.approx(expected, rel=1e-6)

    logits = 3 * x
    theirs = metric_isc.isc_features_to_metric(logits, splits=10, shuffle=False)
    mean, std = inception_score_splits(logits, 10)
    assert mean == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert std == pytest.approx(theirs["inception_score_std"], rel=1e-6)
