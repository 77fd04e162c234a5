"""The runnable experiments by name.

A recipe's module is imported when the recipe is used. Another package adds its own to the command
line with an entry point of the group ``gencore.recipes``::

    [project.entry-points."gencore.recipes"]
    mine = "my_package.my_recipe:MyRecipe"

Its name there is that of the recipe in commands and in the runs that it makes.
"""

import ast
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gencore.train import Recipe

__all__ = ["RECIPES", "RecipeRegistry"]


class RecipeRegistry(Mapping[str, "type[Recipe]"]):
    """Name → recipe class, imported when it is looked up.

    Args:
        places: name → "module:Class".
        group: entry points that add to them.

    Example:
        >>> "ebm" in RECIPES, RECIPES["ebm"].name
        (True, 'ebm')
    """

    def __init__(self, places: Mapping[str, str], group: str | None = None) -> None:
        self._places = dict(places)
        for point in entry_points(group=group) if group else ():
            self._places.setdefault(point.name, point.value)

    def __getitem__(self, name: str) -> "type[Recipe]":
        module, _, class_name = self._places[name].partition(":")
        recipe: type[Recipe] = getattr(import_module(module), class_name)
        recipe.name = name  # what its runs store is what finds it again
        return recipe

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def describe(self, name: str) -> str:
        """First line of the class docstring, read from the source so that nothing is imported."""
        module, _, class_name = self._places[name].partition(":")
        spec = find_spec(module)
        if spec is None or spec.origin is None:
            return ""
        for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name == class_name:
                return (ast.get_docstring(node) or "").partition("\n")[0]
        return ""


RECIPES = RecipeRegistry(
    {
        "densities": "gencore.recipes.densities:DensitiesRecipe",
        "ebm": "gencore.recipes.ebm:EBMRecipe",
        "glow": "gencore.recipes.glow:GlowRecipe",
        "toyflow": "gencore.recipes.toyflow:ToyFlowRecipe",
    },
    group="gencore.recipes",
)
