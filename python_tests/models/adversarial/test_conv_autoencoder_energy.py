"""The auto-encoder of energy-based GANs: its layers, its energy, and smoke runs at the thesis'
sizes."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from gencore.models import ConvAutoencoderEnergy
from gencore.nn import DCGANGenerator


def test_it_is_that_of_bedrooms_and_faces():
    """(64)4c2s-(128)4c2s-(256)4c2s and (128)4c2s-(64)4c2s-(3)4c2s."""
    energy = ConvAutoencoderEnergy((3, 64, 64))
    layers = [
        [(m.out_channels, m.kernel_size[0], m.stride[0]) for m in part if hasattr(m, "stride")]
        for part in (energy.encoder, energy.decoder)
    ]
    assert layers == [[(64, 4, 2), (128, 4, 2), (256, 4, 2)], [(128, 4, 2), (64, 4, 2), (3, 4, 2)]]
    norms = [m.num_features for m in energy.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms == [128, 256, 128, 64]


def test_it_is_the_sum_of_squared_errors():
    torch.manual_seed(0)
    energy = ConvAutoencoderEnergy((2, 8, 12), widths=(3, 4), batch_norm=False).double()
    x = torch.rand(5, 2, 8, 12, dtype=torch.float64)
    decoded = energy.decoder(energy.encoder(x))
    assert decoded.shape == x.shape
    torch.testing.assert_close(energy(x), (decoded - x).square().sum((1, 2, 3)))
    x = x[:2].requires_grad_()
    assert torch.autograd.gradcheck(energy, (x,))


@pytest.mark.parametrize("side", [64, 128, 256])
def test_m39_a_smoke_run_at_the_sizes_of_the_thesis(side):
    """Bedrooms and faces, ImageNet, dogs: four steps on noise of narrow networks, with the margin
    losses (6.1) and (6.2). Samples are finite and in their range; nothing is claimed of them."""
    torch.manual_seed(0)
    shape = (3, side, side)
    generator = DCGANGenerator(100, shape, width=2)
    energy = ConvAutoencoderEnergy(shape, widths=(4, 8, 8))
    optimizers = [torch.optim.Adam(part.parameters(), 1e-3) for part in (generator, energy)]
    margin = 0.1 * 3 * side**2
    before = [weight.detach().clone() for weight in generator.parameters()]
    for _ in range(4):
        real, fake = torch.rand(4, *shape) * 2 - 1, generator(torch.randn(4, 100))
        loss = energy(fake).mean()
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
        loss = energy(real).mean() + functional.relu(margin - energy(fake.detach())).mean()
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        assert loss.isfinite()
    assert all((old != new).any() for old, new in zip(before, generator.parameters(), strict=True))
    samples = generator.eval()(torch.randn(4, 100))
    assert samples.shape == (4, *shape)
    assert samples.isfinite().all()
    assert samples.abs().max() <= 1
    assert samples.std(0).max() > 0


@pytest.mark.parametrize(
    ("shape", "widths", "message"),
    [
        ((3, 12, 16), (4, 4, 4), r"image_shape is \(3, 12, 16\); expected \[C, H, W\] with sides"),
        ((16, 16), (4,), r"image_shape is \(16, 16\)"),
        ((3, 16, 16), (), r"widths is \(\); expected at least one, positive"),
    ],
)
def test_sizes_that_do_not_fit(shape, widths, message):
    with pytest.raises(ValueError, match=message):
        ConvAutoencoderEnergy(shape, widths=widths)
