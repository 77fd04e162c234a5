"""The networks of Yan 2022, Table 3.6."""

import pytest
import torch

from gencore.nn import InfoGANDecoder, InfoGANEncoder


@pytest.mark.parametrize(
    ("shape", "latents", "parameters"),
    [
        ((1, 28, 28), 20, 13_175_829),
        ((3, 32, 32), 64, 17_208_003),
        ((3, 64, 64), 64, 67_613_379),
    ],
)
def test_parameters_of_the_thesis(shape, latents, parameters):
    """The last layer has the images' channels, where the printed table has 128."""
    with torch.device("meta"):
        networks = InfoGANEncoder(shape, latents), InfoGANDecoder(latents, shape)
    assert sum(w.numel() for network in networks for w in network.parameters()) == parameters
    assert networks[0].shapes[-1] == (latents,)
    assert networks[1].shapes[-1] == shape


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (1, 32, 32), (3, 12, 20)])
def test_small_ones_for_other_images(shape):
    sizes = {"channels": 4, "hidden_features": 16}
    encoder, decoder = InfoGANEncoder(shape, 6, **sizes), InfoGANDecoder(6, shape, **sizes)
    x = decoder(encoder(torch.rand(5, *shape)))
    assert x.shape == (5, *shape)
    assert x.min() > 0
    assert x.max() < 1
    logits = InfoGANDecoder(6, shape, sigmoid=False, **sizes)
    logits.load_state_dict(decoder.state_dict())
    z = torch.randn(5, 6)
    for network in (decoder, logits):
        network.eval()
    torch.testing.assert_close(logits(z).sigmoid(), decoder(z))


def test_bad_sizes():
    with pytest.raises(ValueError, match=r"InfoGANEncoder: image_shape is \(1, 6, 8\); .* of 4"):
        InfoGANEncoder((1, 6, 8), 2)
    with pytest.raises(ValueError, match="InfoGANDecoder: features is 0; expected at least 1"):
        InfoGANDecoder(0, (1, 8, 8))
