"""Codes of data points against principal components, and codes held against a prior by kernels."""

import math

import pytest
import torch
from torch import nn

from gencore.inference import DataLatents, LatentAdam
from gencore.metrics import GaussianKernel, InverseMultiquadraticKernel
from gencore.models import GLO, WAEMMD, Autoencoder, to_unit_ball
from gencore.models.starts import normal_starts
from gencore.objectives import laplacian_distance, laplacian_pyramid, maximum_mean_discrepancy


class TestGLO:
    def test_a_linear_decoder_finds_the_principal_subspace(self):
        """With squares the best loss is half of the discarded eigenvalues (Bruna, Lecture 11)."""
        torch.manual_seed(0)
        x = torch.randn(60, 5, dtype=torch.float64) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.2])
        codes = DataLatents(torch.randn(60, 2).double(), optimizer=LatentAdam(0.1))
        glo = GLO(nn.Linear(2, 5, bias=False).double(), codes, num_inner_steps=5)
        optimizer = torch.optim.Adam(glo.decoder.parameters(), 0.05)
        index, num = torch.arange(60), 300
        for step in range(num):
            factor = 1 - step / num
            optimizer.param_groups[0]["lr"] = 0.05 * factor
            optimizer.zero_grad()
            loss = glo(x, index, factor=factor)
            loss.backward()
            optimizer.step()
        values, vectors = torch.linalg.eigh(x.T @ x / 60)
        assert loss.item() == pytest.approx(0.5 * values[:3].sum().item(), rel=1e-3)
        basis, _ = torch.linalg.qr(glo.decoder.weight.detach())
        kept = vectors[:, 3:]
        torch.testing.assert_close(basis @ basis.T, kept @ kept.T, rtol=0, atol=0.02)

    def test_codes_stay_in_the_ball_and_samples_have_their_moments(self):
        torch.manual_seed(0)
        codes = DataLatents(to_unit_ball(torch.randn(200, 2)), project=to_unit_ball)
        glo = GLO(nn.Identity(), codes, num_inner_steps=3)
        glo(5 * torch.randn(200, 2), torch.arange(200))
        assert codes.values.norm(dim=1).max() <= 1 + 1e-6
        samples = glo.sample(50_000, key=torch.tensor([1, 0]))
        torch.testing.assert_close(samples.mean(0), codes.values.mean(0), rtol=0, atol=0.02)
        torch.testing.assert_close(samples.T.cov(), codes.values.T.cov(), rtol=0, atol=0.02)

    def test_other_data_are_coded_with_the_decoder_as_it_is(self):
        glo = GLO(nn.Identity(), DataLatents(torch.zeros(3, 2), optimizer=LatentAdam(0.02)))
        x = torch.tensor([[0.3, -0.2]])
        torch.testing.assert_close(glo.encode(x), x, rtol=0, atol=1e-2)

    def test_a_decoder_that_would_be_broadcast(self):
        glo = GLO(nn.Linear(2, 1), DataLatents(torch.zeros(4, 2)))
        with pytest.raises(ValueError, match=r"GLO: the decoder gives \[4, 1\] .* \[4, 3\]"):
            glo(torch.ones(4, 3), torch.arange(4))
        with pytest.raises(ValueError, match=r"for codes \[4, 2\] and data \[1, 1\]"):
            glo(torch.ones(1, 1), torch.arange(4))


class TestLaplacianDistance:
    def test_images_follow_from_their_bands(self):
        x = torch.randn(2, 3, 16, 8, dtype=torch.float64)
        *bands, back = laplacian_pyramid(x, 2)
        for band in reversed(bands):
            back = band + nn.functional.interpolate(back, scale_factor=2, mode="bilinear")
        torch.testing.assert_close(back, x)

    def test_it_is_a_norm_of_the_difference(self):
        x, y, z = torch.randn(3, 4, 1, 8, 8, dtype=torch.float64)
        xy, yz, xz = (laplacian_distance(a, b) for a, b in ((x, y), (y, z), (x, z)))
        assert (xz <= xy + yz).all()
        assert (xy > 0).all()
        torch.testing.assert_close(laplacian_distance(-3 * x, -3 * y), 3 * xy)
        torch.testing.assert_close(laplacian_distance(y, x), xy)
        assert not laplacian_distance(x, x).any()

    def test_sides_that_cannot_be_halved(self):
        with pytest.raises(ValueError, match=r"sides that are multiples of 2\^num_levels"):
            laplacian_distance(torch.ones(1, 1, 6, 6), torch.ones(1, 1, 6, 6), num_levels=2)

    def test_integers_whose_blur_would_be_zero(self):
        x = torch.ones(1, 1, 8, 8, dtype=torch.uint8)
        with pytest.raises(TypeError, match=r"x is torch\.uint8; expected floating point"):
            laplacian_distance(x, 2 * x)


