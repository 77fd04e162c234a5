"""What is no image of levels is refused, by the one rule and where images are encoded."""

import pytest
import torch

from gencore.models import VQVAE, AuxiliaryVAE, FullResolutionTarget
from gencore.models.autoregressive.levels import check_levels
from gencore.nn import DiscretizedLogistic, ImageDecoder, ImageEncoder

SHAPE = (1, 4, 4)


def images(*levels, dtype=torch.int64):
    return torch.tensor(levels, dtype=dtype).repeat(16 // len(levels)).view(1, *SHAPE)


WRONG = [
    (images(0.5, dtype=torch.float32), TypeError, r"x is torch\.float32; expected levels, uint8"),
    (images(1, dtype=torch.int32), TypeError, r"x is torch\.int32"),
    (images(0)[0], ValueError, r"shape \[1, 4, 4\]; expected \['N', 1, 4, 4\]"),
    (images(0).expand(2, 3, 4, 4), ValueError, r"shape \[2, 3, 4, 4\]"),
    (images(0, 16), ValueError, "levels from 0 to 16; expected 0 to 15"),
    (images(-1, 3), ValueError, "levels from -1 to 3; expected 0 to 15"),
    (images(2, 255, dtype=torch.uint8), ValueError, "levels from 2 to 255; expected 0 to 15"),
]


def make_vae():
    encoder, decoder = ImageEncoder(SHAPE, 4, channels=4), ImageDecoder(2, SHAPE, channels=4)
    return AuxiliaryVAE(encoder, decoder, FullResolutionTarget(SHAPE, 16), 2)


def make_vq_vae():
    return VQVAE(SHAPE, 4, 4, 2, downsampling=2, likelihood=DiscretizedLogistic(16)).eval()


@pytest.mark.parametrize(("x", "error", "message"), WRONG)
def test_what_is_no_level_is_refused(x, error, message):
    with pytest.raises(error, match=r"owner: x (is|has) ") as raised:
        check_levels("owner", x, SHAPE, 16)
    assert raised.match(message)
    vae, vq_vae = make_vae(), make_vq_vae()
    for encode in (vae.infer, vae.encode, vae.bound, lambda x: vae.iw_bound(x, 2)):
        with pytest.raises(error, match=f"AuxiliaryVAE: .*{message}"):
            encode(x)
    for encode in (vq_vae, vq_vae.encode, vq_vae.reconstruct, vq_vae.log_prob_bound):
        with pytest.raises(error, match=f"VQVAE: .*{message}"):
            encode(x)


def test_a_list_is_no_image():
    with pytest.raises(TypeError, match="owner: x is list"):
        check_levels("owner", [[0]], SHAPE, 16)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_levels_are_accepted(dtype):
    check_levels("owner", images(0, 15, dtype=dtype), SHAPE, 16)
    # To a uint8, 256 is 0: no level would be below it.
    check_levels("owner", images(0, 255, dtype=dtype), SHAPE, 256)
    check_levels("owner", images(0, dtype=dtype)[:0], SHAPE, 16)
    assert make_vae().encode(images(0, 15, dtype=dtype)).shape == (1, 2)
    assert make_vq_vae().encode(images(0, 15, dtype=dtype)).shape == (1, 2, 2)
