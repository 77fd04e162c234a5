"""Scores of data from elsewhere: input complexity, ratios of likelihoods, latent distances."""

import math

import numpy as np
import pytest
import torch
from testing.latent_testing import double

from gencore.data import constant_images, noise_images
from gencore.metrics import (
    LatentNovelty,
    MahalanobisDistance,
    complexity_score,
    compressed_bits,
    likelihood_ratio_score,
)
from gencore.models import Glow, PixelCNN

KEY = torch.tensor([2, 0])
CODECS = ("png", "jpeg2000", "zlib", "lzma")


class TestCompression:
    @pytest.mark.parametrize("codec", CODECS)
    @pytest.mark.parametrize("channels", [1, 3])
    def test_y27_constants_take_far_fewer_bits_than_noise(self, codec, channels):
        """No code without loss has fewer bits than the noise, 8 a value, but for a handful: of
        2^B images fewer than 2^(B − 40) have a file 40 bits shorter."""
        shape = (channels, 32, 32)
        noise = compressed_bits(noise_images(4, shape, key=KEY), codec)
        constant = compressed_bits(constant_images(4, shape, key=KEY), codec)
        assert noise.dtype == torch.float64
        assert (noise > 8 * 1024 * channels - 40).all()
        assert (noise < 1.3 * 8 * 1024 * channels + 4000).all()
        assert (constant < noise / 4).all()
        assert (noise % 8 == 0).all()

    @pytest.mark.parametrize("codec", CODECS)
    def test_images_are_coded_one_by_one(self, codec):
        images = torch.cat([noise_images(2, (3, 8, 8)), constant_images(1, (3, 8, 8))])
        whole = compressed_bits(images, codec)
        alone = torch.cat([compressed_bits(image[None], codec) for image in images])
        assert torch.equal(whole, alone)
        assert compressed_bits(images[:0], codec).shape == (0,)

    def test_a_png_is_the_file_that_is_written(self, tmp_path):
        """A grey image has one channel, and not three."""
        from PIL import Image

        images = noise_images(1, (1, 9, 7), key=KEY)
        Image.fromarray(images[0, 0].numpy()).save(tmp_path / "a.png", optimize=True)
        size = (tmp_path / "a.png").stat().st_size
        assert compressed_bits(images).tolist() == [8 * size]

    @pytest.mark.parametrize(
        ("images", "options", "error", "message"),
        [
            (torch.zeros(1, 1, 2, 2), {}, TypeError, "images are torch.float32"),
            (torch.zeros(1, 2, 2).byte(), {}, ValueError, r"shape \[1, 2, 2\]"),
            (torch.zeros(1, 2, 2, 2).byte(), {}, ValueError, r"shape \[1, 2, 2, 2\]"),
            (torch.zeros(1, 1, 2, 2).byte(), {"codec": "gif"}, ValueError, "codec is 'gif'"),
        ],
    )
    def test_what_has_no_file(self, images, options, error, message):
        with pytest.raises(error, match=f"compressed_bits: .*{message}"):
            compressed_bits(images, **options)


class TestCorrectedLikelihoods:
    def test_y27_complexity_is_in_bits(self):
        """Of the uniform model of 256 levels, which a file as long as the image equals; and a
        model that is right by one bit more has one less."""
        dims = 28 * 28
        log_prob = double([0.0, math.log(2)]) - dims * math.log(256)
        score = complexity_score(log_prob, double([8 * dims, 8 * dims]))
        torch.testing.assert_close(score, double([0.0, -1.0]), rtol=0, atol=1e-8)
        shorter = complexity_score(log_prob, double([8 * dims - 5, 8 * dims + 5]))
        torch.testing.assert_close(shorter - score, double([5.0, -5.0]))

    def test_y27_equal_models_have_a_ratio_of_0(self):
        """Of models with an exact likelihood; of two models what one has more than the other."""
        x = noise_images(3, (1, 4, 4), key=KEY) >> 4
        torch.manual_seed(0)
        pixels = [PixelCNN((1, 4, 4), 8, 1, levels=16) for _ in range(2)]
        flows = [Glow((1, 4, 4), num_levels=1, num_steps=1).double() for _ in range(2)]
        with torch.no_grad():
            values = [[model.log_prob(x.long()) for model in pixels]]
            values.append([flow.log_prob(x.double() / 16) for flow in flows])
        for main, background in values:
            assert torch.equal(likelihood_ratio_score(main, main), torch.zeros(3).double())
            assert complexity_score(main, compressed_bits(x)).shape == (3,)
            torch.testing.assert_close(
                likelihood_ratio_score(main, background), (background - main).double()
            )

    @pytest.mark.parametrize("score", [complexity_score, likelihood_ratio_score])
    def test_values_of_other_data(self, score):
        with pytest.raises(ValueError, match=rf"{score.__name__}: got log_prob \[2\] and"):
            score(torch.zeros(2), torch.zeros(3))
        with pytest.raises(ValueError, match=r"expected \[N\] both"):
            score(torch.zeros(2, 1), torch.zeros(2, 1))