class TestMMD:
    @pytest.mark.parametrize("kernel", [InverseMultiquadraticKernel(2.0), GaussianKernel(1.0)])
    def test_it_is_unbiased_and_grows_with_a_shift(self, kernel):
        """Means over 400 batches: 0 for equal laws within the Monte Carlo error; and in closed form
        for Gaussians and a Gaussian kernel."""
        torch.manual_seed(0)
        x, y = torch.randn(2, 400, 20, 2, dtype=torch.float64)
        means = []
        for shift in (0.0, 0.5, 1.0):
            values = torch.stack([
                maximum_mean_discrepancy(a, b + shift, kernel)
                for a, b in zip(x, y, strict=True)
            ])  # fmt: skip
            means.append((values.mean(), values.std() / 20))
        assert means[0][0].abs() < 4 * means[0][1]
        assert means[0][0] < means[1][0] < means[2][0]
        if isinstance(
            kernel, GaussianKernel
        ):  # E exp(−‖d‖²/2), d ~ N(δ, 2I): exp(−‖δ‖²/6)/3 in two dimensions
            exact = 2 / 3 * (1 - torch.tensor(-2 / 6).exp())
            assert (means[2][0] - exact).abs() < 4 * means[2][1]

    @pytest.mark.parametrize(
        "kernel", [InverseMultiquadraticKernel((1.0, 3.0)), GaussianKernel((1.0, 3.0))]
    )
    def test_gradients_also_where_points_meet(self, kernel):
        x, y = torch.randn(2, 4, 3, dtype=torch.float64)
        x[1], y[0] = x[0], x[0]
        x.requires_grad_()
        assert torch.autograd.gradcheck(lambda a: maximum_mean_discrepancy(a, y, kernel), (x,))

    def test_no_differences_of_all_pairs_are_in_memory(self):
        sizes = []

        def pack(part):
            sizes.append(part.numel())
            return part

        x = torch.randn(20, 50, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda part: part):
            maximum_mean_discrepancy(x, torch.randn(20, 50))
        assert max(sizes) <= 20 * 50

    def test_codes_come_to_the_prior(self):
        """Codes of N(3, 0.5²) by an affine encoder, with no reconstruction to hold them."""
        torch.manual_seed(0)
        autoencoder = Autoencoder(
            nn.Linear(1, 1), nn.Linear(1, 1), 1, distance=lambda x, y: 0 * y.sum(1)
        )
        wae = WAEMMD(autoencoder)
        optimizer = torch.optim.Adam(wae.parameters(), 0.05)
        for _ in range(400):
            optimizer.zero_grad()
            wae(3 + 0.5 * torch.randn(128, 1)).loss.backward()
            optimizer.step()
        codes = wae.encode(3 + 0.5 * torch.randn(20_000, 1))
        assert codes.mean().abs() < 0.2
        assert 0.8 < codes.std() < 1.2

    def test_batches_that_are_none(self):
        with pytest.raises(ValueError, match=r"\(1, 2\) and \(3, 2\); expected"):
            maximum_mean_discrepancy(torch.ones(1, 2), torch.ones(3, 2))
        for scale in (0.0, math.inf, ()):
            with pytest.raises(ValueError, match=r"scale is .*; expected one positive, finite"):
                InverseMultiquadraticKernel(scale)

    def test_the_scales_follow_the_prior(self):
        """Of latents and a prior that are both 7 times as wide the divergence is the same; and the
        scales are the default's times the prior's mean squared distance 2Ls²."""
        autoencoder = Autoencoder(nn.Linear(3, 2), nn.Linear(2, 3), 2)
        x, key = torch.randn(16, 3), torch.tensor([1, 0])
        one = WAEMMD(autoencoder)(x, key=key).divergence
        prior = normal_starts(autoencoder, 16, (2,), key=key, stream="prior")
        kernel = InverseMultiquadraticKernel((0.4, 0.8, 2.0, 4.0, 8.0, 20.0, 40.0))
        expected = maximum_mean_discrepancy(autoencoder.encode(x), prior, kernel)
        torch.testing.assert_close(one, expected)
        with torch.no_grad():
            for parameter in autoencoder.encoder.parameters():
                parameter.mul_(7)
        wide = WAEMMD(autoencoder, prior_std=7.0)(x, key=key).divergence
        torch.testing.assert_close(wide, one)
