"""The energy networks of Yan 2022, Table 2.4."""

import pytest
import torch

from gencore.models import ConvEnergy


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("mnist", (1, 32, 32), 165_377),
        ("cifar10", (3, 32, 32), 2_763_393),
        ("celeba", (3, 64, 64), 2_795_329),
        ("digits", (1, 8, 8), 164_865),
    ],
)
def test_presets_have_the_published_sizes(name, shape, parameters):
    energy = ConvEnergy.preset(name)
    assert energy.image_shape == shape
    assert sum(p.numel() for p in energy.parameters()) == parameters
    assert energy(torch.zeros(2, *shape)).shape == (2,)
    assert f"{parameters:,}" in repr(energy)


def test_preset_takes_other_images():
    energy = ConvEnergy.preset("mnist", image_size=16, channels=3)
    assert energy(torch.zeros(1, 3, 16, 16)).shape == (1,)


def test_energy_of_an_image_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    energy = ConvEnergy.preset("digits").double()
    x = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(energy(x), torch.cat([energy(row[None]) for row in x]))


def test_no_images_have_no_energies():
    assert ConvEnergy.preset("digits")(torch.zeros(0, 1, 8, 8)).shape == (0,)


def test_energy_is_twice_differentiable():
    torch.manual_seed(0)
    energy = ConvEnergy(4, 1, (3, 2)).double()
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(energy, x)
    assert torch.autograd.gradgradcheck(energy, x)


def test_spectral_norm_bounds_the_lipschitz_constant_of_every_layer():
    torch.manual_seed(0)
    energy = ConvEnergy.preset("digits", spectral_norm=True)
    for _ in range(100):  # one power iteration a call
        energy(torch.zeros(1, 1, 8, 8))
    for layer in (energy[0], energy[2], energy[4], energy[7]):
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
        torch.testing.assert_close(norm, torch.tensor(1.0), rtol=0.02, atol=0)


def test_bad_shapes_are_explained():
    with pytest.raises(ValueError, match="cannot be halved 3 times"):
        ConvEnergy(28, 1, (8, 8, 8, 8))
    with pytest.raises(ValueError, match="widths is empty"):
        ConvEnergy(28, 1, ())
    with pytest.raises(ValueError, match=r"name is 'imagenet'; expected one of mnist, cifar10"):
        ConvEnergy.preset("imagenet")
    with pytest.raises(ValueError, match=r"\[2, 1, 28, 28\]; expected \[N, 1, 32, 32\]"):
        ConvEnergy.preset("mnist")(torch.zeros(2, 1, 28, 28))
