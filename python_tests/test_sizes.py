"""Sizes that are no whole numbers are refused by their names."""

import re

import pytest

from gencore.models import (
    DARN,
    NADE,
    VQVAE,
    DiscreteMADE,
    DownSampledTarget,
    EoNADE,
    GatedPixelCNN,
    MultiScalePixelRNN,
    PixelCNN,
    PixelCNNPlusPlus,
    PixelRNN,
)

SHAPE = (1, 4, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PixelCNN(SHAPE, 4.0, 2), "PixelCNN: channels is 4.0"),
        (lambda: PixelCNN(SHAPE, 4, 2, first_kernel_size=3.0), "first_kernel_size is 3.0"),
        (lambda: PixelCNN(SHAPE, 4, 2, context_channels=2.0), "context_channels is 2.0"),
        (lambda: GatedPixelCNN(SHAPE, 4, 2.0), "GatedPixelCNN: num_layers is 2.0"),
        (lambda: PixelCNNPlusPlus((1, 4.0, 4), 4, 1, 1), "image_shape is (1, 4.0, 4)"),
        (lambda: PixelCNNPlusPlus(SHAPE, 4, 1, 1.0), "PixelCNNPlusPlus: num_scales is 1.0"),
        (lambda: PixelRNN(SHAPE, 4, 1, output_channels=3.0), "PixelRNN: output_channels is 3.0"),
        (lambda: MultiScalePixelRNN(SHAPE, 4, factor=2.0), "factor is 2.0"),
        (lambda: NADE(4, 2, levels=3.0), "NADE: levels is 3.0"),
        (lambda: EoNADE(4, (3.0,)), "EoNADE: hidden_widths is (3.0,)"),
        (lambda: DiscreteMADE(4, (3.0,)), "DiscreteMADE: hidden_widths is (3.0,)"),
        (lambda: DARN(4, (2.0,)), "DARN: latents is (2.0,)"),
        (lambda: VQVAE(SHAPE, 4, downsampling=2.0), "VQVAE: downsampling is 2.0"),
        (lambda: DownSampledTarget(SHAPE, 2.0), "DownSampledTarget: factor is 2.0"),
    ],
)
def test_sizes_that_are_no_whole_numbers(make, message):
    with pytest.raises(TypeError, match=re.escape(f"{message}; expected whole numbers")):
        make()
