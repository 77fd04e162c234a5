"""The recipes of a search over a grid of settings."""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, TypeVar

from gencore.train.recipe import Recipe

__all__ = ["Space", "recipe_grid"]

RecipeT = TypeVar("RecipeT", bound=Recipe)
Space = Mapping[str | tuple[str, ...], Sequence[Any]]


def recipe_grid(recipe_class: type[RecipeT], space: Space, **fixed: Any) -> list[RecipeT]:
    """The recipes of all combinations of settings.

    A value of the space that has no effect with the others of its combination is left out
    (`Recipe.used_by`), and of combinations that are then the same recipe one remains. The last
    field of the space varies fastest.

    Args:
        recipe_class: of the recipes.
        space: the values of each field. A tuple of fields has tuples of values: these fields change
            together.
        fixed: fields that all recipes have in common. One that has no effect is refused, as by the
            recipe itself; to leave it out where it has none, give it to the space with one value.

    Raises:
        ValueError: for a field without values, one that is given twice or is not one of the
            recipe's, or a combination that the recipe refuses.

    Example:
        >>> from gencore.recipes.adversarial.toygan import ToyGANRecipe
        >>> from gencore.train import recipe_grid
        >>> space = {"method": ["gan", "ebgan"], "pulling_away": [0.0, 0.1]}
        >>> [(each.method, each.pulling_away) for each in recipe_grid(ToyGANRecipe, space)]
        [('gan', 0.0), ('ebgan', 0.0), ('ebgan', 0.1)]
        >>> rates = ("learning_rate", "discriminator_learning_rate")
        >>> len(recipe_grid(ToyGANRecipe, {rates: [(1e-3, 1e-3), (1e-4, 1e-4)]}, batch_size=32))
        2
    """
    groups = {(names,) if isinstance(names, str) else names: space[names] for names in space}
    _check(recipe_class, groups, fixed)
    recipes: dict[tuple[Any, ...], RecipeT] = {}
    for values in product(*groups.values()):
        settings: dict[str, Any] = {}
        for names, value in zip(groups, values, strict=True):
            settings |= zip(names, (value,) if len(names) == 1 else value, strict=True)
        unused = set(recipe_class.unused({**fixed, **settings})) & settings.keys()
        used = {name: value for name, value in settings.items() if name not in unused}
        recipe = recipe_class(**fixed, **used)
        recipes.setdefault(tuple(recipe.fields().values()), recipe)
    return list(recipes.values())


def _check(
    recipe_class: type[Recipe],
    groups: Mapping[tuple[str, ...], Sequence[Any]],
    fixed: Mapping[str, Any],
) -> None:
    known = {field.name for field in dataclasses.fields(recipe_class)}
    given = [*fixed, *(name for names in groups for name in names)]
    for name in given:
        if name not in known or given.count(name) > 1:
            raise ValueError(
                f"recipe_grid: {name} is given {given.count(name)} times; expected each field of "
                f"{recipe_class.__name__} at most once, and no other name"
            )
    for names, values in groups.items():
        whole = len(names) == 1 or all(len(value) == len(names) for value in values)
        if not len(values) or not whole:
            raise ValueError(
                f"recipe_grid: values of {', '.join(names)} are {list(values)}; expected at least "
                "one, and in each as many as there are fields"
            )
