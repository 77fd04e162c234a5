"""Decoders of displacements, and a start that keeps the variance."""

import pytest
import torch

from gencore.nn import DCGANGenerator, DisplacementDecoder, start_variance_preserving


def test_displacements_are_bounded_and_start_at_rest():
    torch.manual_seed(0)
    decoder = DisplacementDecoder(5, (12, 17), max_displacement=2.5, width=4)
    field = decoder(torch.randn(50, 5))
    assert field.shape == (50, 2, 12, 17)
    assert 0 < field.abs().max() < 0.2
    for parameter in decoder.parameters():
        parameter.data.mul_(300)
    bounded = decoder(torch.randn(50, 5)).abs().max().item()
    assert bounded == pytest.approx(2.5, rel=1e-3)


def test_gradients_reach_the_latents():
    decoder = DisplacementDecoder(3, (6, 5), width=2).double()
    torch.nn.init.normal_(decoder.decoder.ups[-1].weight, std=0.5)
    s = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(decoder, s)


@pytest.mark.parametrize("sides", [(8, 8), (32, 32), (40, 25)])
def test_features_keep_the_variance_of_latents(sides):
    """Of the pixels away from the border, where filters are whole; the start for batch
    normalisation loses a factor of ten or more a layer."""
    torch.manual_seed(1)
    decoder = DCGANGenerator(10, (3, *sides), width=32, normalization="none", pixel_range="free")
    z = torch.randn(200, 10)
    small = decoder(z).std()
    start_variance_preserving(decoder)
    found = decoder(z)[..., 2:-2, 2:-2].std()
    assert 0.6 < found < 1.6
    assert small < 0.1
    start_variance_preserving(decoder, last_std=0.0)
    assert (decoder(z) == 0).all()


def test_bad_input():
    with pytest.raises(ValueError, match="max_displacement is 0; expected positive"):
        DisplacementDecoder(3, (8, 8), max_displacement=0)
    with pytest.raises(ValueError, match="DCGANGenerator: image_shape"):
        DisplacementDecoder(3, (4, 8))
