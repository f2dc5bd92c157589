"""Choose one: a file an experiment, each with `recipe() -> Recipe`; its docstring promises score, time and command."""

from collections.abc import Callable

from mien.errors import RecipeError
from mien.recipes import (
    base,
    baseline,
    curriculum,
    demo,
    efficientnet,
    improved,
    resnet50,
    smooth,
    smooth_focal,
    sprint,
    stronger_classes,
    tiny,
    transformer,
    vgg,
    vgg_focal,
    vgg_oversampled,
    votes,
)
from mien.training.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    "baseline": baseline.recipe,
    "demo": demo.recipe,
    "vgg": vgg.recipe,
    "vgg_oversampled": vgg_oversampled.recipe,
    "vgg_focal": vgg_focal.recipe,
    "improved": improved.recipe,
    "smooth": smooth.recipe,
    "smooth_focal": smooth_focal.recipe,
    "stronger_classes": stronger_classes.recipe,
    "curriculum": curriculum.recipe,
    "transformer": transformer.recipe,
    "votes": votes.recipe,
    "resnet50": resnet50.recipe,
    "efficientnet": efficientnet.recipe,
    "base": base.recipe,
    "tiny": tiny.recipe,
    "sprint": sprint.recipe,
}


def find_recipe(name: str) -> Recipe:
    """The recipe `name`."""
    if name not in RECIPES:
        raise RecipeError(f"there is no recipe {name!r}; expected one of {', '.join(RECIPES)}")
    return RECIPES[name]()
