"""The losses that straighten codes: what they do not depend on, and known angles."""

import math

import pytest
import torch
from torch import nn

from gencore.objectives import (
    curvature_cosine,
    linear_prediction_loss,
    linearity_loss,
    reconstruction_loss,
)


@pytest.fixture
def films():
    return torch.rand(5, 3, 6, dtype=torch.float64)


def autoencoder():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    decoder = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6)).double()
    return encoder, decoder


def test_m09_shrinking_codes_lowers_the_linearity_loss_alone(films):
    """Its degenerate direction: Enc/γ and Dec(γ ·) are the same auto-encoder."""
    encoder, decoder = autoencoder()
    gamma = 3.0

    def losses(enc, dec):
        codes = enc(films.flatten(0, 1)).unflatten(0, films.shape[:2])
        return (
            reconstruction_loss(enc, dec, films),
            linear_prediction_loss(enc, dec, *films.unbind(1)),
            linearity_loss(codes),
        )

    before = losses(encoder, decoder)
    after = losses(lambda x: encoder(x) / gamma, lambda z: decoder(gamma * z))
    torch.testing.assert_close(after[:2], before[:2], rtol=1e-12, atol=0)
    torch.testing.assert_close(after[2], before[2] / gamma**2, rtol=1e-12, atol=0)


def test_the_losses_of_linear_maps_in_closed_form(films):
    """Dec Enc = c: each loss is a norm of the frames themselves."""
    c, (x1, x2, x3) = 0.7, films.unbind(1)
    encoder, decoder = (lambda x: 2 * x), (lambda z: z * (c / 2))
    torch.testing.assert_close(
        reconstruction_loss(encoder, decoder, films), (1 - c) ** 2 * films.square().sum((1, 2))
    )
    torch.testing.assert_close(
        linear_prediction_loss(encoder, decoder, x1, x2, x3),
        (c * (2 * x2 - x1) - x3).square().sum(1),
    )
    longer = torch.cat([films, films[:, :1]], 1)
    expected = (2 * x2 - x1 - x3).square().sum(1) + (2 * x3 - x2 - x1).square().sum(1)
    torch.testing.assert_close(linearity_loss(longer), expected)


class TestCosine:
    @pytest.mark.parametrize("degrees", [0, 30, 90, 135, 180])
    def test_it_is_that_of_the_angle(self, degrees):
        """Whatever place, scale, and length of either step; in a plane of many dimensions."""
        generator = torch.Generator().manual_seed(degrees)
        axes = torch.linalg.qr(torch.randn(12, 2, generator=generator, dtype=torch.float64)).Q.T
        angle = math.radians(degrees)
        start = torch.randn(4, 12, generator=generator, dtype=torch.float64)
        lengths = torch.tensor([[1e-3], [1.0], [7.0], [1e3]], dtype=torch.float64)
        second = start + lengths * axes[0]
        third = second + 2.5 * lengths * (math.cos(angle) * axes[0] + math.sin(angle) * axes[1])
        cosine = curvature_cosine(*(z.view(4, 3, 2, 2) for z in (start, second, third)))
        torch.testing.assert_close(
            cosine, torch.full((4,), math.cos(angle), dtype=torch.float64), rtol=0, atol=1e-10
        )

    def test_gradients(self):
        """They are those of finite differences; moving all codes together changes nothing, nor
        does stretching them."""
        torch.manual_seed(0)
        codes = [torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
        torch.autograd.gradcheck(curvature_cosine, codes)
        torch.autograd.gradgradcheck(curvature_cosine, codes)
        gradients = torch.autograd.grad(curvature_cosine(*codes).sum(), codes)
        total = sum(gradients)
        assert total.abs().max() < 1e-15
        stretched = sum(
            (gradient * code).flatten(1).sum(1)
            for gradient, code in zip(gradients, codes, strict=True)
        )
        assert stretched.abs().max() < 1e-14

    @pytest.mark.parametrize("still", [0, 1, 2])
    def test_a_step_that_does_not_move_has_none(self, still):
        """Neither step, the first or the second: no angle, no gradient, no nan."""
        z = torch.randn(3, 2, 5)
        if still < 2:
            z[1 + still, 1] = z[still, 1] + 1e-10
        else:
            z[:, 1] = z[0, 1]
        z.requires_grad_()
        cosine = curvature_cosine(*z)
        assert cosine[1] == 0
        assert cosine[0] != 0
        cosine.sum().backward()
        assert not z.grad[:, 1].any()
        assert z.grad[:, 0].all()
        assert curvature_cosine(*z, eps=100.0).tolist() == [0, 0]

    def test_half_precision_is_summed_in_float32(self):
        z = torch.randn(3, 4, 50)
        z[1:] = z[0] + 1e-2 * z[1:]
        half = z.half()
        cosine = curvature_cosine(*half)
        assert cosine.dtype == torch.float32
        torch.testing.assert_close(cosine, curvature_cosine(*half.float()))

    def test_rows_that_do_not_fit(self):
        z = torch.zeros(3, 4)
        with pytest.raises(ValueError, match=r"shapes \[3, 4\], \[3, 4\] and \[1, 4\]"):
            curvature_cosine(z, z, z[:1])


def test_fewer_than_three_codes():
    with pytest.raises(ValueError, match=r"linearity_loss: \[5, 2, 4\] is no batch of three"):
        linearity_loss(torch.zeros(5, 2, 4))
