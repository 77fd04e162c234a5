"""Images of noise and of constants, and images with mutated pixels."""

import math

import pytest
import torch

from gencore.data import constant_images, mutate_pixels, noise_images

KEY = torch.tensor([5, 0])


def assert_uniform(values, num_levels=256):
    """Pearson's statistic of the counts, within five of its standard deviations √(2(L − 1))."""
    counts = values.flatten().long().bincount(minlength=num_levels).double()
    expected = values.numel() / num_levels
    statistic = ((counts - expected).square() / expected).sum().item()
    assert len(counts) == num_levels
    assert abs(statistic - (num_levels - 1)) < 5 * math.sqrt(2 * (num_levels - 1))


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).double())[0, 1].item()


def test_y29_noise_has_a_uniform_histogram_and_constants_no_variance():
    noise = noise_images(200, (3, 16, 16), key=KEY)
    assert noise.dtype == torch.uint8
    assert_uniform(noise)
    error = 5 / math.sqrt(noise.numel() / 2)
    assert abs(correlation(noise[..., 1:], noise[..., :-1])) < error
    assert abs(correlation(noise[:, 1], noise[:, 0])) < 2 * error
    assert abs(correlation(noise[1:], noise[:-1])) < error

    constant = constant_images(5000, (3, 4, 4), key=KEY)
    assert constant.dtype == torch.uint8
    assert torch.equal(constant.double().var((2, 3)), torch.zeros(5000, 3).double())
    assert_uniform(constant[:, :, 0, 0])
    assert abs(correlation(constant[:, 1, 0, 0], constant[:, 0, 0, 0])) < 5 / math.sqrt(5000)
    assert abs(correlation(constant[1:, 0], constant[:-1, 0])) < 5 / math.sqrt(5000)


@pytest.mark.parametrize("make", [noise_images, constant_images])
def test_images_are_functions_of_their_number_and_the_key(make):
    whole = make(7, (3, 5, 4), key=KEY)
    assert torch.equal(whole[3:], make(4, (3, 5, 4), key=KEY, first=3))
    assert not torch.equal(whole, make(7, (3, 5, 4), key=KEY + 1))
    drawn = [make(3, (1, 2, 2), generator=torch.Generator().manual_seed(4)) for _ in range(2)]
    assert torch.equal(*drawn)
    assert make(0, (1, 2, 2)).shape == (0, 1, 2, 2)
    whole[0, 0, 0, 0] += 1  # memory of its own for each pixel
    assert (whole[0, 0] != whole[0, 0, 0, 0]).any()


@pytest.mark.parametrize("make", [noise_images, constant_images])
def test_shapes_that_are_none(make):
    with pytest.raises(ValueError, match=rf"{make.__name__}: image_shape is \(3, 4\)"):
        make(2, (3, 4))
    with pytest.raises((TypeError, ValueError), match=make.__name__):
        make(-1, (1, 2, 2))


class TestMutation:
    @pytest.mark.parametrize(("levels", "dtype"), [(256, torch.uint8), (16, torch.int64)])
    def test_values_change_at_the_rate_that_is_said(self, levels, dtype):
        """μ(L − 1)/L, as the new value may be the old one; and the others are left."""
        images = torch.full((400, 1, 10, 10), levels - 1, dtype=dtype)
        kept, rate = images.clone(), 0.3
        mutated = mutate_pixels(images, rate, levels=levels, key=KEY)
        assert torch.equal(images, kept)
        assert mutated.dtype == dtype
        expected = rate * (levels - 1) / levels
        error = math.sqrt(expected * (1 - expected) / images.numel())
        changed = mutated != images
        assert abs(changed.double().mean() - expected) < 4 * error
        assert mutated.max() == levels - 1
        # Those that changed are uniform on the levels that remain.
        assert_uniform(mutated[changed], levels - 1)
        neighbours = correlation(changed[..., 1:], changed[..., :-1])
        assert abs(neighbours) < 5 / math.sqrt(images.numel())

    def test_the_ends_of_the_rate(self):
        images = noise_images(50, (1, 16, 16), key=KEY)
        assert torch.equal(mutate_pixels(images, 0, key=KEY), images)
        all_new = mutate_pixels(torch.zeros_like(images), 1, key=KEY)
        assert_uniform(all_new)

    def test_a_part_of_a_batch_is_that_of_the_whole(self):
        images = noise_images(6, (3, 4, 4), key=KEY)
        whole = mutate_pixels(images, 0.4, key=KEY)
        assert torch.equal(mutate_pixels(images[2:], 0.4, key=KEY, first=2), whole[2:])
        assert not torch.equal(mutate_pixels(images, 0.4, key=KEY + 1), whole)

    @pytest.mark.parametrize(
        ("images", "options", "error", "message"),
        [
            (torch.zeros(2, 2), {}, TypeError, "images are torch.float32; expected integers"),
            (torch.zeros(2).bool(), {}, TypeError, "images are torch.bool"),
            (torch.zeros(2).byte(), {"rate": 1.5}, ValueError, "rate is 1.5; expected a number"),
            (torch.zeros(2).byte(), {"rate": math.nan}, ValueError, "rate is nan"),
            (torch.zeros(2).byte(), {"levels": 257}, ValueError, "257 levels of images"),
            (torch.zeros(2).byte(), {"levels": 1}, ValueError, "1 levels of images"),
        ],
    )
    def test_what_cannot_be_mutated(self, images, options, error, message):
        with pytest.raises(error, match=f"mutate_pixels: {message}"):
            mutate_pixels(images, **{"rate": 0.1, **options})
