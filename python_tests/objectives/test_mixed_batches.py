"""Batches of data and samples: which points they have, and how many of them are data."""

import math

import numpy as np
import pytest
import torch

from gencore.objectives import (
    beta_count_probabilities,
    mix_batches,
    mixing_masks,
    smoothing_count_probabilities,
)


def key(offset=0):
    return torch.tensor([11, offset])


class TestMasks:
    @pytest.mark.parametrize("size", [1, 6, 40])
    @pytest.mark.parametrize("smoothing", [0.03, 0.2, 0.5])
    def test_the_law_of_the_number_of_data_is_an_integral(self, size, smoothing):
        """Of binomial probabilities over p*: polynomials, of which quadrature is exact."""
        nodes, weights = np.polynomial.legendre.leggauss(size)
        p = smoothing * (1 + nodes) / 2
        p = np.concatenate([p, 1 - p])
        expected = [
            (np.tile(weights, 2) / 4 * math.comb(size, k) * p**k * (1 - p) ** (size - k)).sum()
            for k in range(size + 1)
        ]
        found = smoothing_count_probabilities(size, smoothing).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        assert found.sum() == pytest.approx(1)

    @pytest.mark.parametrize("smoothing", [0.0, 0.2, 0.5])
    def test_counts_have_that_law(self, smoothing):
        num, size = 200_000, 6
        counts = mixing_masks(num, size, smoothing, key=key()).sum(1).bincount(minlength=size + 1)
        law = smoothing_count_probabilities(size, smoothing)
        error = (law * (1 - law) / num).sqrt()
        assert ((counts / num - law).abs() <= 4 * error).all()

    def test_half_is_uniform_and_nothing_is_pure(self):
        uniform = torch.full((7,), 1 / 7, dtype=torch.float64)
        torch.testing.assert_close(smoothing_count_probabilities(6, 0.5), uniform)
        torch.testing.assert_close(beta_count_probabilities(6), uniform)
        assert smoothing_count_probabilities(6, 0.0).tolist() == [0.5, 0, 0, 0, 0, 0, 0.5]
        near = smoothing_count_probabilities(6, 1e-9)
        torch.testing.assert_close(near, smoothing_count_probabilities(6, 0.0), rtol=0, atol=1e-8)

    def test_every_member_of_a_batch_is_alike(self):
        masks = mixing_masks(50_000, 5, 0.2, key=key()).double()
        torch.testing.assert_close(masks.mean(0), torch.full((5,), 0.5).double(), rtol=0, atol=0.01)
        # The covariance of two members is E(p* − ½)² = (0.5³ − 0.3³)/(3·0.2).
        covariance = torch.full((20,), 0.098 / 0.6, dtype=torch.float64)
        pairs = masks.T.cov()[~torch.eye(5, dtype=torch.bool)]
        torch.testing.assert_close(pairs, covariance, rtol=0, atol=0.006)

    def test_any_split_over_processes_is_the_same(self):
        whole = mixing_masks(9, 5, 0.3, key=key())
        parts = [mixing_masks(4, 5, 0.3, key=key()), mixing_masks(5, 5, 0.3, key=key(), first=4)]
        assert torch.equal(torch.cat(parts), whole)
        assert not torch.equal(mixing_masks(9, 5, 0.3, key=key(1)), whole)
        drawn = [mixing_masks(9, 5, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
        assert torch.equal(*drawn)

    @pytest.mark.parametrize(("name", "value"), [("num_batches", 0), ("batch_size", 0)])
    def test_sizes_are_positive(self, name, value):
        sizes = {"num_batches": 2, "batch_size": 2} | {name: value}
        with pytest.raises(ValueError, match=f"mixing_masks: {name} is 0; expected 1 or more"):
            mixing_masks(**sizes)

    @pytest.mark.parametrize("smoothing", [-0.1, 0.6, math.nan])
    def test_smoothing_is_at_most_half(self, smoothing):
        with pytest.raises(ValueError, match="mixing_masks: smoothing "):
            mixing_masks(2, 2, smoothing)
        with pytest.raises(ValueError, match="smoothing_count_probabilities: smoothing "):
            smoothing_count_probabilities(2, smoothing)


class TestMixedBatches:
    @pytest.mark.parametrize("shape", [(), (2,), (3, 4, 4)])
    def test_both_halves_use_every_point_once(self, shape):
        size = (20, 6, *shape)
        real = torch.arange(float(math.prod(size))).reshape(size)
        fake = -1 - real
        mixed, complement = mix_batches(real, fake, mixing_masks(20, 6, key=key()))
        used = torch.cat([mixed.samples.flatten(), complement.samples.flatten()]).sort().values
        assert torch.equal(used, torch.cat([real.flatten(), fake.flatten()]).sort().values)
        for batch in (mixed, complement):
            of_data = (batch.samples >= 0).reshape(20, 6, -1).double().mean(2)
            assert set(of_data.unique().tolist()) <= {0.0, 1.0}  # points are never torn apart
            torch.testing.assert_close(of_data.mean(1).float(), batch.proportions)

    def test_the_gradient_reaches_each_sample_once(self):
        real, fake = torch.randn(2, 3, 4, 2)
        fake.requires_grad_()
        mixed, complement = mix_batches(real, fake, mixing_masks(3, 4, key=key()))
        (mixed.samples.sum() + complement.samples.sum()).backward()
        assert torch.equal(fake.grad, torch.ones_like(fake))

    def test_input_that_does_not_fit(self):
        x = torch.zeros(2, 3, 1)
        with pytest.raises(ValueError, match=r"real and fake have shapes \[2, 3, 1\] and \[3, 1\]"):
            mix_batches(x, x[0], torch.ones(2, 3, dtype=torch.bool))
        with pytest.raises(TypeError, match=r"masks are torch.float32; expected torch.bool"):
            mix_batches(x, x, torch.ones(2, 3))
        with pytest.raises(ValueError, match=r"masks have shape \[3, 3\]; expected \[2, 3\]"):
            mix_batches(x, x, torch.ones(3, 3, dtype=torch.bool))
