"""The convolutional energy of images at levels of noise: where it starts, its inputs, bad input."""

import pytest
import torch

from gencore.nn import LevelConvEnergy

SCALES = [0.9, 0.6, 1.0]


def tiny(**settings):
    torch.manual_seed(0)
    energy = LevelConvEnergy((2, 4, 8), SCALES, widths=(4, 6), num_features=8, **settings).double()
    torch.nn.init.normal_(energy.weigh.weight)
    return energy


def data(num=5):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num, 2, 4, 8, generator=generator, dtype=torch.float64)


def test_the_number_of_parameters_by_hand():
    level = 2 * (8 * 8 + 8)
    convolutions = (2 * 4 * 9 + 4) + (4 * 6 * 16 + 6)
    films = (8 * 8 + 8) + (8 * 12 + 12)
    places = 6 * 2 * 4
    count = level + convolutions + films + 8 * places + places
    assert f"parameters={count:,}" in repr(tiny())


def test_without_weights_at_the_end_it_is_a_normal_density_of_each_levels_scale():
    energy = tiny()
    torch.nn.init.zeros_(energy.weigh.weight)
    torch.nn.init.zeros_(energy.weigh.bias)
    y, t = data(), torch.tensor([0, 1, 2, 1, 0])
    scales = torch.tensor(SCALES, dtype=torch.float64)[t]
    expected = y.flatten(1).square().sum(1) / (2 * scales**2)
    torch.testing.assert_close(energy(y, t), expected)
    energy.is_tilted = False
    assert not energy(y, t).any()


def test_the_tilt_is_all_that_is_added():
    y, t = data(), torch.tensor([2, 2, 2, 2, 2])
    difference = tiny()(y, t) - tiny(is_tilted=False)(y, t)
    torch.testing.assert_close(difference, y.flatten(1).square().sum(1) / 2)


def test_a_row_depends_on_its_image_and_level_alone():
    energy, y, t = tiny(), data(), torch.tensor([0, 1, 2, 1, 0])
    whole = energy(y, t)
    torch.testing.assert_close(whole[1:3], energy(y[1:3], t[1:3]))
    other = energy(y, torch.tensor([1, 1, 2, 1, 0]))
    assert other[0] != whole[0]
    torch.testing.assert_close(other[1:], whole[1:])


def test_gradients():
    energy, t = tiny(), torch.tensor([0, 2])
    assert torch.autograd.gradcheck(lambda y: energy(y, t), data(2).requires_grad_())
    energy(data(2), t).sum().backward()
    assert all(parameter.grad is not None for parameter in energy.parameters())


def test_places_have_weights_of_their_own():
    """A shifted image has another energy, even with what surrounds it alike."""
    energy = LevelConvEnergy((1, 16, 16), [1.0], widths=(4, 6), is_tilted=False)
    y = torch.zeros(2, 1, 16, 16)
    y[0, 0, 6, 6] = y[1, 0, 8, 8] = 1
    one, other = energy(y, torch.zeros(2, dtype=torch.int64)).tolist()
    assert one != pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (1, 8)}, r"shape is \(1, 8\); expected \[C, H, W\]"),
        ({"shape": (1, 9, 8)}, "images of 9x8 cannot be halved 2 times; expected positive"),
        ({"shape": (0, 8, 8)}, "cannot be halved 2 times; expected positive"),
        ({"widths": ()}, r"widths are \(\); expected a positive one"),
        ({"widths": (4, 0)}, r"widths are \(4, 0\); expected a positive one"),
        ({"scales": ()}, r"scales are \[\]; expected a positive one for each level"),
        ({"scales": (1.0, 0.0)}, r"scales are \[1.0, 0.0\]; expected a positive one"),
        ({"scales": (float("nan"),)}, "a scale"),
        ({"num_features": 5}, "num_features is 5; expected an even number"),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    arguments = {"shape": (1, 8, 8), "scales": SCALES, **changes}
    with pytest.raises(ValueError, match=message):
        LevelConvEnergy(arguments.pop("shape"), arguments.pop("scales"), **arguments)


@pytest.mark.parametrize("shapes", [((2, 1, 8, 8), (3,)), ((2, 1, 8, 4), (2,)), ((1, 8, 8), (8,))])
def test_wrong_inputs_are_named(shapes):
    y, t = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=r"got images of shape .* and levels of shape"):
        LevelConvEnergy((1, 8, 8), SCALES)(y, t.long())


@pytest.mark.parametrize("levels", [[-1, 0], [0, len(SCALES)]])
def test_levels_without_a_scale(levels):
    with pytest.raises(IndexError, match="index out of range"):
        LevelConvEnergy((1, 8, 8), SCALES)(torch.zeros(2, 1, 8, 8), torch.tensor(levels))


def test_it_is_one_graph_to_a_compiler():
    energy, y, t = LevelConvEnergy((1, 8, 8), SCALES), torch.randn(2, 1, 8, 8), torch.arange(2)
    compiled = torch.compile(energy, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(y, t), energy(y, t))
