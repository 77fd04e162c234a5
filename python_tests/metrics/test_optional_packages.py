"""Functions need torch alone, except for a few that name what they miss."""

import subprocess
import sys


def test_without_torchmetrics_and_scikit_learn():
    program = """
import sys
sys.modules["torchmetrics"] = sys.modules["sklearn"] = None
import torch
from gencore import metrics
x = torch.randn(50, 3)
metrics.frechet_distance(x, x), metrics.kernel_distance(x, x), metrics.precision_recall(x, x)
metrics.density_coverage(x, x), metrics.nearest_neighbors(x, x), metrics.inception_score(x)
metrics.prd_curve(torch.ones(3), torch.ones(3)), metrics.mode_coverage(x, x[:2], 1.0)
y = torch.rand(1, 1, 12, 12)
metrics.psnr(y, y), metrics.ssim(y, y), metrics.sharpness_difference(y, y)
metrics.false_positive_rate(x[0], x[1])
for use in (
    lambda: metrics.StreamingPSNR,
    lambda: metrics.prd(x, x),
    lambda: metrics.detection_scores(x[0], x[1]),
):
    try:
        use()
    except ModuleNotFoundError as error:
        print(error)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.splitlines() == [
        "a streaming measure needs the package torchmetrics: pip install 'gencore[train]'",
        "prd needs the package sklearn: pip install 'gencore[train]'",
        "detection_scores needs the package sklearn: pip install 'gencore[train]'",
    ], result.stderr
