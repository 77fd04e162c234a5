"""PRD curves of known distributions, and of clusters."""

import math

import pytest
import torch

from gencore.metrics import (
    GaussianMoments,
    PRDCurve,
    frechet_distance,
    nearest_neighbors,
    prd,
    prd_curve,
)

UNIFORM = torch.ones(10)
FOUR_OF_TEN = torch.tensor([1.0] * 4 + [0.0] * 6)


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_l32_precision_and_recall_of_distributions():
    """Area 1 for equal and 0 for disjoint; half the modes: recall at most ½, precision 1."""
    assert prd_curve(UNIFORM, UNIFORM).auc == pytest.approx(1)
    assert prd_curve(FOUR_OF_TEN, 1 - FOUR_OF_TEN).auc == 0

    pytest.importorskip("sklearn")
    modes = 100 * torch.arange(4.0)[:, None].expand(4, 2)
    real = modes.repeat_interleave(50, 0) + randn(200, 2)
    half = modes[:2].repeat_interleave(100, 0) + randn(200, 2, seed=1)
    curve = prd(real, half, num_clusters=4, num_runs=2)
    assert curve.precision.max().item() == pytest.approx(1)
    assert curve.recall.max().item() == pytest.approx(0.5)
    assert prd(real, real, num_runs=1).auc == pytest.approx(1)
    assert prd(real, real + 1e4, num_runs=1).auc == 0


def test_y15_frechet_distance_prd_and_nearest_neighbours():
    """Commuting covariances; four of ten modes; planted copies of training images."""
    q = torch.linalg.qr(randn(6, 6)).Q
    a, b = randn(2, 6, seed=1).square()
    first, second = (GaussianMoments(torch.zeros(6), q @ v.diag() @ q.T, 0) for v in (a, b))
    expected = (a.sqrt() - b.sqrt()).square().sum().item()
    assert frechet_distance(first, second) == pytest.approx(expected)

    curve = prd_curve(UNIFORM, FOUR_OF_TEN)
    assert curve.precision.max().item() == pytest.approx(1)
    assert curve.recall.max().item() == pytest.approx(0.4)
    # (1 + β²) p r/(β² p + r) at p = 1 and r = 0.4, which the angles pass by closely.
    assert curve.f8 == pytest.approx(65 * 0.4 / 64.4, abs=5e-4)
    assert curve.f_eighth == pytest.approx((65 / 64) * 0.4 / (1 / 64 + 0.4), abs=5e-4)

    training = torch.randint(256, (200, 1, 8, 8), generator=torch.Generator().manual_seed(2))
    training = training.to(torch.uint8)
    copies = torch.tensor([3, 77, 150])
    samples = torch.cat([training[copies], 255 - training[:2]])
    nearest = nearest_neighbors(samples, training, k=5)
    assert nearest.indices[:3, 0].tolist() == copies.tolist()
    assert nearest.distances[:3, 0].tolist() == [0, 0, 0]
    assert (nearest.distances[3:] > 0).all()


def test_points_of_the_curve_by_hand():
    """p = (½, ½, 0), q = (¼, ½, ¼): at slope 1 both are ¾; precision never exceeds ¾."""
    curve = prd_curve(torch.tensor([2, 2, 0]), torch.tensor([1, 2, 1]))
    middle = len(curve.precision) // 2
    assert curve.precision[middle].item() == pytest.approx(0.75)
    assert curve.recall[middle].item() == pytest.approx(0.75)
    assert curve.precision.max().item() == pytest.approx(0.75)
    assert curve.recall.max().item() == pytest.approx(1)
    # Slope 2 is at the angle arctan 2: min(1, ¼) + min(1, ½) there, and half of it.
    fine = prd_curve(torch.tensor([2, 2, 0]), torch.tensor([1, 2, 1]), num_angles=100_001)
    at = round(math.atan(2) / (math.pi / 2) * 100_000)
    assert fine.precision[at].item() == pytest.approx(0.75, abs=1e-4)
    assert fine.recall[at].item() == pytest.approx(0.375, abs=1e-4)


def test_exchanging_the_two_exchanges_precision_and_recall():
    p, q = torch.rand(2, 20, generator=torch.Generator().manual_seed(0))
    one, other = prd_curve(p, q), prd_curve(q, p)
    torch.testing.assert_close(one.precision, other.recall.flip(0))
    assert one.f8 == pytest.approx(other.f_eighth)


def test_an_f_score_of_nothing_is_zero():
    nothing = PRDCurve(torch.zeros(3), torch.zeros(3))
    assert nothing.f8 == nothing.f_eighth == nothing.auc == 0


def test_clusters_depend_on_the_seed_alone():
    pytest.importorskip("sklearn")
    x, y = randn(150, 3), randn(150, 3, seed=1) + 0.5
    first, again, other = (prd(x, y, num_runs=2, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.precision, again.precision)
    assert not torch.equal(first.precision, other.precision)


@pytest.mark.parametrize(
    ("reference", "model", "message"),
    [
        (torch.ones(3), torch.ones(4), r"shape \(3,\)"),
        (torch.zeros(3), torch.ones(3), "reference is not a distribution"),
        (torch.ones(3), torch.tensor([1.0, -1.0, 1.0]), "model is not a distribution"),
    ],
)
def test_bad_distributions(reference, model, message):
    with pytest.raises(ValueError, match=f"^prd_curve: .*{message}"):
        prd_curve(reference, model)


def test_bad_sets():
    with pytest.raises(ValueError, match=r"^prd: features of shape"):
        prd(torch.zeros(30, 2), torch.zeros(31, 2))
    with pytest.raises(ValueError, match=r"^prd: num_clusters = 20"):
        prd(torch.zeros(5, 2), torch.zeros(5, 2))
    with pytest.raises(ValueError, match=r"^prd_curve: num_angles = 10"):
        prd_curve(UNIFORM, UNIFORM, num_angles=10)
