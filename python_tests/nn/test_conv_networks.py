"""The networks of table A.1 and the plain ones: their layers, shapes, and rows that do not mix."""

import pytest
import torch
from torch import nn

from gencore.nn import ConvDecoder, ConvDiscriminator, ConvEncoder

SHAPES = [((1, 8, 8), (4, 8)), ((3, 16, 16), (4, 8, 16)), ((3, 32, 32), (4, 8, 8, 16))]


def convolutions(module):
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [
        (layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0])
        for name, layer in module.named_modules()
        if isinstance(layer, kinds) and "skip" not in name
    ]


@pytest.mark.parametrize("blocks", ["plain", "residual"])
@pytest.mark.parametrize(("shape", "widths"), SHAPES)
def test_images_to_vectors_and_back(shape, widths, blocks):
    x = torch.rand(3, *shape)
    encoder = ConvEncoder(shape, 6, widths=widths, blocks=blocks)
    assert torch.equal(encoder(x), torch.zeros(3, 6))
    nn.init.normal_(encoder.last.weight)
    decoder = ConvDecoder(6, shape, widths=widths, blocks=blocks)
    discriminator = ConvDiscriminator(shape, widths=widths, blocks=blocks)
    for network, given, size in (
        (encoder, x, (6,)), (decoder, encoder(x).detach(), shape), (discriminator, x, ()),
    ):  # fmt: skip
        whole = network(given)
        assert whole.shape == (3, *size)
        torch.testing.assert_close(network(given[1:2]), whole[1:2], rtol=1e-4, atol=1e-5)
        whole.square().sum().backward()
        assert all(weight.grad is not None for weight in network.parameters())


def test_the_residual_networks_are_those_of_the_table():
    shape, widths = (3, 32, 32), (32, 64, 128, 256)
    down = [(16, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    expected = [(3, 16, 3, 1), *((*pair, 3, 1) for pair in down)]
    assert convolutions(ConvDiscriminator(shape)) == expected
    assert convolutions(ConvEncoder(shape, 8)) == expected
    up = [(256, 256), (256, 256), (256, 128), (128, 128), (128, 64), (64, 64), (64, 32), (32, 32)]
    expected = [*((*pair, 3, 1) for pair in up), (32, 3, 3, 1)]
    assert convolutions(ConvDecoder(8, shape, widths=widths)) == expected


def test_the_plain_networks_are_those_of_spectrally_normalised_gans():
    shape, widths = (3, 32, 32), (64, 128, 256, 512)
    expected, channels = [], 3
    for width in widths:
        expected += [(channels, width, 3, 1), (width, width, 4, 2)]
        channels = width
    discriminator = ConvDiscriminator(shape, widths=widths, blocks="plain")
    assert convolutions(discriminator) == expected[:-1]
    assert discriminator.last.in_features == 512 * 4 * 4
    slopes = [m.negative_slope for m in discriminator.modules() if isinstance(m, nn.LeakyReLU)]
    assert slopes == [0.2] * 7
    decoder = ConvDecoder(128, shape, widths=widths, blocks="plain")
    assert convolutions(decoder) == [
        (512, 256, 4, 2), (256, 128, 4, 2), (128, 64, 4, 2), (64, 3, 3, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvEncoder((1, 6, 6), 2, widths=(2, 2, 2)), "6x6; expected multiples of 4 for 3"),
        (lambda: ConvDecoder(0, (1, 8, 8)), "ConvDecoder: in_features is 0; expected at least 1"),
        (lambda: ConvDiscriminator((1, 8, 8), widths=()), r"widths is \(\); expected at least one"),
        (lambda: ConvDiscriminator((1, 8), widths=(2,)), r"image_shape is \(1, 8\); expected \[C"),
        (lambda: ConvEncoder((1, 8, 8), 2, blocks="dense"), "blocks is 'dense'; expected one of"),
    ],
)
def test_wrong_sizes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