def normal_codes(num, seed=0):
    """Codes of five dimensions, with a mean and a covariance of their own."""
    noise = torch.randn(num, 5, generator=torch.Generator().manual_seed(seed)).double()
    factor = torch.tril(torch.ones(5, 5).double()) + torch.diag(double([1.0, 4, 0, 2, 3]))
    return noise @ factor.T + double([1.0, -2, 3, 0, 5])


class TestMahalanobis:
    def test_y27_the_mean_square_is_the_dimension(self):
        """d(M − 1)/M of the codes themselves, exactly; d of others, whose squares are χ²."""
        codes = normal_codes(2000)
        distance = MahalanobisDistance(codes)
        own = distance(codes).square().mean()
        torch.testing.assert_close(own, double(5 * 1999 / 2000), rtol=1e-10, atol=0)
        squares = distance(normal_codes(20_000, seed=1)).square()
        # The deviation of M codes' covariance adds d/M or so to that of the mean.
        assert abs(squares.mean() - 5) < 4 * math.sqrt(10 / 20_000) + 5 * 4 * math.sqrt(2 / 2000)
        assert abs(squares.var() - 10) < 1

    def test_by_the_matrix(self):
        codes, others = normal_codes(50).numpy(), normal_codes(4, seed=3).numpy()
        inverse = np.linalg.inv(np.cov(codes, rowvar=False))
        centred = others - codes.mean(0)
        expected = np.sqrt(np.einsum("ni,ij,nj->n", centred, inverse, centred))
        found = MahalanobisDistance(torch.from_numpy(codes))(torch.from_numpy(others))
        torch.testing.assert_close(found, torch.from_numpy(expected))

    def test_an_affine_map_changes_nothing(self):
        codes, others = normal_codes(50), normal_codes(4, seed=3)
        matrix = torch.randn(5, 5, generator=torch.Generator().manual_seed(1)).double()

        def mapped(z):
            return z @ matrix.T + 7

        torch.testing.assert_close(
            MahalanobisDistance(mapped(codes))(mapped(others)), MahalanobisDistance(codes)(others)
        )

    def test_one_dimension(self):
        distance = MahalanobisDistance(double([[0.0], [2.0]]))  # mean 1, variance 2
        torch.testing.assert_close(distance(double([[3.0]])), double([math.sqrt(2)]))

    @pytest.mark.parametrize(
        ("codes", "message"),
        [
            (torch.zeros(5, 5), r"torch.float32 \[5, 5\]; expected floating point \[M, d\]"),
            (torch.zeros(5), r"\[5\]"),
            (torch.zeros(9, 2).long(), "torch.int64"),
            (torch.zeros(9, 2), "in a plane of fewer than 2 dimensions"),
        ],
    )
    def test_codes_that_have_no_spread(self, codes, message):
        with pytest.raises(ValueError, match=f"MahalanobisDistance: .*{message}"):
            MahalanobisDistance(codes)

    def test_codes_of_another_size(self):
        with pytest.raises(ValueError, match=r"codes have shape \[2, 3\]; expected \[N, 5\]"):
            MahalanobisDistance(normal_codes(20))(torch.zeros(2, 3))


class TestNovelty:
    def test_y27_both_terms_have_one_spread(self):
        """α and β are one over standard deviations on validation data, whose terms then spread by
        1."""
        codes, validation = normal_codes(300), normal_codes(100, seed=1)
        errors = torch.rand(100, generator=torch.Generator().manual_seed(2)).double() * 40
        novelty = LatentNovelty(codes, validation, errors)
        by_distance = novelty(validation, torch.zeros(100).double())
        by_error = novelty(codes.mean(0).expand(100, 5), errors)
        torch.testing.assert_close(by_distance.std(), double(1.0))
        torch.testing.assert_close(by_error, errors / errors.std(), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(novelty(validation, errors), by_distance + by_error)

    def test_numbers_that_differ(self):
        codes = normal_codes(20)
        with pytest.raises(ValueError, match=r"errors have shape \[3\]; expected \[20\]"):
            LatentNovelty(codes, codes, torch.rand(3))
        with pytest.raises(ValueError, match="one distance or one error"):
            LatentNovelty(codes, codes, torch.ones(20))
        with pytest.raises(ValueError, match="there is one validation code"):
            LatentNovelty(codes, codes[:1], torch.ones(1))
        novelty = LatentNovelty(codes, codes, torch.rand(20))
        with pytest.raises(ValueError, match=r"errors have shape \[20, 1\]; expected \[20\]"):
            novelty(codes, torch.rand(20, 1))
