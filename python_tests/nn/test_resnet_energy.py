"""The residual energy of images at levels of noise: its size, what it depends on, bad input."""

import pickle

import pytest
import torch

from gencore.nn import ResNetEnergy


def tiny(**settings):
    """With blocks that are not the identity that they start as."""
    torch.manual_seed(0)
    options = {"width": 4, "multipliers": (1, 2), "num_blocks": 1, **settings}
    energy = ResNetEnergy((1, 4, 4), **options).double()
    for name, parameter in energy.named_parameters():
        if "second" in name and parameter.dim() > 1:
            torch.nn.init.normal_(parameter)
    return energy


def test_the_number_of_parameters_by_hand():
    first = 1 * 4 * 9 + 4
    level = (4 * 16 + 16) + (16 * 16 + 16) + (16 * 8 + 8)  # embedding, and the weights of channels
    same = (4 * 4 * 9 + 4) + (16 * 4 + 4) + (4 * 4 * 9 + 4) + 4
    wider = (4 * 8 * 9 + 8) + (16 * 8 + 8) + (8 * 8 * 9 + 8) + 8 + (4 * 8 * 9 + 8)
    assert sum(p.numel() for p in tiny().parameters()) == first + level + same + wider
    twice = first + level + 2 * same + wider + (2 * (8 * 8 * 9 + 8) + (16 * 8 + 8) + 8)
    assert sum(p.numel() for p in tiny(num_blocks=2).parameters()) == twice
    assert f"parameters={first + level + same + wider:,}" in repr(tiny())


@pytest.mark.parametrize(
    ("name", "shape", "blocks"),
    [
        ("digits", (1, 8, 8), 3),
        ("mnist", (1, 28, 28), 3),
        ("gao2021-32", (3, 32, 32), 32),
        ("gao2021-64", (3, 64, 64), 30),
        ("gao2021-128", (3, 128, 128), 30),
    ],
)
def test_presets(name, shape, blocks):
    with torch.device("meta"):
        energy = ResNetEnergy.preset(name, spectral_norm=False)
        assert energy(torch.zeros(2, *shape), torch.zeros(2, dtype=torch.int64)).shape == (2,)
    assert energy.shape == shape
    assert sum(name.endswith("gain") for name, _ in energy.named_parameters()) == blocks


def test_a_preset_takes_other_images():
    energy = ResNetEnergy.preset("digits", shape=(3, 12, 8), num_blocks=2)
    assert energy(torch.zeros(2, 3, 12, 8), torch.tensor([0, 5])).shape == (2,)
    assert energy(torch.zeros(0, 3, 12, 8), torch.zeros(0, dtype=torch.int64)).shape == (0,)


def test_a_row_depends_on_its_image_and_level_alone():
    energy = tiny()
    y = torch.randn(4, 1, 4, 4, dtype=torch.float64)
    t = torch.tensor([0, 3, 3, 900])
    energy.eval()
    rows = torch.cat([energy(y[i : i + 1], t[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(energy(y, t), rows, rtol=1e-12, atol=1e-12)
    same = energy(y[:1].expand(4, -1, -1, -1), torch.tensor([0, 1, 5, 900]))
    assert len(same.unique()) == 4


def test_blocks_start_as_the_identity_and_learn():
    torch.manual_seed(0)
    energy = ResNetEnergy((1, 4, 4), width=4, multipliers=(1,), num_blocks=2).eval()
    y, t = torch.randn(3, 1, 4, 4), torch.tensor([0, 1, 2])
    before = energy(y, t)
    weights = energy.weigh(energy.time(t))
    expected = (energy.first(y).relu().sum((2, 3)) * weights).sum(1)
    torch.testing.assert_close(before, expected, rtol=1e-4, atol=1e-4)
    before.sum().backward()
    for block in energy.resolutions[0]:
        assert block.second.parametrizations.weight.original.grad.abs().max() > 1e-3


def test_gradients():
    energy = tiny(spectral_norm=False)
    y = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    t = torch.tensor([1, 4])
    assert torch.autograd.gradcheck(lambda y: energy(y, t), y)
    parameters = dict(energy.named_parameters())

    def of_parameters(*values):
        named = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(energy, named, (y.detach(), t))

    assert torch.autograd.gradcheck(of_parameters, tuple(parameters.values()), fast_mode=True)


def test_spectral_norms_are_one_but_for_the_last_layer():
    energy = tiny().train()
    for _ in range(100):  # one power iteration a call
        energy(torch.zeros(1, 1, 4, 4, dtype=torch.float64), torch.tensor([0]))
    layers = [m for m in energy.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) == 1 + 2 + 3 + 4 + 1
    for layer in layers:
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item()
        assert (norm == pytest.approx(1, rel=0.01)) == (layer is not energy.weigh)
    y, t = torch.ones(1, 1, 4, 4, dtype=torch.float64), torch.tensor([1])
    again = pickle.loads(pickle.dumps(energy)).eval()
    assert torch.equal(again(y, t), energy.eval()(y, t))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shape": (8, 8)}, r"shape is \(8, 8\); expected \[C, H, W\]"),
        ({"shape": (1, 8, 6), "multipliers": (1, 2, 2)}, "images of 8x6 cannot be halved 2 times"),
        ({"multipliers": ()}, "multipliers are"),
        ({"multipliers": (1, 0)}, "multipliers are"),
        ({"num_blocks": 0}, "num_blocks is 0"),
        ({"width": 5}, "num_features is 5"),
    ],
)
def test_wrong_sizes_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        ResNetEnergy(**{"shape": (1, 8, 8), "width": 4, "multipliers": (1, 2), **settings})


def test_wrong_calls_are_named():
    with pytest.raises(ValueError, match="name is 'gao'; expected one of digits, mnist"):
        ResNetEnergy.preset("gao")
    energy, t = tiny(), torch.tensor([0, 1])
    for y in (torch.zeros(2, 1, 4, 5), torch.zeros(3, 1, 4, 4)):
        with pytest.raises(ValueError, match=r"expected \[N, 1, 4, 4\] and \[N\]"):
            energy(y.double(), t)
