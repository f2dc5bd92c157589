"""Choose one: a file an experiment, each with `recipe() -> Recipe`; its docstring promises score, time and command."""

from collections.abc import Callable

from mien.errors import RecipeError
from mien.recipes import baseline, demo
from mien.training.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {"baseline": baseline.recipe, "demo": demo.recipe}


def find_recipe(name: str) -> Recipe:
    """The recipe `name`."""
    if name not in RECIPES:
        raise RecipeError(f"there is no recipe {name!r}; expected one of {', '.join(RECIPES)}")
    return RECIPES[name]()
