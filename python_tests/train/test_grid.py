"""Grids of recipes: all combinations once, without values that have no effect."""

from itertools import product

import pytest

from gencore.recipes.adversarial.gan import GANRecipe
from gencore.recipes.adversarial.mathieu_spaces import EBGAN_SPACE, GAN_SPACE, MATHIEU_SETTINGS
from gencore.recipes.adversarial.toygan import ToyGANRecipe
from gencore.train import recipe_grid

RATES = ("learning_rate", "discriminator_learning_rate")


def test_all_combinations_the_last_field_fastest():
    space = {"latent_size": [2, 3], "steps": range(4, 7)}
    grid = recipe_grid(ToyGANRecipe, space, momentum=0.25)
    assert [(each.latent_size, each.steps) for each in grid] == list(product((2, 3), (4, 5, 6)))
    assert all(each.momentum == 0.25 for each in grid)


def test_without_a_space_there_is_one_recipe():
    assert recipe_grid(ToyGANRecipe, {}, steps=3) == [ToyGANRecipe(steps=3)]


def test_fields_that_change_together():
    grid = recipe_grid(ToyGANRecipe, {RATES: [(1e-2, 1e-3), (1e-4, 1e-4)], "steps": [5, 6]})
    found = [(each.learning_rate, each.discriminator_learning_rate, each.steps) for each in grid]
    assert found == [(1e-2, 1e-3, 5), (1e-2, 1e-3, 6), (1e-4, 1e-4, 5), (1e-4, 1e-4, 6)]


def test_what_has_no_effect_is_left_out_and_recipes_are_unlike():
    """mmd has neither a discriminator nor its steps, and only ebgan a margin."""
    space = {
        "method": ["gan", "ebgan", "mmd"], "margin": [1.0, 5.0], "discriminator_steps": [1, 2],
    }  # fmt: skip
    grid = recipe_grid(ToyGANRecipe, space)
    found = [(each.method, each.margin, each.discriminator_steps) for each in grid]
    assert found == [
        ("gan", 1.0, 1), ("gan", 1.0, 2),
        ("ebgan", 1.0, 1), ("ebgan", 1.0, 2), ("ebgan", 5.0, 1), ("ebgan", 5.0, 2),
        ("mmd", 1.0, 1),
    ]  # fmt: skip


def test_repeated_values_count_once():
    grid = recipe_grid(ToyGANRecipe, {"learning_rate": [0.01, 0.001, 0.001]})
    assert [each.learning_rate for each in grid] == [0.01, 0.001]


def test_fixed_fields_without_an_effect_are_refused():
    with pytest.raises(ValueError, match=r"margin is 5\.0, but it has an effect with method ebgan"):
        recipe_grid(ToyGANRecipe, {"method": ["ebgan", "gan"]}, margin=5.0)


@pytest.mark.parametrize(
    ("space", "fixed", "message"),
    [
        ({"step": [1]}, {}, "step is given 1 times; expected each field of ToyGANRecipe at most"),
        ({}, {"step": 1}, "step is given 1 times"),
        ({"steps": [1]}, {"steps": 1}, "steps is given 2 times"),
        ({RATES: [(1e-3, 1e-3)], "learning_rate": [1e-3]}, {}, "learning_rate is given 2 times"),
        ({"steps": []}, {}, r"values of steps are \[\]; expected at least one"),
        ({RATES: [(1e-3,)]}, {}, r"values of learning_rate, discriminator_learning_rate are"),
    ],
)
def test_spaces_that_are_none(space, fixed, message):
    with pytest.raises(ValueError, match=f"recipe_grid: {message}"):
        recipe_grid(ToyGANRecipe, space, **fixed)


class TestTable:
    """Table 6.1 of Mathieu 2017."""

    @pytest.mark.parametrize("pulling_away", [0.0, 0.1])
    def test_m37_energy_based_gans_have_512_settings(self, pulling_away):
        grid = recipe_grid(
            GANRecipe, EBGAN_SPACE, method="ebgan", pulling_away=pulling_away, margin=10.0,
            **MATHIEU_SETTINGS,
        )  # fmt: skip
        assert len(grid) == 4 * 4 * 4 * 4 * 2 == 512

        def layers_and_sizes(field):
            # A layer more than hidden ones, all of one width.
            networks = [getattr(each, field) for each in grid]
            assert all(len(set(widths)) == 1 for widths in networks)
            return [(len(widths) + 1, widths[0]) for widths in networks]

        points = zip(
            layers_and_sizes("generator_widths"), layers_and_sizes("discriminator_widths"),
            [each.dropout > 0 for each in grid], strict=True,
        )  # fmt: skip
        layers = [2, 3, 4, 5]
        networks = (product(layers, sizes) for sizes in ([400, 800, 1600, 3200],
                                                         [128, 256, 512, 1024]))  # fmt: skip
        assert set(points) == set(product(*networks, [True, False]))
        assert {(each.learning_rate, each.discriminator_learning_rate) for each in grid} == {
            (1e-3, 1e-3)
        }
        assert {(each.optimizer, each.discriminator_optimizer) for each in grid} == {
            ("adam", "adam")
        }

    def test_m37_gans_have_each_with_pairs_of_optimisers_and_rates(self):
        for field in ("generator_widths", "discriminator_widths", "dropout"):
            assert GAN_SPACE[field] == EBGAN_SPACE[field]
        networks = {
            "generator_widths": [(400,)], "discriminator_widths": [(128,)], "dropout": [0.0],
        }  # fmt: skip
        grid = recipe_grid(GANRecipe, {**GAN_SPACE, **networks}, **MATHIEU_SETTINGS)
        found = {
            (each.optimizer, each.discriminator_optimizer, each.learning_rate) for each in grid
        }
        assert len(grid) == 12
        assert found == set(product(("adam", "sgd"), ("adam", "sgd"), (1e-2, 1e-3, 1e-4)))
        assert all(each.learning_rate == each.discriminator_learning_rate for each in grid)

    @pytest.mark.parametrize("name", ["gan", "ebgan", "ebgan-pt"])
    def test_the_best_settings_are_points_of_the_grid(self, name):
        recipe = GANRecipe.preset(f"mathieu2017-{name}-mnist")
        space = EBGAN_SPACE if recipe.method == "ebgan" else GAN_SPACE
        fields = recipe.fields()
        for names, values in space.items():
            group = names if isinstance(names, tuple) else (names,)
            value = tuple(fields[each] for each in group)
            assert (value if len(group) > 1 else value[0]) in list(values), names
