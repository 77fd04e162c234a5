"""The bijection f_ψ on images: a Real NVP whose features are laid out as an image."""

import pytest
import torch
from testing.flow_testing import check_transform, randn, ready

from gencore.models import ImageFeatures, RealNVP

SHAPE = (2, 4, 4)


def features(num_scales, shape=SHAPE, **options):
    torch.manual_seed(0)
    return ready(
        ImageFeatures(shape, num_scales=num_scales, hidden_channels=4, num_blocks=1, **options), 0.1
    )


@pytest.mark.parametrize("num_scales", [1, 2, 3])
def test_it_inverts_with_the_exact_log_determinant(num_scales):
    check_transform(features(num_scales), randn(3, *SHAPE))


@pytest.mark.parametrize("num_scales", [1, 2, 3])
def test_it_is_real_nvp_with_its_latents_in_another_order(num_scales):
    f, x = features(num_scales), randn(3, *SHAPE)
    y, log_det = f(x)
    z, expected = f.scales(x)
    assert y.shape == x.shape
    assert torch.equal(log_det, expected)
    assert torch.equal(y.flatten(1).sort(1).values, z.sort(1).values)
    sizes = [shape[0] // 2 * shape[1:].numel() for shape in f.scales.shapes[:-1]]
    assert sum(sizes) + f.scales.shapes[-1].numel() == x[0].numel()


@pytest.mark.parametrize("num_scales", [2, 3])
def test_features_lie_where_their_pixels_are(num_scales):
    """A flow of couplings that do nothing leaves the image as it is."""
    f = ImageFeatures((2, 8, 8), num_scales=num_scales, hidden_channels=4, num_blocks=1).eval()
    x = randn(3, 2, 8, 8).float()
    torch.testing.assert_close(f(x)[0], x)


def test_images_come_back():
    """f⁻¹∘f = id on images, in float32, of a flow as deep as the default one."""
    images = (
        torch.randint(256, (4, 3, 16, 16), generator=torch.Generator().manual_seed(0)) / 256 - 0.5
    )
    torch.manual_seed(0)
    f = ready(ImageFeatures((3, 16, 16), num_scales=2), 0.1).float()
    torch.testing.assert_close(f.inverse(f(images)[0])[0], images, rtol=0, atol=1e-4)


def test_its_couplings_are_those_that_are_asked_for():
    flow = RealNVP((1, 4, 4), num_scales=1, last_couplings=3, hidden_channels=4)
    assert len(flow.transform.levels[0]) == 6  # each with an ActNorm
    assert len(RealNVP((1, 4, 4), num_scales=1, hidden_channels=4).transform.levels[0]) == 8
    assert len(features(1).scales.levels[0]) == 6


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"data have shape \[3, 1, 4, 4\]; expected \[N, 2, 4, 4"):
        features(1)(torch.zeros(3, 1, 4, 4))
    with pytest.raises(ValueError, match=r"features have shape \[3, 32\]; expected \[N, 2, 4, 4\]"):
        features(1).inverse(torch.zeros(3, 32))
    with pytest.raises(ValueError, match="RealNVP: last_couplings is 0; expected at least 1"):
        ImageFeatures(SHAPE, num_couplings=0)
