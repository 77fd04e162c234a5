"""Networks that denoise at every level of a diffusion."""

import pytest
import torch
from torch import nn

from gencore.nn import DenoisingMLP, DenoisingUNet


def randomized(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network.double()


@pytest.mark.parametrize(
    "options",
    [
        {"multipliers": (1,), "num_blocks": 1},
        {"multipliers": (1, 2), "attention_scales": (1,)},
        {"multipliers": (1, 3, 2), "num_blocks": 1, "out_channels": 6},
    ],
)
def test_every_pixel_depends_on_every_other_and_on_the_level(options: dict[str, object]) -> None:
    unet = randomized(DenoisingUNet(3, width=8, **options))
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64, requires_grad=True)
    y = unet(x, torch.tensor([3, 40]))
    assert y.shape == (2, options.get("out_channels", 3), 8, 12)
    (grad,) = torch.autograd.grad(y[0, 0, 0, 0], x)
    assert (grad[0].abs() > 0).all()  # through the attention of the middle
    assert grad[1].abs().max() == 0
    other = unet(x, torch.tensor([4, 40]))
    assert (other[0] != y[0]).any()
    torch.testing.assert_close(other[1], y[1])


def test_the_network_of_the_paper_has_its_size() -> None:
    """Ho et al. 2020, appendix B: 35.7 million parameters on CIFAR-10."""
    with torch.device("meta"):
        unet = DenoisingUNet(
            3, width=128, multipliers=(1, 2, 2, 2), attention_scales=(1,), dropout=0.1
        )
    assert sum(p.numel() for p in unet.parameters()) / 1e6 == pytest.approx(35.7, abs=0.05)


def test_the_perceptron_sees_its_level_and_each_row_alone() -> None:
    network = randomized(DenoisingMLP(3, [16], num_outputs=6))
    x, t = torch.randn(4, 3, dtype=torch.float64), torch.tensor([1, 1, 7, 300])
    y = network(x, t)
    assert y.shape == (4, 6)
    torch.testing.assert_close(network(x[2:], t[2:]), y[2:])
    assert (network(x[:1], t[3:]) != y[:1]).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenoisingUNet(1, multipliers=()), "multipliers are"),
        (lambda: DenoisingUNet(1, width=7), "width is 7"),
        (lambda: DenoisingUNet(1, attention_scales=(3,)), "attention_scales are"),
        (
            lambda: DenoisingUNet(1, width=8)(torch.zeros(1, 1, 6, 8), torch.tensor([1])),
            "the images are 6x8; expected sides that are multiples of 4",
        ),
    ],
)
def test_bad_input(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()
